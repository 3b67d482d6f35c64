/* SPDX-License-Identifier: MIT */
/* A guest's counters in the text format that Prometheus reads (prometheus.io, "Exposition formats", version 0.0.4). */
#include "cpr/handover/answer.h"
#include "cpr/handover/check.h"
#include "cpr/handover/status.h"
#include "cpr/program.h"
#include "vmm/base/build.h"
#include "vmm/counters.h"
#include "vmm/machine.h"

#define TEXT_LEN 16384

static void put_head(FILE *f, const char *name, const char *type, const char *help)
{
	fprintf(f, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void put(FILE *f, const char *name, const char *type, const char *help, uint64_t value)
{
	put_head(f, name, type, help);
	fprintf(f, "%s %lu\n", name, value);
}

/* Exact: a double would lose digits after some years. */
static void put_seconds(FILE *f, uint64_t ns)
{
	fprintf(f, "%lu.%09lu", ns / NS_PER_S, ns % NS_PER_S);
}

static void put_failures(FILE *f, const struct counters_state *s)
{
	static const char name[] = "molt_update_failures_total";
	put_head(f, name, "counter", "Updates that were refused or failed, by reason.");
	for (unsigned i = 0; i < FAILURES; i++)
		fprintf(f, "%s{reason=\"%s\"} %lu\n", name, counters_failures[i], s->failures[i]);
}

static void put_pauses(FILE *f, const struct counters_state *s)
{
	static const char name[] = "molt_update_pause_seconds";
	uint64_t sum = 0;
	put_head(f, name, "histogram", "How long the guest stood still for an update.");
	for (unsigned i = 0; i < COUNTERS_BOUNDS; i++) {
		sum += s->pauses[i];
		fprintf(f, "%s_bucket{le=\"%g\"} %lu\n", name,
			(double)counters_bounds_ns[i] / (double)NS_PER_S, sum);
	}
	sum += s->pauses[COUNTERS_BOUNDS];
	fprintf(f, "%s_bucket{le=\"+Inf\"} %lu\n%s_sum ", name, sum, name);
	put_seconds(f, s->pauses_ns);
	fprintf(f, "\n%s_count %lu\n", name, sum);
}

static void put_memory(FILE *f, const struct ram *ram)
{
	static const char name[] = "molt_guest_memory_present_bytes";
	struct ram_pages pages[RAM_PAGE_SIZES];
	unsigned n = ram_count_pages(ram, pages);
	put(f, "molt_guest_memory_bytes", "gauge", "Size of guest memory.", ram->state.size);
	put_head(f, name, "gauge", "Guest memory that molt has mapped, by size of its pages.");
	for (unsigned i = 0; i < n; i++)
		fprintf(f, "%s{page_bytes=\"%lu\"} %lu\n", name, pages[i].page_len, pages[i].bytes);
}

static unsigned count_blocked(struct machine *m)
{
	struct error ignored;
	unsigned n = 0;
	pthread_mutex_lock(&m->lock);
	for (unsigned i = 0; i < m->ndevices; i++)
		n += check_device(m->devices[i], &ignored) != 0;
	pthread_mutex_unlock(&m->lock);
	return n;
}

static void put_all(FILE *f, struct machine *m, const struct program *p)
{
	bool kvm_tells = counters_read(m);
	pthread_mutex_lock(&m->lock);
	struct counters_state s = m->counters.state;
	pthread_mutex_unlock(&m->lock);

	put_head(f, "molt_info", "gauge", "The program that has the guest.");
	fprintf(f, "molt_info{name=\"%s\",version=\"%s\",build=\"%s\"} 1\n", m->opt.name ?: "",
		build_version(), build_id());
	put(f, "molt_uptime_seconds", "gauge", "Since the guest was started.", status_uptime_s(p));
	put(f, "molt_paused", "gauge", "1 while molt pause holds the guest.",
	    m->paused.since_s && !m->paused.code);
	put(f, "molt_crashed", "gauge", "1 while a guest that has crashed is kept as it is.",
	    m->paused.code != 0);
	put(f, "molt_vcpus", "gauge", "Virtual processors.", m->opt.cpus);
	put(f, "molt_updates_total", "counter", "Updates that the guest has seen.", p->updates);
	put(f, "molt_reboots_total", "counter", "How often the guest has begun anew in place.",
	    p->reboots);
	put_failures(f, &s);
	put_pauses(f, &s);
	put(f, "molt_devices_blocking", "gauge",
	    "Devices for which an update would be refused now.", count_blocked(m));
	put(f, "molt_devices_ejected", "gauge",
	    "Devices that the guest has given back to the host.",
	    (unsigned)__builtin_popcount(m->gone_slots));
	put_memory(f, &m->ram);
	put(f, "molt_guest_memory_reported_bytes_total", "counter",
	    "Free memory that the guest has reported (--balloon) and the host has taken back.",
	    s.reported);
	put(f, "molt_console_dropped_bytes_total", "counter",
	    "Output of the guest that the console has lost.", s.console_dropped);
	if (!kvm_tells)
		return;
	put(f, "molt_vcpu_exits_total", "counter",
	    "Exits of the virtual processors, as KVM counts.", s.exits);
	put(f, "molt_interrupts_total", "counter",
	    "Interrupts that KVM has injected; not those that the processor posts by itself.",
	    s.interrupts);
}

void metrics_answer(struct machine *m, const struct program *p)
{
	static char text[TEXT_LEN], buf[2 * TEXT_LEN];
	struct json j;
	FILE *f = fmemopen(text, sizeof(text), "w");
	text[0] = 0;
	if (f) {
		put_all(f, m, p);
		fclose(f);
	}
	answer_begin(&j, buf, sizeof(buf), "metrics");
	json_string(&j, "text", text);
	answer_end(m, &j);
}
