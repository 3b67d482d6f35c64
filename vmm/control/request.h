/* SPDX-License-Identifier: MIT */
/*
 * What can be asked of a running guest: one line of text per request, one line of JSON per answer
 * (molt(1)).
 *
 *   WORD [check] [exe=FILE]      exe= takes the rest of the line: FILE may contain blanks
 *   take                         with a SOCK_SEQPACKET descriptor (SCM_RIGHTS): molt run --take
 */
#pragma once

#include <sys/un.h>

#include "vmm/base/base.h"

#define CONTROL_EXE_LEN	 4096 /* with its NUL */
#define CONTROL_LINE_LEN (CONTROL_EXE_LEN + 64)
#define CONTROL_PATH_LEN sizeof(((struct sockaddr_un *)0)->sun_path)

enum control_word {
	CONTROL_STATUS,
	CONTROL_UPDATE,
	CONTROL_STOP,
	CONTROL_PAUSE,
	CONTROL_RESUME,
	CONTROL_RESCAN,
	CONTROL_EVENTS,
	CONTROL_VERSION,
	CONTROL_METRICS,
	CONTROL_CONSOLE, /* attach the descriptor that came along */
	CONTROL_CONFIG,
	CONTROL_TAKE, /* give the guest to the process behind the descriptor that came along */
};

struct control_request {
	enum control_word word;
	bool check; /* update: only say whether it could be done */
	/* take, console: the socket that came along, the receiver's; -1: none. Set by control_take(), as uid and
	 * pid. */
	int peer;
	unsigned uid, pid; /* of whoever asks; pid 0: a process that this one cannot see */
	/* update: program file, absolute; "": that of the last update, or where molt was started from */
	char exe[CONTROL_EXE_LEN];
};

int control_request_parse(struct control_request *req, const char *line, size_t len,
			  struct error *err);

/* The folder of sockets of named guests: /run/molt for root, $XDG_RUNTIME_DIR/molt for others. */
int control_rundir(char *buf, size_t size, struct error *err);

/* The socket of @target: a path if it has a slash in it, or a guest's name. @buf: CONTROL_PATH_LEN. */
int control_socket_path(const char *target, char *buf, struct error *err);
