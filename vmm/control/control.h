/* SPDX-License-Identifier: MIT */
/*
 * The control socket: a listening socket, a few clients, one line per request (request.h). Its
 * thread, the doorman, lets clients in and tells the leader of whole lines. A line stays in its
 * socket until the leader takes and answers it: so an update loses no request.
 *
 * Kept over an update: "control", "control-lock", and every client: "control-idle:N",
 * "control-events:N", and "control-client", which asked for the update under way and gets its
 * answer from whichever program the guest ends up in.
 */
#pragma once

#include "vmm/base/base.h"

struct control;
struct control_request;
struct machine;

#define CONTROL_CLIENTS 16

/* Opens --control, or takes it over, into m->control, unless it is there already; NULL if there is to be none. Takes
 * the device lock. */
int control_open(struct machine *m, struct error *err);

/* All functions below do nothing without a control socket (@ctl NULL). */

int control_start(struct control *ctl, struct error *err);

/* In between it opens and closes no descriptor. The caller must not hold the device lock. */
void control_park(struct control *ctl);
void control_unpark(struct control *ctl);

/* The leader takes one request, whose client gets the next answer. False: there is none that made
 * sense. */
bool control_take(struct control *ctl, struct control_request *req);

/* Leader. Whole lines to whoever asked last; a client that does not take all at once is dropped. */
void control_answer(struct control *ctl, const char *text, size_t len);
void control_answer_error(struct control *ctl, const struct error *err);

/* Leader. Whoever asked last is from now on told of all events. */
void control_subscribe(struct control *ctl);

/* Leader. Whoever asked last waits for the end of an update, in whichever program that is. */
void control_await_update(struct control *ctl);

/* Leader. The answer to whoever waits (control_await_update), and to nobody else. */
void control_answer_waiting(struct control *ctl, const char *text, size_t len);
void control_publish(struct control *ctl, const char *text, size_t len);

/* Publishes the record of an update that has ended or was refused, and answers whoever waits for
 * it. */
void control_update_ended(struct control *ctl, const char *record, size_t len);

/* The last such record in this program, "" if there was none. */
const char *control_last_record(const struct control *ctl);

/* At the end of the machine: nobody is served any more, and the socket goes. */
void control_close(struct control *ctl);

/* May a process of user @peer use the socket of a process of user @self? */
bool control_peer_allowed(unsigned peer, unsigned self);
