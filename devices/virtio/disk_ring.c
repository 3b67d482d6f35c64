/* SPDX-License-Identifier: MIT */
/*
 * One thread that gives a disk's requests to the kernel by io_uring, many at a time.
 *
 * System calls of that thread are filtered, but what a ring is asked for is none. So the ring has restrictions of its
 * own: these operations, which are those that the filter allows, and nothing may be registered any more. It is made
 * before the thread, whose filter does not know how. Each program has its own; an update finds nothing in it.
 *
 * No file is registered with it: the kernel lets go of those at some time after the process has ended, and of the
 * image's lock with them, for which the next guest may wait.
 */
#include "devices/virtio/disk_ring.h"

#include <linux/falloc.h>
#include <poll.h>

#include "vmm/machine.h"

static int restrict_to_disk(struct io_uring *uring)
{
	static const uint8_t ops[] = {IORING_OP_POLL_ADD, IORING_OP_READV, IORING_OP_WRITEV,
				      IORING_OP_FSYNC, IORING_OP_FALLOCATE};
	struct io_uring_restriction r[ARRAY_LEN(ops)];
	for (unsigned i = 0; i < ARRAY_LEN(ops); i++)
		r[i] = (struct io_uring_restriction){.opcode = IORING_RESTRICTION_SQE_OP,
						     .sqe_op = ops[i]};
	return io_uring_register_restrictions(uring, r, ARRAY_LEN(r));
}

static int uring_init(struct io_uring *uring)
{
	struct io_uring_params params = {.flags = IORING_SETUP_R_DISABLED};
	int rc = io_uring_queue_init_params(DISK_RING_LEN, uring, &params);
	if (rc)
		return rc;
	/* Came with 5.13, as polls that go on after an event (IORING_POLL_ADD_MULTI). */
	rc = params.features & IORING_FEAT_RSRC_TAGS ? 0 : -EOPNOTSUPP;
	rc = rc ?: restrict_to_disk(uring) ?: io_uring_enable_rings(uring);
	if (rc)
		io_uring_queue_exit(uring);
	return rc;
}

static int ring_init(struct disk *disk, struct error *err)
{
	struct disk_ring *ring = calloc(1, sizeof(*ring));
	if (!ring)
		return error_errno(err, ENOMEM, "%s", disk->dev.name);
	int rc = uring_init(&ring->uring);
	if (!rc) {
		disk->ring = ring;
		return 0;
	}
	free(ring);
	return error_set(err, -rc,
			 "%s: no io_uring (%s; it needs Linux 5.13, and "
			 "kernel.io_uring_disabled to be 0)",
			 disk->dev.name, strerror(-rc));
}

/* There is room: for DISK_RING_MOST requests, and a poll for each queue. */
static struct io_uring_sqe *entry(struct disk_ring *ring)
{
	return io_uring_get_sqe(&ring->uring);
}

/* What comes back of a poll is the queue's number and 1, which is no address of a request. Each kick is an event, so
 * that none need be read. */
static void listen_to(struct disk *disk, unsigned q)
{
	struct io_uring_sqe *sqe = entry(disk->ring);
	io_uring_prep_poll_multishot(sqe, disk->virtio.kick[q].fd, POLLIN);
	io_uring_sqe_set_data(sqe, (void *)(uintptr_t)(q + 1));
}

static void give_to_kernel(const struct disk *disk, struct disk_request *r)
{
	struct io_uring_sqe *sqe = entry(disk->ring);
	uint64_t off = r->off + r->moved;
	switch (r->op) {
	case DISK_READ:
		io_uring_prep_readv(sqe, disk->fd, r->iov, r->niov, off);
		break;
	case DISK_WRITE:
		io_uring_prep_writev(sqe, disk->fd, r->iov, r->niov, off);
		break;
	case DISK_FLUSH:
		io_uring_prep_fsync(sqe, disk->fd, IORING_FSYNC_DATASYNC);
		break;
	default:
		io_uring_prep_fallocate(sqe, disk->fd, disk_file_mode(r), (off_t)off,
					(off_t)r->len);
	}
	io_uring_sqe_set_data(sqe, r);
}

