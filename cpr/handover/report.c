/* SPDX-License-Identifier: MIT */
/* The log line, the JSON record and the supervisor's message of each update. */
#include "cpr/handover/report.h"

#include <time.h>

#include "cpr/handover/page.h"
#include "vmm/base/build.h"
#include "vmm/base/json.h"
#include "vmm/base/reasons.h"
#include "vmm/control/control.h"
#include "vmm/machine.h"
#include "vmm/notify.h"
#include "vmm/outfile.h"

/* A phase ends at its own stamp and begins at the one before. The pause is from PREPARE to RUN. */
static const struct {
	const char *name;
	enum handover_stamp end;
} phases[] = {
	{"check", STAMP_CHECK},	    {"start", STAMP_HELLO}, {"build", STAMP_READY},
	{"prepare", STAMP_PREPARE}, {"park", STAMP_PARK},   {"save", STAMP_SAVE},
	{"blob", STAMP_BLOB},	    {"hold", STAMP_HOLD},   {"send", STAMP_STATE},
	{"devices", STAMP_DEVICES}, {"load", STAMP_LOAD},   {"commit", STAMP_COMMIT},
	{"run", STAMP_RUN},
};

int report_open(struct machine *m, struct error *err)
{
	return outfile_open(m, "report", m->opt.report, err);
}

int report_reopen(struct machine *m, struct error *err)
{
	return outfile_reopen(m, "report", m->opt.report, err);
}

#define RECORD_LEN 32768

static pid_t known_pid; /* the process id that records name, the parent's; 0: this process's own */

void report_set_pid(pid_t pid)
{
	known_pid = pid;
}

static void begin(struct json *j, char *buf, const char *event, const char *result)
{
	struct timespec ts;
	clock_gettime(CLOCK_REALTIME, &ts);
	json_begin(j, buf, RECORD_LEN);
	json_open(j, NULL, '{');
	json_string(j, "event", event);
	json_string(j, "result", result);
	json_raw(j, "time", "%lld.%09ld", (long long)ts.tv_sec, ts.tv_nsec);
	json_number(j, "pid", (uint64_t)(known_pid ?: getpid()));
}

static bool end(struct json *j)
{
	json_close(j, '}');
	return json_end(j);
}

static void put_version(struct json *j)
{
	json_string(j, "version", build_version());
	json_string(j, "build", build_id());
}

/* @reasons has everything that spoke against the update before the pause. It is empty where the update failed within
 * the pause: then @why is the only reason. */
static void put_reasons(struct json *j, const struct error *why, const struct reasons *reasons)
{
	json_string(j, "reason", why->text);
	json_open(j, "reasons", '[');
	for (unsigned i = 0; i < reasons->n; i++)
		json_string(j, NULL, reasons->text[i]);
	if (!reasons->n)
		json_string(j, NULL, why->text);
	json_close(j, ']');
	json_string(j, "remedy", why->hint);
}

/* Writes the record of an update that has ended to the file of --report, and to the clients of the control socket. */
static void record(struct machine *m, struct json *j)
{
	if (!end(j)) {
		log_warn("the update's record is longer than %d bytes: left out", RECORD_LEN);
		return;
	}
	pthread_mutex_lock(&m->lock);
	int fd = fdset_get(&m->fds, "report");
	pthread_mutex_unlock(&m->lock);
	int rc = fd < 0 ? 0 : fd_append_whole(fd, j->text, j->len);
	if (rc) {
		log_warn("--report %s: record not written: %s", m->opt.report, strerror(-rc));
		log_info("  remedy: make room; the records after that are written");
	}
	control_update_ended(m->control, j->text, j->len);
}

void report_started(struct machine *m, const char *path)
{
	char buf[RECORD_LEN];
	struct json j;
	notify_reloading();
	begin(&j, buf, "update", "started");
	json_string(&j, "exe", path);
	put_version(&j);
	if (end(&j))
		control_publish(m->control, j.text, j.len);
}

void report_progress(struct machine *m, const char *text)
{
	char buf[RECORD_LEN];
	struct json j;
	begin(&j, buf, "update", "progress");
	json_string(&j, "step", text);
	if (end(&j))
		control_publish(m->control, j.text, j.len);
}

void report_trouble(struct machine *m, const struct device *dev)
{
	char buf[RECORD_LEN];
	struct json j;
	log_warn("%s %s", dev->name, dev->trouble);
	begin(&j, buf, "device", "trouble");
	json_string(&j, "device", dev->name);
	json_string(&j, "trouble", dev->trouble);
	if (end(&j))
		control_publish(m->control, j.text, j.len);
}

void report_put_paused(struct json *j, const struct machine *m)
{
	if (!m->paused.since_s)
		return;
	json_open(j, m->paused.code ? "crashed" : "paused", '{');
	json_number(j, "since_s", paused_s(m));
	if (m->paused.code) {
		json_number(j, "code", m->paused.code);
		json_string(j, "reason", m->paused.reason);
	} else {
		json_number(j, "uid", m->paused.uid);
	}
	if (m->paused.pid)
		json_number(j, "pid", m->paused.pid);
	json_close(j, '}');
}

