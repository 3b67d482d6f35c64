/* SPDX-License-Identifier: MIT */
/*
 * A disk for the guest (VIRTIO 1.2, 5.2) in a file or block device of the host. disk.c: the device; disk_request.c:
 * what the guest asks for; disk_file.c: the file; disk_threads.c: who reads and writes it.
 *
 * Kept over an update: "disk@N:file", which is locked (F_OFD_SETLK) against a second writer: the lock belongs to
 * the open file, so it goes along.
 */
#pragma once

#include <limits.h>
#include <linux/virtio_blk.h>
#include <pthread.h>

#include "devices/virtio/virtio.h"

#define DISK_SECTOR	512 /* what the protocol counts in, whatever the disk has (5.2.4) */
#define DISK_THREADS	4
#define DISK_ID_LEN	VIRTIO_BLK_ID_BYTES
#define DISK_QUEUES_MAX VIRTIO_MAX_QUEUES
/* Of one request, in bytes; and with that much in flight no more is taken. So an update waits for a bounded amount,
 * whatever the guest asks for. */
#define DISK_REQUEST_MAX (64 * MIB)

/* What a back-end does. */
enum disk_op { DISK_READ, DISK_WRITE, DISK_FLUSH, DISK_DISCARD, DISK_ZERO, DISK_OPS };

struct disk_request {
	struct virtq_chain chain;
	unsigned q; /* the queue it came from */
	enum disk_op op;
	uint64_t off, len; /* bytes of the file */
	struct iovec *iov; /* of the chain: the data */
	unsigned niov;
	bool may_unmap;	 /* DISK_ZERO */
	bool through;	 /* what it changes is on the disk when it is done */
	uint8_t *status; /* the last byte of the chain: VIRTIO_BLK_S_ */
	int rc;		 /* 0 or -errno */
	uint64_t since_ns;
	bool busy;
	struct disk_request *next;
};

struct disk_state {
	struct virtio_state virtio;
	uint64_t sectors;   /* of DISK_SECTOR bytes */
	uint32_t block_len; /* logical block: what a write should be a multiple of */
	uint32_t reserved;
};

struct disk {
	struct device dev;
	struct virtio_dev virtio;
	char path[PATH_MAX];
	char serial[DISK_ID_LEN + 1];
	bool readonly, direct;
	unsigned queues;
	int fd; /* the table of kept descriptors owns it */
	struct virtio_blk_config config;
	struct disk_request *requests; /* disk_room() of them: what the queues hold, owned */
	struct disk_request *free;
	uint64_t bytes; /* of the requests in flight */
	unsigned turn;	/* the queue that is looked at first when something is done */
	unsigned complaints;

	/* The threads, and what they share with the device, under their own lock. */
	pthread_t thread[DISK_THREADS];
	unsigned threads;
	int done_fd; /* eventfd: something is done. The event loop watches it */
	pthread_mutex_t lock;
	pthread_cond_t work;
	struct disk_request *todo, **todo_end, *done;
	bool ending;

	struct disk_state state;
};

extern const struct device_class disk_class;

static inline unsigned disk_room(const struct disk *disk)
{
	return disk->queues * VIRTIO_QUEUE_SIZE;
}

/* disk_file.c: opens and locks the file, and fills in the size of disk and block. A descriptor or -errno. */
int disk_file_open(struct disk *disk, struct error *err);
/* Length of the file and of its logical blocks, in bytes: 0 or -errno. A file on a network may take long. */
int disk_file_measure(const struct disk *disk, int fd, uint64_t *len, uint32_t *block,
		      struct error *err);
/* Does what @r says, on the calling thread: 0 or -errno. */
int disk_file_do(const struct disk *disk, const struct disk_request *r);

/* disk_request.c: takes what the guest has queued; ends what a back-end has done. Device lock held. */
void disk_kick(struct virtio_dev *v, unsigned q);
void disk_request_done(struct disk *disk, struct disk_request *r);
/* After some were done: the guest is told, and there is room again. */
void disk_requests_done(struct disk *disk);
void disk_oldest(struct virtio_dev *v, char *text, size_t size);

/* disk_threads.c. init needs the event loop; start may be called again after it has failed. */
int disk_threads_init(struct disk *disk, struct error *err);
int disk_threads_start(struct disk *disk, struct error *err);
void disk_threads_submit(struct disk *disk, struct disk_request *r);
/* What no thread has begun is dropped. False: a thread does not end, since the file does not answer: all that it
 * uses must stay. */
bool disk_threads_end(struct disk *disk);
