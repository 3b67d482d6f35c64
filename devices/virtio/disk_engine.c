/* SPDX-License-Identifier: MIT */
/* The threads of a disk: which kind of engine they run, their beginning and their end. */
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

static void *work(void *opaque)
{
	struct disk *disk = opaque;
	pthread_mutex_t *lock = &disk->dev.m->lock;
	struct error err;
	prctl(PR_SET_NAME, "molt-disk");
	if (seccomp_enter(SECCOMP_DISK, &err))
		log_error(&err);
	pthread_mutex_lock(lock);
	while (!disk->serving && !disk->ending)
		pthread_cond_wait(&disk->go, lock);
	pthread_mutex_unlock(lock);
	disk->engine->work(disk);
	virtio_look_again(&disk->virtio, 0); /* wakes the next one */
	return NULL;
}

int disk_engine_init(struct disk *disk, struct error *err)
{
	pthread_cond_init(&disk->go, NULL);
	return engine_init(disk, err);
}

int disk_engine_spawn(struct disk *disk, struct error *err)
{
	for (; disk->threads < disk->engine->threads; disk->threads++) {
		int rc = pthread_create(&disk->thread[disk->threads], NULL, work, disk);
		if (!rc)
			continue;
		error_errno(err, rc, "%s: thread %u of %u", disk->dev.name, disk->threads + 1,
			    disk->engine->threads);
		return error_hint(err, "see the limits of the user's and the cgroup's processes "
				       "(ulimit -u, pids.max), and the host's memory");
	}
	return 0;
}

void disk_engine_serve(struct disk *disk)
{
	disk->serving = true;
	pthread_cond_broadcast(&disk->go);
}

bool disk_engine_end(struct disk *disk)
{
	pthread_mutex_t *lock = &disk->dev.m->lock;
	struct timespec until;
	clock_gettime(CLOCK_REALTIME, &until); /* musl waits for threads by no other clock */
	until.tv_sec += END_S;
	pthread_mutex_lock(lock);
	disk->ending = true;
	pthread_cond_broadcast(&disk->go);
	pthread_mutex_unlock(lock);
	virtio_look_again(&disk->virtio, 0);
	for (; disk->threads; disk->threads--)
		if (pthread_timedjoin_np(disk->thread[disk->threads - 1], NULL, &until))
			return false;
	disk->engine->end(disk);
	return true;
}
