/* SPDX-License-Identifier: MIT */
/* The verbs that talk to a running guest over its control socket (molt(1)), and their connection to
 * it. */
#pragma once

#include "vmm/base/base.h"

/* The verb that is argv[1]: list, status, config, update, metrics, stop, pause, resume or events. Gets all of main's
 * arguments and returns the exit status. */
int client_run(int argc, char *argv[]);
/* A line for each of these verbs, as the lines of --help. */
void client_usage(FILE *out);
void client_show_status(const char *answer);

struct client_link;
/* What the guest has said on @l instead of going on: the text of @err becomes that, and its remedy. */
void client_explain(struct client_link *l, struct error *err);

struct client_link {
	int fd;
	int data;		/* our end of what the guest was given, or -1 */
	char *buf;		/* owned */
	size_t len, room, used; /* bytes in it; of these the line returned last */
	unsigned timeout_s;	/* of each wait; 0: for ever */
};

#define CLIENT_NAME_LEN 64

/* Names of the guests whose sockets are in the run directory, living or not, in order. How many, or -errno; @names
 * is the caller's to free. */
int client_guests(char (**names)[CLIENT_NAME_LEN], struct error *err);

/* The socket of @target, a path or the name of a guest. @buf: CONTROL_PATH_LEN. */
int client_socket_path(const char *target, char *buf, struct error *err);

/* @target: name or path. Errors say which guests there are; -ETIMEDOUT: it does not speak. */
int client_connect(struct client_link *l, const char *target, unsigned timeout_s,
		   struct error *err);
int client_send(struct client_link *l, const char *line, struct error *err);
/* The same with a descriptor, which stays the caller's. */
int client_send_fd(struct client_link *l, const char *line, int fd, struct error *err);
/* The same with one end of a new socket pair; the other one is l->data. */
int client_send_pair(struct client_link *l, const char *line, struct error *err);
/* The next line, without its newline, valid until the next call. NULL: an error; -EPIPE: closed. */
char *client_line(struct client_link *l, struct error *err);
void client_close(struct client_link *l);

/* Ties standard input and output to the console behind @fd, until the user leaves it, input or the guest ends. A
 * terminal is raw meanwhile. 0 or -errno. */
int client_console(int fd, struct error *err);
