/* SPDX-License-Identifier: MIT */
#include "cpr/report.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cpr/handover.h"
#include "vmm/base/build.h"
#include "vmm/base/fd.h"
#include "vmm/base/log.h"
#include "vmm/base/reasons.h"
#include "vmm/machine.h"

/* Each phase lasts from the stamp before it to its own. The pause is what lies between PREPARE and
 * RUN. */
static const struct {
	const char *name;
	enum handover_stamp end;
} phases[] = {
	{"preflight", STAMP_PREFLIGHT},
	{"prepare", STAMP_PREPARE},
	{"park", STAMP_PAUSE},
	{"detach", STAMP_DETACH},
	{"blob", STAMP_BLOB},
	{"hold", STAMP_HOLD},
	{"exec", STAMP_EXEC},
	{"adopt", STAMP_ADOPT},
	{"build", STAMP_BUILD},
	{"dma", STAMP_DMA},
	{"load", STAMP_LOAD},
	{"commit", STAMP_COMMIT},
	{"run", STAMP_RUN},
};

static int open_file(struct machine *m, struct error *err)
{
	int fd = open(m->opt.report, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
	if (fd < 0)
		return error_errno(err, errno, "--report %s", m->opt.report);
	return fdset_keep(&m->fds, "report", fd, err);
}

int report_open(struct machine *m, struct error *err)
{
	if (!m->opt.report || fdset_take(&m->fds, "report") >= 0)
		return 0;
	return open_file(m, err);
}

void report_reopen(struct machine *m)
{
	struct error err;
	if (!m->opt.report)
		return;
	pthread_mutex_lock(&m->lock);
	fdset_close(&m->fds, "report");
	if (open_file(m, &err))
		log_error(&err);
	pthread_mutex_unlock(&m->lock);
}

/* A record under construction; whatever does not fit is cut, and the record dropped. */
struct line {
	char text[32768];
	size_t len;
};

static void put(struct line *l, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void put(struct line *l, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	int n = vsnprintf(l->text + l->len, sizeof(l->text) - l->len, fmt, ap);
	va_end(ap);
	if (n > 0)
		l->len += (size_t)n;
	if (l->len >= sizeof(l->text))
		l->len = sizeof(l->text) - 1;
}

/* A quoted string and a comma. */
static void put_text(struct line *l, const char *value)
{
	put(l, "\"");
	for (const char *c = value; *c; c++) {
		if (*c == '"' || *c == '\\')
			put(l, "\\%c", *c);
		else if ((unsigned char)*c < 0x20)
			put(l, "\\u%04x", (unsigned char)*c);
		else
			put(l, "%c", *c);
	}
	put(l, "\",");
}

static void put_string(struct line *l, const char *key, const char *value)
{
	put(l, "\"%s\":", key);
	put_text(l, value);
}

static void begin(struct line *l, const char *result)
{
	struct timespec ts;
	clock_gettime(CLOCK_REALTIME, &ts);
	l->len = 0;
	put(l, "{\"event\":\"update\",\"result\":\"%s\",\"time\":%lld.%09ld,\"pid\":%d,", result,
	    (long long)ts.tv_sec, ts.tv_nsec, (int)getpid());
}

static void end(struct machine *m, struct line *l)
{
	l->len--; /* the last comma */
	put(l, "}\n");
	pthread_mutex_lock(&m->lock);
	int fd = fdset_take(&m->fds, "report");
	pthread_mutex_unlock(&m->lock);
	if (fd >= 0 && fd_write_all(fd, l->text, l->len))
		log_warn("--report %s: record not written: %s", m->opt.report, strerror(errno));
}

void report_done(struct machine *m, const struct report *r)
{
	const uint64_t *t = r->times->stamps;
	uint64_t pause_ns = t[STAMP_RUN] - t[STAMP_PREPARE];
	char page[64];
	struct line l;

	ram_page_text(&m->ram, page, sizeof(page));
	log_info("update %u: %s -> %s, guest paused %llu.%03llu ms, state %zu bytes, pages %s",
		 r->update, r->old_version, build_version(), (unsigned long long)pause_ns / 1000000,
		 (unsigned long long)pause_ns / 1000 % 1000, r->blob_len, page);
	begin(&l, "ok");
	put(&l, "\"update\":%u,\"pause_ns\":%llu,\"total_ns\":%llu,\"phases\":{", r->update,
	    (unsigned long long)pause_ns, (unsigned long long)(t[STAMP_RUN] - t[STAMP_REQUEST]));
	uint64_t begin_ns = t[STAMP_REQUEST];
	for (unsigned i = 0; i < ARRAY_LEN(phases); i++) {
		put(&l, "%s\"%s\":%llu", i ? "," : "", phases[i].name,
		    (unsigned long long)(t[phases[i].end] - begin_ns));
		begin_ns = t[phases[i].end];
	}
	put(&l, "},\"blob_bytes\":%zu,\"vcpus\":%u,", r->blob_len, m->opt.cpus);
	put_string(&l, "page_size", page);
	put_string(&l, "old_version", r->old_version);
	put_string(&l, "new_version", build_version());
	put_string(&l, "old_build", r->old_build);
	put_string(&l, "new_build", build_id());
	end(m, &l);
}

void report_brought_back(struct machine *m, const struct report *r)
{
	const uint64_t *t = r->times->stamps;
	uint64_t pause_ns = t[STAMP_RUN] - t[STAMP_PREPARE];
	char reason[HANDOVER_REASON_LEN];
	struct line l;

	snprintf(reason, sizeof(reason), "%.*s", HANDOVER_REASON_LEN - 1, r->times->reason);
	log_info(
		"update failed, the guest runs on in the old program %s (pid %d) after %llu ms: %s",
		build_version(), (int)getpid(), (unsigned long long)pause_ns / 1000000, reason);
	begin(&l, "brought-back");
	put(&l, "\"pause_ns\":%llu,", (unsigned long long)pause_ns);
	put_string(&l, "reason", reason);
	put_string(&l, "version", build_version());
	put_string(&l, "build", build_id());
	end(m, &l);
}

void report_lost(struct machine *m, const struct error *why)
{
	struct line l;
	begin(&l, "lost");
	put_string(&l, "reason", why->text);
	put_string(&l, "remedy", why->hint);
	put_string(&l, "version", build_version());
	put_string(&l, "build", build_id());
	end(m, &l);
}

void report_refused(struct machine *m, const struct error *why, const struct reasons *reasons)
{
	struct line l;
	log_info("update refused, the guest runs on: %s", why->text);
	for (unsigned i = 0; reasons->n > 1 && i < reasons->n; i++)
		log_info("  reason: %s", reasons->text[i]);
	if (why->hint[0])
		log_info("  remedy: %s", why->hint);
	begin(&l, "refused");
	put_string(&l, "reason", why->text);
	put(&l, "\"reasons\":[");
	for (unsigned i = 0; i < reasons->n; i++)
		put_text(&l, reasons->text[i]);
	if (!reasons->n) /* refused later, while the guest stood still */
		put_text(&l, why->text);
	l.len--; /* the last comma */
	put(&l, "],");
	put_string(&l, "remedy", why->hint);
	put_string(&l, "version", build_version());
	put_string(&l, "build", build_id());
	end(m, &l);
}