static void finish(struct disk_ring *ring, struct disk_request *r, int rc)
{
	r->rc = rc;
	r->next = ring->done;
	ring->done = r;
}

/* Where disk_file_do knows another way: memory that is not aligned, a file system without holes, one that waits. */
static bool another_way(const struct disk_request *r, int rc)
{
	return !r->moved && (rc == -EINVAL || rc == -EOPNOTSUPP || rc == -EAGAIN || rc == -EINTR);
}

static void ended(struct disk *disk, struct disk_request *r, int rc)
{
	bool moves = r->op == DISK_READ || r->op == DISK_WRITE;
	if (rc > 0 && moves) {
		r->moved += (uint64_t)rc;
		iov_cut_front(&r->iov, &r->niov, (size_t)rc);
		if (r->moved < r->len) {
			give_to_kernel(disk, r);
			return;
		}
		rc = 0;
	} else if (!rc && moves) {
		rc = -EIO; /* the file has become shorter */
	}
	finish(disk->ring, r, another_way(r, rc) ? disk_file_do(disk, r) : rc);
}

/* Gives back what is done and takes what has come, as far as there is room. False: the disk is ending, and nothing is
 * under way. */
static bool exchange(struct disk *disk)
{
	struct disk_ring *ring = disk->ring;
	struct disk_request *r;
	pthread_mutex_lock(&disk->dev.m->lock);
	for (; (r = ring->done); ring->busy--) {
		ring->done = r->next;
		disk_request_done(disk, r);
	}
	if (!disk->ending)
		disk_requests_notify(disk);
	for (; !disk->ending && ring->busy < DISK_RING_MOST && (r = disk_request_take(disk));
	     ring->busy++) {
		if (r->through) {
			r->next = ring->slow;
			ring->slow = r;
		} else {
			give_to_kernel(disk, r);
		}
	}
	bool goes_on = !disk->ending || ring->busy;
	pthread_mutex_unlock(&disk->dev.m->lock);
	return goes_on;
}

/* Only a driver that never flushes wants two steps of one request. */
static void do_slow(struct disk *disk)
{
	struct disk_ring *ring = disk->ring;
	struct disk_request *r;
	while ((r = ring->slow)) {
		ring->slow = r->next;
		finish(ring, r, disk_file_do(disk, r));
	}
}

static void on_event(struct disk *disk, const struct io_uring_cqe *cqe)
{
	uintptr_t data = (uintptr_t)io_uring_cqe_get_data(cqe);
	if (data > VIRTIO_MAX_QUEUES)
		ended(disk, (struct disk_request *)data, cqe->res);
	else if (!(cqe->flags & IORING_CQE_F_MORE))
		listen_to(disk, (unsigned)data - 1);
}

static void ring_work(struct disk *disk)
{
	struct disk_ring *ring = disk->ring;
	struct io_uring_cqe *cqe;
	for (unsigned q = 0; q < disk->virtio.queues; q++)
		listen_to(disk, q);
	while (exchange(disk)) {
		unsigned n = 0, head;
		do_slow(disk);
		io_uring_submit_and_wait(&ring->uring, ring->done ? 0 : 1);
		io_uring_for_each_cqe(&ring->uring, head, cqe)
		{
			on_event(disk, cqe);
			n++;
		}
		io_uring_cq_advance(&ring->uring, n);
	}
}

static void ring_end(struct disk *disk)
{
	io_uring_queue_exit(&disk->ring->uring);
	free(disk->ring);
	disk->ring = NULL;
}

const struct disk_engine disk_ring_engine = {
	.name = "io_uring",
	.threads = 1,
	.init = ring_init,
	.work = ring_work,
	.end = ring_end,
};
