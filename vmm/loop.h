/* SPDX-License-Identifier: MIT */
/*
 * Event loops, one thread with epoll each: the machine's, whose handlers run with the device lock
 * held, and the control socket's. loop_park makes it stop between two handlers.
 */
#pragma once

#include <pthread.h>

#include "vmm/seccomp/seccomp.h"

typedef void (*loop_handler)(void *opaque, uint32_t events); /* EPOLLIN, ... */

struct loop_watch {
	int fd;
	loop_handler handler;
	void *opaque;
	struct loop_watch *next;
	bool dead;
};

struct loop {
	const char *name; /* of the thread */
	enum seccomp_thread filter;
	int epoll_fd;
	pthread_t thread;
	bool running;
	pthread_mutex_t *lock; /* held while handlers run: the device lock */
	pthread_cond_t wake;
	bool parked; /* atomic */
	struct loop_watch *watches;
	uint64_t timer_ns; /* when it is called, by now_ns(); 0: it is not */
	loop_handler timer;
	void *timer_opaque;
};

int loop_init(struct loop *loop, const char *name, enum seccomp_thread filter,
	      pthread_mutex_t *lock, struct error *err);

/* Watches @fd (stays the caller's). Lock held, or before loop_start. -EPERM: a regular file. */
int loop_add(struct loop *loop, int fd, uint32_t events, loop_handler handler, void *opaque,
	     struct error *err);
int loop_modify(struct loop *loop, int fd, uint32_t events);
void loop_remove(struct loop *loop, int fd);

/* @handler is called once, with no events, at @at_ns of now_ns() or later; instead of the one before. From a handler
 * of this loop only. */
void loop_call_at(struct loop *loop, uint64_t at_ns, loop_handler handler, void *opaque);

int loop_start(struct loop *loop, struct error *err);

/* After loop_park returns no handler runs until loop_unpark. Caller must not hold the loop's lock. */
void loop_park(struct loop *loop);
void loop_unpark(struct loop *loop);
