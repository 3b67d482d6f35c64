/* SPDX-License-Identifier: MIT */
/* The worker that had the guest before this one. Until it has ended, disks, guest memory's file and devices are in
 * use by it, locks too: no reboot could open them. By the leader. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* A successor: from now on the kernel says who sends messages over @peer. The socket's other end alone does not tell:
 * where a taker has made both (molt run --take), they are the taker's. */
void former_ask(int peer);
/* Waits for the first message. Its sender has the guest until now. One in another PID namespace is not seen from here:
 * then nobody is followed. */
void former_follow(int peer, int timeout_ms);

/* Is readable once it has ended; -1: it has, or there was none. */
int former_fd(void);
/* It has. */
void former_ended(void);

/* A reboot waits for its end from now on; or no longer. */
void former_await(void);
void former_forget(void);
/* How long it is waited for, by now_ns(). 0: it is not. */
uint64_t former_deadline(void);
