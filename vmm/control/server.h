/* SPDX-License-Identifier: MIT */
/* Inside the control socket: control.c is what the leader calls, doorman.c the thread and the life
 * of the socket. */
#pragma once

#include <pthread.h>
#include <sys/epoll.h>

#include "vmm/control/control.h"
#include "vmm/control/request.h"
#include "vmm/machine.h"

#define CONTROL_RECORD_LEN 32768
#define CONTROL_ERROR_LEN  8192 /* two texts of struct error, escaped */

/* Edges: a line that is not whole yet, or waits for the leader, must not wake the loop again. */
#define CONTROL_EDGES (EPOLLIN | EPOLLRDHUP | EPOLLET)

enum control_role {
	ROLE_FREE,   /* the slot is */
	ROLE_IDLE,   /* may ask */
	ROLE_EVENTS, /* is told of events too */
	ROLE_CLIENT, /* asked for the update under way */
};

struct control_client {
	struct control *ctl;
	int fd;
	enum control_role role;
	size_t line_len; /* of a whole line in its socket, newline included, that the leader may take */
	bool asked;	 /* the leader has taken one and not answered yet */
	uint64_t since_ns; /* when it came, or was answered last */
};

struct control {
	struct machine *m;
	struct loop loop;
	pthread_mutex_t lock; /* of all this, and the loop's; taken before the device lock */
	int listen_fd;
	char path[CONTROL_PATH_LEN];
	struct control_client clients[CONTROL_CLIENTS];
	struct control_client *asker; /* of the request that the leader took last, NULL: gone */
	char last[CONTROL_RECORD_LEN];
};

#define each_client(c, ctl)                                                                        \
	for (struct control_client *c = (ctl)->clients; c < (ctl)->clients + CONTROL_CLIENTS; c++)

/* All below: control lock held, device lock not. */

const char *control_role_name(const struct control_client *c, enum control_role role, char *buf);
void control_set_role(struct control_client *c, enum control_role role);
void control_drop(struct control_client *c);

/* Sends all of @text at once, or drops the client, which is too slow. */
void control_tell(struct control_client *c, const char *text, size_t len);

/* The line that says what is wrong with a request. Returns its length; @buf: CONTROL_ERROR_LEN. */
size_t control_error_record(char *buf, const struct error *err);

struct control_client *control_find_free(struct control *ctl);

/* The doorman listens to clients and newcomers, without its lock. */
int control_watch(struct control *ctl, struct error *err);
