/* SPDX-License-Identifier: MIT */
/*
 * What the operator, programs and the supervisor are told of an update: one log line; one JSON record
 * (--report; the control socket's answer and events); notify_send. On the leader, never in the pause.
 */
#ifndef MOLT_REPORT_H
#define MOLT_REPORT_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct error;
struct handover;
struct machine;
struct reasons;

struct report {
	const struct handover *times;
	const char *old_version, *old_build;
	size_t blob_len;
	unsigned update; /* number of this update in the guest's life */
};

/* The process id in records: the parent's, in a worker. */
void report_set_pid(pid_t pid);

/* Opens --report (append), or takes it: descriptor "report". */
int report_open(struct machine *m, struct error *err);

/* SIGHUP: the file may have been rotated away. */
void report_reopen(struct machine *m);

/* It begins: to the control socket and the supervisor only. */
void report_started(struct machine *m, const char *path);

void report_done(struct machine *m, const struct report *r);

/* The new program failed before commit; the old one has the guest again. */
void report_brought_back(struct machine *m, const struct report *r);

/* The guest is lost; this process ends. */
void report_lost(struct machine *m, const struct error *why);

/* Refused or undone: the guest runs on in the old program. @reasons: everything that speaks
 * against it, when it was found before the pause. */
void report_refused(struct machine *m, const struct error *why, const struct reasons *reasons);

/* To whoever asked whether it could be done. @why: why not, NULL: it could. */
void report_checked(struct machine *m, const struct error *why, const struct reasons *reasons);

/* The guest has ended, or is made to: m->stop_code, m->stop_reason. */
void report_ended(struct machine *m);

#endif