void report_crashed(struct machine *m)
{
	char buf[RECORD_LEN];
	struct json j;
	log_warn("%s: the guest stays as it is until it is stopped", m->paused.reason);
	vcpus_tell(m);
	notify_send("", "crashed: %s", m->paused.reason);
	begin(&j, buf, "guest", "crashed");
	json_number(&j, "code", m->paused.code);
	json_string(&j, "reason", m->paused.reason);
	if (end(&j))
		control_publish(m->control, j.text, j.len);
}

void report_paused(struct machine *m, const char *by)
{
	const char *what = m->paused.since_s ? "paused" : "resumed";
	char buf[RECORD_LEN];
	struct json j;
	log_info("%s by %s", what, by);
	notify_send("", "%s by %s", what, by);
	begin(&j, buf, "guest", what);
	json_string(&j, "by", by);
	if (end(&j))
		control_publish(m->control, j.text, j.len);
}

void report_reboot(struct machine *m, uint64_t count)
{
	char buf[RECORD_LEN];
	struct json j;
	if (m->stop_code == EXIT_RESET)
		log_info("%s: it begins anew (reboot %lu)", m->stop_reason, count);
	else
		log_warn("%s: it begins anew (reboot %lu)", m->stop_reason, count);
	notify_send("", "reboot %lu: %s", count, m->stop_reason);
	begin(&j, buf, "reboot", "ok");
	json_number(&j, "reboots", count);
	json_number(&j, "code", (uint64_t)m->stop_code);
	json_string(&j, "reason", m->stop_reason);
	if (end(&j))
		control_publish(m->control, j.text, j.len);
}

static void put_phases(struct json *j, const uint64_t *t)
{
	uint64_t begin_ns = t[STAMP_REQUEST];
	json_open(j, "phases", '{');
	for (unsigned i = 0; i < ARRAY_LEN(phases); i++) {
		json_number(j, phases[i].name, t[phases[i].end] - begin_ns);
		begin_ns = t[phases[i].end];
	}
	json_close(j, '}');
}

void report_done(struct machine *m, const struct report *r)
{
	const uint64_t *t = r->times->stamps;
	uint64_t pause_ns = t[STAMP_RUN] - t[STAMP_PREPARE];
	unsigned long long us = pause_ns / 1000;
	char buf[RECORD_LEN];
	struct json j;

	counters_paused(m, pause_ns);
	log_info("update %u: %s -> %s, guest paused %llu.%03llu ms, state %zu bytes, pages %s",
		 r->update, r->old_version, build_version(), us / 1000, us % 1000, r->blob_len,
		 r->pages);
	begin(&j, buf, "update", "ok");
	json_number(&j, "update", r->update);
	json_number(&j, "pause_ns", pause_ns);
	json_number(&j, "total_ns", t[STAMP_RUN] - t[STAMP_REQUEST]);
	put_phases(&j, t);
	json_number(&j, "blob_bytes", r->blob_len);
	json_number(&j, "vcpus", m->opt.cpus);
	json_string(&j, "page_size", r->pages);
	json_string(&j, "old_version", r->old_version);
	json_string(&j, "new_version", build_version());
	json_string(&j, "old_build", r->old_build);
	json_string(&j, "new_build", build_id());
	notify_send("READY=1", "update %u: %s, paused %llu.%03llu ms", r->update, build_version(),
		    us / 1000, us % 1000);
	record(m, &j);
}

void report_refused(struct machine *m, const struct error *why, const struct reasons *reasons,
		    uint64_t pause_ns)
{
	char buf[RECORD_LEN];
	struct json j;
	log_warn("update refused, the guest runs on: %s", why->text);
	if (pause_ns)
		log_info("  the guest stood still for %llu us",
			 (unsigned long long)(pause_ns / 1000));
	for (unsigned i = 0; reasons->n > 1 && i < reasons->n; i++)
		log_info("  reason: %s", reasons->text[i]);
	if (why->hint[0])
		log_info("  remedy: %s", why->hint);
	begin(&j, buf, "update", "refused");
	json_number(&j, "pause_ns", pause_ns);
	put_reasons(&j, why, reasons);
	put_version(&j);
	notify_send("READY=1", "update refused: %s", why->text);
	record(m, &j);
}

void report_checked(struct machine *m, const struct error *why, const struct reasons *reasons)
{
	char buf[RECORD_LEN];
	struct json j;
	begin(&j, buf, "check", why ? "refused" : "ok");
	if (why)
		put_reasons(&j, why, reasons);
	put_version(&j);
	if (end(&j))
		control_answer_waiting(m->control, j.text, j.len);
}

void report_ended(struct machine *m)
{
	char buf[RECORD_LEN];
	struct json j;
	notify_send("STOPPING=1", "%s", m->stop_reason);
	begin(&j, buf, "end", "ok");
	json_number(&j, "code", (uint64_t)m->stop_code);
	json_string(&j, "reason", m->stop_reason);
	if (end(&j))
		control_publish(m->control, j.text, j.len);
}
