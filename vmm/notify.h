/* SPDX-License-Identifier: MIT */
/* Tells the supervisor that started molt how it goes: datagrams to $NOTIFY_SOCKET (sd_notify(3)). */
#pragma once

#include "vmm/base/base.h"

/* Sends @assignments ("READY=1"; "": none) and a STATUS= line to the supervisor, if there is one.
 * Never waits. Opens a socket each time: not in the pause. */
void notify_send(const char *assignments, const char *status, ...)
	__attribute__((format(printf, 2, 3)));

/* A worker's messages go through its parent. @send returns 0, or the message is sent from here. */
void notify_set_sender(int (*send)(const char *text));
void notify_forward(const char *text);

/* An update begins: RELOADING=1 with the time that systemd wants beside it. */
void notify_reloading(void);
