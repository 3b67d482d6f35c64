/* SPDX-License-Identifier: MIT */
/*
 * Threads that read and write a disk's file, each one request at a time.
 *
 * All that are idle wait for the queues' kicks at once. Edge-triggered, a kick wakes one of them and need not be read.
 * Who takes a request while another is there wakes the next one, before it begins with its own.
 */
#include <sys/epoll.h>

#include "devices/virtio/disk.h"
#include "vmm/machine.h"

static int kicks_watch(const struct disk *disk)
{
	for (unsigned q = 0; q < disk->virtio.queues; q++) {
		struct epoll_event ev = {.events = EPOLLIN | EPOLLET};
		if (epoll_ctl(disk->epoll_fd, EPOLL_CTL_ADD, disk->virtio.kick[q].fd, &ev) < 0)
			return -errno;
	}
	return 0;
}

static int pool_init(struct disk *disk, struct error *err)
{
	disk->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	int rc = disk->epoll_fd < 0 ? -errno : kicks_watch(disk);
	if (!rc)
		return 0;
	fd_close(&disk->epoll_fd);
	return error_errno(err, -rc, "%s: epoll", disk->dev.name);
}

static void await_kick(struct disk *disk)
{
	struct epoll_event ev;
	disk->idle++;
	pthread_mutex_unlock(&disk->dev.m->lock);
	epoll_wait(disk->epoll_fd, &ev, 1, -1);
	pthread_mutex_lock(&disk->dev.m->lock);
	disk->idle--;
}

/* Or the guest will, by its next kick. */
static void wake_another(struct disk *disk)
{
	struct virtio_dev *v = &disk->virtio;
	for (unsigned q = 0; disk->idle && q < v->queues; q++)
		if (virtq_pending(v, q)) {
			virtio_look_again(v, q);
			return;
		}
}

static void pool_work(struct disk *disk)
{
	pthread_mutex_t *lock = &disk->dev.m->lock;
	pthread_mutex_lock(lock);
	while (!disk->ending) {
		struct disk_request *r = disk_request_take(disk);
		if (!r) {
			await_kick(disk);
			continue;
		}
		wake_another(disk);
		pthread_mutex_unlock(lock);
		r->rc = disk_file_do(disk, r);
		pthread_mutex_lock(lock);
		disk_request_done(disk, r);
		disk_requests_notify(disk);
	}
	pthread_mutex_unlock(lock);
}

static void pool_end(struct disk *disk)
{
	fd_close(&disk->epoll_fd);
}

const struct disk_engine disk_pool_engine = {
	.name = "threads",
	.threads = DISK_THREADS,
	.init = pool_init,
	.work = pool_work,
	.end = pool_end,
};
