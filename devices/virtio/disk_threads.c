/* SPDX-License-Identifier: MIT */
/* Threads that read and write a disk's file, each one request at a time; the event loop takes from them what is
 * done. */
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>

#include "devices/virtio/disk.h"
#include "vmm/machine.h"

#define END_S 10 /* a file on a network may never answer */

static struct disk_request *next(struct disk *disk)
{
	while (!disk->todo && !disk->ending)
		pthread_cond_wait(&disk->work, &disk->lock);
	struct disk_request *r = disk->ending ? NULL : disk->todo;
	if (r && !(disk->todo = r->next))
		disk->todo_end = &disk->todo;
	return r;
}

static void *work(void *opaque)
{
	struct disk *disk = opaque;
	struct disk_request *r;
	struct error err;
	prctl(PR_SET_NAME, "molt-disk");
	if (seccomp_enter(SECCOMP_DISK, &err))
		log_error(&err);
	pthread_mutex_lock(&disk->lock);
	while ((r = next(disk))) {
		pthread_mutex_unlock(&disk->lock);
		r->rc = disk_file_do(disk, r);
		pthread_mutex_lock(&disk->lock);
		bool first = !disk->done;
		r->next = disk->done;
		disk->done = r;
		if (first)
			fd_write_all(disk->done_fd, &(const uint64_t){1}, sizeof(uint64_t));
	}
	pthread_mutex_unlock(&disk->lock);
	return NULL;
}

static void on_done(void *opaque, uint32_t events)
{
	struct disk *disk = opaque;
	uint64_t count;
	if (read(disk->done_fd, &count, sizeof(count)) != sizeof(count))
		return;
	pthread_mutex_lock(&disk->lock);
	struct disk_request *r = disk->done;
	disk->done = NULL;
	pthread_mutex_unlock(&disk->lock);
	for (struct disk_request *after; r; r = after) {
		after = r->next;
		disk_request_done(disk, r);
	}
	disk_requests_done(disk);
}

int disk_threads_init(struct disk *disk, struct error *err)
{
	pthread_mutex_init(&disk->lock, NULL);
	pthread_cond_init(&disk->work, NULL);
	disk->todo_end = &disk->todo;
	disk->done_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (disk->done_fd < 0)
		return error_errno(err, errno, "%s: eventfd", disk->dev.name);
	return loop_add(&disk->dev.m->loop, disk->done_fd, EPOLLIN, on_done, disk, err);
}

int disk_threads_start(struct disk *disk, struct error *err)
{
	int rc = 0;
	while (!rc && disk->threads < DISK_THREADS) {
		rc = pthread_create(&disk->thread[disk->threads], NULL, work, disk);
		disk->threads += !rc;
	}
	/* One is enough to go on with. */
	return disk->threads ? 0 : error_errno(err, rc, "%s: thread", disk->dev.name);
}

void disk_threads_submit(struct disk *disk, struct disk_request *r)
{
	pthread_mutex_lock(&disk->lock);
	r->next = NULL;
	*disk->todo_end = r;
	disk->todo_end = &r->next;
	pthread_cond_signal(&disk->work);
	pthread_mutex_unlock(&disk->lock);
}

bool disk_threads_end(struct disk *disk)
{
	struct timespec until;
	clock_gettime(CLOCK_REALTIME, &until); /* musl waits for threads by no other clock */
	until.tv_sec += END_S;
	pthread_mutex_lock(&disk->lock);
	disk->ending = true;
	pthread_cond_broadcast(&disk->work);
	pthread_mutex_unlock(&disk->lock);
	loop_remove(&disk->dev.m->loop, disk->done_fd);
	for (; disk->threads; disk->threads--)
		if (pthread_timedjoin_np(disk->thread[disk->threads - 1], NULL, &until))
			return false;
	fd_close(&disk->done_fd);
	return true;
}
