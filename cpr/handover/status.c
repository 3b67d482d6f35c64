/* SPDX-License-Identifier: MIT */
/* How a guest is, as one JSON object. */
#include "cpr/handover/status.h"

#include <dirent.h>

#include "cpr/handover/answer.h"
#include "cpr/handover/check.h"
#include "cpr/handover/report.h"
#include "cpr/handover/worker_link.h"
#include "cpr/program.h"
#include "vmm/control/control.h"
#include "vmm/machine.h"

/* Each of the devices at its worst, each vCPU's thread, and the last record. */
#define ANSWER_LEN (MACHINE_MAX_DEVICES * 1536 + OPTIONS_MAX_CPUS * 96 + 16384)

static bool read_line(const char *path, char *line, size_t size)
{
	FILE *f = fopen(path, "re");
	bool read = f && fgets(line, (int)size, f);
	if (f)
		fclose(f);
	if (read)
		line[strcspn(line, "\n")] = 0;
	return read;
}

static void put_devices(struct json *j, struct machine *m)
{
	struct error err;
	json_open(j, "devices", '[');
	pthread_mutex_lock(&m->lock);
	for (unsigned i = 0; i < m->ndevices; i++) {
		int rc = check_device(m->devices[i], &err);
		json_open(j, NULL, '{');
		json_string(j, "name", m->devices[i]->name);
		json_string(j, "class", m->devices[i]->cls->name);
		json_bool(j, "kept", !rc);
		if (m->devices[i]->served_by)
			json_string(j, "served_by", m->devices[i]->served_by);
		if (m->devices[i]->trouble)
			json_string(j, "trouble", m->devices[i]->trouble);
		if (rc) {
			json_string(j, "reason", err.text);
			json_string(j, "remedy", err.hint);
			json_number(j, "blocked_s", boot_s() - m->devices[i]->blocked_s);
		}
		json_close(j, '}');
	}
	pthread_mutex_unlock(&m->lock);
	json_close(j, ']');
}

uint64_t status_uptime_s(const struct program *p)
{
	uint64_t now = boot_s();
	return p->started_s && now > p->started_s ? now - p->started_s : 0;
}

/* The worker's, by name: what each has used of a processor. */
static void put_threads(struct json *j)
{
	DIR *tasks = opendir("/proc/self/task");
	json_open(j, "threads", '[');
	for (const struct dirent *e; tasks && (e = readdir(tasks));) {
		char path[64], name[32] = "";
		unsigned long long ns = 0;
		unsigned long tid = strtoul(e->d_name, NULL, 10);
		snprintf(path, sizeof(path), "/proc/self/task/%lu/comm", tid);
		if (!tid || !read_line(path, name, sizeof(name)))
			continue; /* it has just ended */
		json_open(j, NULL, '{');
		json_string(j, "name", name);
		json_number(j, "tid", tid);
		/* Its first number (Documentation/scheduler/sched-stats.rst). */
		snprintf(path, sizeof(path), "/proc/self/task/%lu/schedstat", tid);
		if (read_line(path, name, sizeof(name)) && sscanf(name, "%llu", &ns) == 1)
			json_number(j, "cpu_ns", ns);
		json_close(j, '}');
	}
	json_close(j, ']');
	if (tasks)
		closedir(tasks);
}

/* What is there of guest memory, by the size of the host's pages. */
static void put_memory(struct json *j, const struct ram *ram)
{
	struct ram_pages pages[RAM_PAGE_SIZES];
	unsigned n = ram_count_pages(ram, pages);
	json_open(j, "memory_pages", '[');
	for (unsigned i = 0; i < n; i++) {
		json_open(j, NULL, '{');
		json_number(j, "page_bytes", pages[i].page_len);
		json_number(j, "bytes", pages[i].bytes);
		json_close(j, '}');
	}
	json_close(j, ']');
}

void status_answer(struct machine *m, const struct program *p)
{
	static char buf[ANSWER_LEN];
	char page[64];
	struct json j;
	const char *last = control_last_record(m->control);

	ram_page_text(&m->ram, page, sizeof(page));
	answer_begin(&j, buf, sizeof(buf), "status");
	if (m->opt.name)
		json_string(&j, "name", m->opt.name);
	json_number(&j, "pid", (uint64_t)worker_known_pid());
	json_number(&j, "worker", (uint64_t)getpid());
	json_open(&j, "vcpu_threads", '[');
	for (uint32_t i = 0; i < m->opt.cpus; i++)
		json_number(&j, NULL, (uint64_t)m->vcpus[i].tid);
	json_close(&j, ']');
	answer_put_version(&j);
	json_string(&j, "exe", p->path);
	json_string(&j, "state",
		    m->ending		? "powering off"
		    : m->paused.code	? "crashed"
		    : m->paused.since_s ? "paused"
					: "running");
	report_put_paused(&j, m);
	json_number(&j, "uptime_s", status_uptime_s(p));
	json_number(&j, "updates", p->updates);
	json_number(&j, "reboots", p->reboots);
	json_number(&j, "vcpus", m->opt.cpus);
	json_number(&j, "memory_bytes", m->ram.state.size);
	json_string(&j, "page_size", page);
	put_memory(&j, &m->ram);
	put_threads(&j);
	put_devices(&j, m);
	if (last[0])
		json_raw(&j, "last_update", "%.*s", (int)strcspn(last, "\n"), last);
	answer_end(m, &j);
}
