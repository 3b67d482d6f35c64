/* SPDX-License-Identifier: MIT */
/*
 * What the operator, programs and the supervisor are told of an update: one log line; one JSON record
 * (--report; the control socket's answer and events); notify_send. On the leader, never in the pause.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct error;
struct handover;
struct device;
struct json;
struct machine;
struct reasons;

struct report {
	const struct handover *times;
	const char *old_version, *old_build;
	size_t blob_len;
	unsigned update; /* number of this update in the guest's life */
	char pages[64];	 /* ram_page_text */
};

/* The process id in records: the parent's, in a worker. */
void report_set_pid(pid_t pid);

/* Opens --report (append), or takes it: descriptor "report". */
int report_open(struct machine *m, struct error *err);

/* SIGHUP: the file may have been rotated away. Where it cannot be opened anew the one that is open stays. */
int report_reopen(struct machine *m, struct error *err);

/* It begins: to the control socket and the supervisor only. */
void report_started(struct machine *m, const char *path);

/* How far it is: to those who want events. */
void report_progress(struct machine *m, const char *text);

/* Something is wrong with a device. */
void report_trouble(struct machine *m, const struct device *dev);

/* The guest was paused or resumed: m->paused says which. @by: whom, or what. */
void report_paused(struct machine *m, const char *by);
/* "paused": since how many seconds, and by whom; "crashed": since when, and how; nothing of a guest that runs. */
void report_put_paused(struct json *j, const struct machine *m);
/* The guest has crashed, and stays as it is: m->paused. */
void report_crashed(struct machine *m);

/* The guest has reset, or crashed, and begins anew. @count: how often it has. */
void report_reboot(struct machine *m, uint64_t count);

void report_done(struct machine *m, const struct report *r);

/* Refused, or undone: the guest runs on in this program. @reasons: everything that speaks against it, where there is
 * more than @why. @pause_ns: how long the guest stood still for it, 0: not at all. */
void report_refused(struct machine *m, const struct error *why, const struct reasons *reasons,
		    uint64_t pause_ns);

/* To whoever asked whether it could be done. @why: why not, NULL: it could. */
void report_checked(struct machine *m, const struct error *why, const struct reasons *reasons);

/* The guest has ended, or is made to: m->stop_code, m->stop_reason. */
void report_ended(struct machine *m);
