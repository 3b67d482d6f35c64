/* SPDX-License-Identifier: MIT */
/*
 * A disk for the guest (VIRTIO 1.2, 5.2) in a file or block device of the host. disk.c: the device; disk_request.c:
 * what the guest asks for; disk_file.c, disk_block.c: the file; disk_engine.c: threads that do it, by io_uring
 * (disk_ring.c) or each one request at a time (disk_pool.c). A thread waits for the queues' kicks, takes a request with
 * the device lock held and gives it back so: nobody else is woken on its way. Without the lock it has the file read or
 * written.
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
#define DISK_THREADS	4   /* of a pool */
#define DISK_ID_LEN	VIRTIO_BLK_ID_BYTES
#define DISK_QUEUES_MAX 16
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
	uint64_t moved;	   /* of these, so far: io_uring may do it in parts */
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

struct disk;

/* What does the requests, on threads of its own. */
struct disk_engine {
	const char *name; /* in aio=, and in molt status */
	unsigned threads;
	/* The queues' kicks are there; nothing is done yet. -errno: this host does not allow it, and nothing is left of
	 * it. */
	int (*init)(struct disk *disk, struct error *err);
	/* On each of the threads, until the disk is ending and all is done that it has taken. At that end the first
	 * queue's kick is signalled. */
	void (*work)(struct disk *disk);
	/* No thread is left. */
	void (*end)(struct disk *disk);
};

extern const struct disk_engine disk_ring_engine, disk_pool_engine;

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
	unsigned turn;	/* the queue that is looked at first */
	unsigned complaints;

	const struct disk_engine *wanted;
	const struct disk_engine *engine; /* NULL: none yet */
	struct disk_ring *ring;		  /* of that engine, owned */
	int epoll_fd;			  /* of the pool: the queues' kicks, edge-triggered */
	unsigned idle;			  /* threads of the pool that wait for one */
	pthread_t thread[DISK_THREADS];
	unsigned threads;
	pthread_cond_t go; /* with the device lock: serving, or ending */
	bool serving, ending;

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
/* disk_block.c: raises *@block to what the file takes when it is read direct. */
void disk_file_find_block(int fd, uint32_t *block);
/* For a discard or a write of zeroes: how fallocate(2) does it. */
int disk_file_mode(const struct disk_request *r);
/* Does what @r says, on the calling thread: 0 or -errno. */
int disk_file_do(const struct disk *disk, const struct disk_request *r);

/* disk_request.c, device lock held. take: the next request that a back-end is to do; what needs none is answered. NULL:
 * there is none now, and who offers one will kick. done: gives it back, as its rc says; nothing is done to a machine
 * that is ending. notify: the guest is told of those. */
struct disk_request *disk_request_take(struct disk *disk);
void disk_request_done(struct disk *disk, struct disk_request *r);
void disk_requests_notify(struct disk *disk);
void disk_oldest(struct virtio_dev *v, char *text, size_t size);

/* disk_engine.c. init needs file and kicks. spawn makes all of the threads, or as many as it can and an error: it may
 * be called again. They begin with serve, for which the device lock is held. */
const struct disk_engine *disk_engine_find(const char *name);
int disk_engine_init(struct disk *disk, struct error *err);
int disk_engine_spawn(struct disk *disk, struct error *err);
void disk_engine_serve(struct disk *disk);
/* What is not begun is dropped. False: a thread does not end, since the file does not answer: all that it uses must
 * stay. */
bool disk_engine_end(struct disk *disk);
