/* SPDX-License-Identifier: MIT */
/* Threads that read and write a disk's file, each one request at a time. */
#include "devices/virtio/disk.h"

static int pool_init(struct disk *disk, struct error *err)
{
	pthread_cond_init(&disk->work, NULL);
	return 0;
}

static void pool_wake(struct disk *disk)
{
	if (disk->ending)
		pthread_cond_broadcast(&disk->work);
	else
		pthread_cond_signal(&disk->work);
}

static struct disk_request *next(struct disk *disk)
{
	while (!disk->todo && !disk->ending)
		pthread_cond_wait(&disk->work, &disk->lock);
	return disk_engine_take(disk);
}

static void pool_work(struct disk *disk)
{
	struct disk_request *r;
	pthread_mutex_lock(&disk->lock);
	while ((r = next(disk))) {
		pthread_mutex_unlock(&disk->lock);
		r->rc = disk_file_do(disk, r);
		pthread_mutex_lock(&disk->lock);
		disk_engine_done(disk, r);
	}
	pthread_mutex_unlock(&disk->lock);
}

static void pool_end(struct disk *disk)
{
	pthread_cond_destroy(&disk->work);
}

const struct disk_engine disk_pool_engine = {
	.name = "threads",
	.threads = DISK_THREADS,
	.init = pool_init,
	.work = pool_work,
	.wake = pool_wake,
	.end = pool_end,
};
