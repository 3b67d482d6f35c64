/* SPDX-License-Identifier: MIT */
/* The event loop: a thread that waits for descriptors and can be parked between two handlers. */
#include "vmm/loop.h"

#include <sys/epoll.h>
#include <sys/prctl.h>

int loop_init(struct loop *loop, const char *name, enum seccomp_thread filter,
	      pthread_mutex_t *lock, struct error *err)
{
	loop->name = name;
	loop->filter = filter;
	loop->lock = lock;
	pthread_cond_init(&loop->wake, NULL);
	loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	return loop->epoll_fd < 0 ? error_errno(err, errno, "event loop: epoll") : 0;
}

int loop_add(struct loop *loop, int fd, uint32_t events, loop_handler handler, void *opaque,
	     struct error *err)
{
	struct loop_watch *w = calloc(1, sizeof(*w));
	if (!w)
		return error_errno(err, ENOMEM, "event loop");
	*w = (struct loop_watch){.fd = fd, .handler = handler, .opaque = opaque};
	struct epoll_event ev = {.events = events, .data.ptr = w};
	if (epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, fd, &ev) < 0) {
		int code = errno;
		free(w);
		return error_errno(err, code, "event loop: descriptor %d", fd);
	}
	w->next = loop->watches;
	loop->watches = w;
	return 0;
}

static struct loop_watch *find(struct loop *loop, int fd)
{
	for (struct loop_watch *w = loop->watches; w; w = w->next)
		if (w->fd == fd && !w->dead)
			return w;
	return NULL;
}

int loop_modify(struct loop *loop, int fd, uint32_t events)
{
	struct loop_watch *w = find(loop, fd);
	if (!w)
		return -ENOENT;
	struct epoll_event ev = {.events = events, .data.ptr = w};
	return epoll_ctl(loop->epoll_fd, EPOLL_CTL_MOD, fd, &ev) < 0 ? -errno : 0;
}

void loop_remove(struct loop *loop, int fd)
{
	struct loop_watch *w = find(loop, fd);
	if (!w)
		return;
	epoll_ctl(loop->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
	w->dead = true; /* freed between two rounds: this round's events may still name it */
}

static void reap(struct loop *loop)
{
	for (struct loop_watch **p = &loop->watches; *p;) {
		struct loop_watch *w = *p;
		if (w->dead) {
			*p = w->next;
			free(w);
		} else {
			p = &w->next;
		}
	}
}

void loop_call_at(struct loop *loop, uint64_t at_ns, loop_handler handler, void *opaque)
{
	loop->timer_ns = at_ns ?: 1;
	loop->timer = handler;
	loop->timer_opaque = opaque;
}

static void await_unparked(struct loop *loop)
{
	while (__atomic_load_n(&loop->parked, __ATOMIC_RELAXED))
		pthread_cond_wait(&loop->wake, loop->lock);
}

static void keep_time(struct loop *loop)
{
	if (!loop->timer_ns || now_ns() < loop->timer_ns)
		return;
	await_unparked(loop);
	loop->timer_ns = 0;
	loop->timer(loop->timer_opaque, 0);
}

static void *run(void *opaque)
{
	struct loop *loop = opaque;
	struct epoll_event ev[16];
	struct error err;

	prctl(PR_SET_NAME, loop->name);
	/* The vCPUs' filters went on before: so this fails only where memory is short. */
	if (seccomp_enter(loop->filter, &err))
		log_error(&err);
	for (;;) {
		int n = epoll_wait(loop->epoll_fd, ev, 16,
				   loop->timer_ns ? ms_until(loop->timer_ns) : -1);
		pthread_mutex_lock(loop->lock);
		for (int i = 0; i < n; i++) {
			struct loop_watch *w = ev[i].data.ptr;
			await_unparked(loop);
			if (!w->dead)
				w->handler(w->opaque, ev[i].events);
		}
		keep_time(loop);
		reap(loop);
		pthread_mutex_unlock(loop->lock);
	}
	return NULL;
}

int loop_start(struct loop *loop, struct error *err)
{
	int rc = pthread_create(&loop->thread, NULL, run, loop);
	if (rc)
		return error_errno(err, rc, "event loop: thread");
	loop->running = true;
	return 0;
}

void loop_park(struct loop *loop)
{
	/* Set before the lock is taken: a loop that always has something to do takes the lock again and again, and
	 * could keep this thread waiting. So it stops before its next handler. */
	__atomic_store_n(&loop->parked, true, __ATOMIC_RELAXED);
	pthread_mutex_lock(loop->lock);
	pthread_mutex_unlock(loop->lock);
}

void loop_unpark(struct loop *loop)
{
	pthread_mutex_lock(loop->lock);
	__atomic_store_n(&loop->parked, false, __ATOMIC_RELAXED);
	pthread_cond_broadcast(&loop->wake);
	pthread_mutex_unlock(loop->lock);
}
