/* SPDX-License-Identifier: MIT */
/* Between a disk and the threads of its engine, which do what the guest asks for: what they are to do, and what is
 * done. */
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>

#include "devices/virtio/disk.h"
#include "vmm/machine.h"

#define END_S 10 /* a file on a network may never answer */

static const struct disk_engine *const engines[] = {&disk_pool_engine, &disk_ring_engine};

const struct disk_engine *disk_engine_find(const char *name)
{
	for (unsigned i = 0; i < ARRAY_LEN(engines); i++)
		if (!strcmp(engines[i]->name, name))
			return engines[i];
	return NULL;
}

/* Threads where the host does not allow what was asked for: also in the middle of a guest's life, whose update is not
 * to fail by that. */
static int engine_init(struct disk *disk, struct error *err)
{
	int rc = disk->wanted->init(disk, err);
	disk->engine = disk->wanted;
	if (rc && disk->wanted != &disk_pool_engine) {
		log_warn("%s: threads do it", err->text);
		disk->engine = &disk_pool_engine;
		rc = disk->engine->init(disk, err);
	}
	if (rc)
		disk->engine = NULL;
	else
		disk->dev.served_by = disk->engine->name;
	return rc;
}

/* ---- the engine's side ---- */

struct disk_request *disk_engine_take(struct disk *disk)
{
	struct disk_request *r = disk->ending ? NULL : disk->todo;
	if (r && !(disk->todo = r->next))
		disk->todo_end = &disk->todo;
	return r;
}

void disk_engine_done(struct disk *disk, struct disk_request *r)
{
	bool first = !disk->done;
	r->next = disk->done;
	disk->done = r;
	if (first)
		fd_write_all(disk->done_fd, &(const uint64_t){1}, sizeof(uint64_t));
}

static void *work(void *opaque)
{
	struct disk *disk = opaque;
	struct error err;
	prctl(PR_SET_NAME, "molt-disk");
	if (seccomp_enter(SECCOMP_DISK, &err))
		log_error(&err);
	disk->engine->work(disk);
	return NULL;
}

/* ---- the device's side ---- */

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

int disk_engine_init(struct disk *disk, struct error *err)
{
	pthread_mutex_init(&disk->lock, NULL);
	disk->todo_end = &disk->todo;
	disk->done_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (disk->done_fd < 0)
		return error_errno(err, errno, "%s: eventfd", disk->dev.name);
	return loop_add(&disk->dev.m->loop, disk->done_fd, EPOLLIN, on_done, disk, err)
		       ?: engine_init(disk, err);
}

int disk_engine_start(struct disk *disk, struct error *err)
{
	int rc = 0;
	while (!rc && disk->threads < disk->engine->threads) {
		rc = pthread_create(&disk->thread[disk->threads], NULL, work, disk);
		disk->threads += !rc;
	}
	/* One is enough to go on with. */
	return disk->threads ? 0 : error_errno(err, rc, "%s: thread", disk->dev.name);
}

void disk_engine_submit(struct disk *disk, struct disk_request *r)
{
	pthread_mutex_lock(&disk->lock);
	r->next = NULL;
	*disk->todo_end = r;
	disk->todo_end = &r->next;
	disk->engine->wake(disk);
	pthread_mutex_unlock(&disk->lock);
}

bool disk_engine_end(struct disk *disk)
{
	struct timespec until;
	clock_gettime(CLOCK_REALTIME, &until); /* musl waits for threads by no other clock */
	until.tv_sec += END_S;
	pthread_mutex_lock(&disk->lock);
	disk->ending = true;
	if (disk->engine)
		disk->engine->wake(disk);
	pthread_mutex_unlock(&disk->lock);
	loop_remove(&disk->dev.m->loop, disk->done_fd);
	for (; disk->threads; disk->threads--)
		if (pthread_timedjoin_np(disk->thread[disk->threads - 1], NULL, &until))
			return false;
	if (disk->engine)
		disk->engine->end(disk);
	fd_close(&disk->done_fd);
	return true;
}
