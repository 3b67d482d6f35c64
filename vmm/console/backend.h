/* SPDX-License-Identifier: MIT */
/* What the console's back-ends and its common part (console.c) share; nobody else includes this. */
#pragma once

#include "cpr/state/fields.h"
#include "vmm/claim.h"
#include "vmm/console/console.h"
#include "vmm/loop.h"
#include "vmm/console/terminal.h"
#include "vmm/console/viewers.h"

#define CONSOLE_RING_LEN  16384
#define CONSOLE_INPUT_LEN 256

/* Everything of the console that outlives the program. */
struct console_state {
	uint32_t escape;   /* Ctrl-a was the last byte */
	uint32_t raw;	   /* the terminal is raw, and its own settings are below */
	uint32_t refused;  /* console_write took less than it was given */
	uint32_t unsent;   /* the last bytes of the ring that the host has not taken */
	uint32_t ring_len; /* bytes in the ring, oldest first */
	uint32_t in_len;   /* bytes of the host that the reader has not taken */
	uint8_t termios[TERMINAL_STATE_LEN];
	uint8_t in[CONSOLE_INPUT_LEN];
	uint8_t ring[CONSOLE_RING_LEN];
};

struct console {
	struct machine *m;
	const struct console_backend *be;
	const char *arg; /* what follows the colon of --console, or NULL */
	struct console_state state;
	int in_fd, out_fd;		/* -1: none (now); may be the same one */
	int listen_fd;			/* unix: where clients come from, or -1 */
	char path[CLAIM_PATH_LEN];	/* of the socket or link that goes away at the end, or "" */
	uint32_t in_events, out_events; /* watched now */
	bool started;
	bool terminal;	   /* input is a terminal we use: escapes count */
	bool unwatched;	   /* input is a file without epoll: read when there is room */
	bool delivering;   /* inside the reader */
	bool warned;	   /* that output is lost */
	uint64_t taken_ns; /* input waits since then, or part of it was taken */
	uint32_t ring_loaded, in_loaded; /* bytes of the state that was loaded last */
	unsigned complaints;
	struct viewer viewers[VIEWERS_MAX];
	console_reader reader;
	console_drained drained;
	void *opaque;
};

struct console_backend {
	const char *name; /* the word of --console */
	bool lossless;	  /* output waits for the host, instead of dropping the oldest */
	bool history;	  /* what was sent is remembered for a client that comes late */
	/* NULL: nothing to open. Sets in_fd, out_fd, listen_fd: the kept descriptors, or freshly
	 * opened ones. */
	int (*open)(struct console *con, const char *arg, struct error *err);
	/* Rotation of a file: opens it anew, whatever is kept. Returns a descriptor for out_fd, "console" in the
	 * table. */
	int (*anew)(const char *arg, struct error *err);
	/* A state is loaded: descriptors that come and go are taken again. */
	void (*reload)(struct console *con);
	loop_handler accept;		       /* listen_fd is readable */
	void (*hangup)(struct console *con);   /* the host's side is gone */
	void (*overflow)(struct console *con); /* the ring is about to drop its oldest */
};

extern const struct console_backend console_stdio, console_file, console_pty, console_unix,
	console_none;

/* Watches what there is to wait for: input that has room, output that is unsent. */
void console_watch(struct console *con);
/* Input waits, and the guest has taken none for a second. */
bool console_stuck(const struct console *con);
/* Before the client's descriptor is closed: in_fd and out_fd become -1. */
void console_detach(struct console *con);
/* Input from elsewhere than in_fd, for the guest. */
void console_type(struct console *con, const uint8_t *buf, uint32_t len);
/* A client has come late: the ring's whole lines count as unsent, so that it gets them. */
void console_replay(struct console *con);

/* fdset_keep, and on failure fd is closed and set to -1. */
int console_keep(struct console *con, const char *name, int *fd, struct error *err);
