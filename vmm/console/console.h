/* SPDX-License-Identifier: MIT */
/*
 * The guest's console on the host. The guest's bytes go to a ring first and from there to the host
 * without ever blocking; the host's go to whoever registered as reader. stdio and file lose
 * nothing: the guest's transmitter waits. pty and unix drop the oldest bytes, and a client that
 * comes late gets the ring's last lines first.
 */
#pragma once

#include "vmm/base/base.h"

struct console;
struct machine;

extern const struct state_class console_state_class;

/* Device lock held. Returns how many bytes were taken; the rest is offered again after
 * console_ready(). */
typedef size_t (*console_reader)(void *opaque, const uint8_t *buf, size_t len);
/* Room in the ring again after console_write refused. Device lock held. */
typedef void (*console_drained)(void *opaque);

/* @spec: the --console text. Descriptors go through m->fds; registers state node "console". Ignores
 * SIGPIPE. */
int console_open(struct machine *m, const char *spec, struct console **out, struct error *err);

void console_attach(struct console *con, console_reader reader, console_drained drained,
		    void *opaque);

/* Device lock held. Returns bytes taken, may be less than @len (lossless back-ends). */
size_t console_write(struct console *con, const uint8_t *buf, size_t len);
void console_ready(struct console *con);

/* Starts watching host input, and makes the terminal raw until the end (terminal.h). Takes the
 * device lock. The settings of a terminal that was taken over are in the state: until then it is
 * somebody else's to put back. */
int console_start(struct console *con, struct error *err);

/* Attaches @fd, a stream socket, which is the console's from then on (on failure the caller's): it gets what the guest
 * writes and brings input. Takes the device lock. -EBUSY: there are as many as may be. */
int console_view(struct console *con, int fd, struct error *err);

/* A file that may have been rotated away is opened anew. Where that fails the one that is open stays. Takes the device
 * lock. */
int console_reopen(struct console *con, struct error *err);

/* At the end of the machine: flushes, puts the terminal back, removes the socket or link. */
void console_close(struct console *con);
