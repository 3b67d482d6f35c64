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
#include <sys/eventfd.h>

static int restrict_to_disk(struct io_uring *uring)
{
	static const uint8_t ops[] = {IORING_OP_READ, IORING_OP_READV, IORING_OP_WRITEV,
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
	rc = restrict_to_disk(uring) ?: io_uring_enable_rings(uring);
	if (rc)
		io_uring_queue_exit(uring);
	return rc;
}

static int ring_init(struct disk *disk, struct error *err)
{
	struct disk_ring *ring = calloc(1, sizeof(*ring));
	if (!ring)
		return error_errno(err, ENOMEM, "%s", disk->dev.name);
	ring->bell = eventfd(0, EFD_CLOEXEC);
	int rc = ring->bell < 0 ? -errno : uring_init(&ring->uring);
	if (!rc) {
		disk->ring = ring;
		return 0;
	}
	fd_close(&ring->bell);
	free(ring);
	return error_set(err, -rc, "%s: no io_uring (%s; see kernel.io_uring_disabled)",
			 disk->dev.name, strerror(-rc));
}

static void ring_wake(struct disk *disk)
{
	struct disk_ring *ring = disk->ring;
	if (!ring->rung)
		fd_write_all(ring->bell, &(const uint64_t){1}, sizeof(uint64_t));
	ring->rung = true;
}

/* There is room: no more than DISK_RING_LEN - 1 requests and the bell are in the ring. */
static struct io_uring_sqe *entry(struct disk_ring *ring)
{
	return io_uring_get_sqe(&ring->uring);
}

static void listen_for_bell(struct disk_ring *ring)
{
	struct io_uring_sqe *sqe = entry(ring);
	io_uring_prep_read(sqe, ring->bell, &ring->count, sizeof(ring->count), 0);
	io_uring_sqe_set_data(sqe, NULL);
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

static void finish(struct disk *disk, struct disk_request *r, int rc)
{
	pthread_mutex_lock(&disk->lock);
	r->rc = rc;
	disk_engine_done(disk, r);
	pthread_mutex_unlock(&disk->lock);
	disk->ring->busy--;
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
	finish(disk, r, another_way(r, rc) ? disk_file_do(disk, r) : rc);
}

static struct disk_request *take(struct disk *disk)
{
	pthread_mutex_lock(&disk->lock);
	disk->ring->rung = false;
	struct disk_request *r = disk_engine_take(disk);
	pthread_mutex_unlock(&disk->lock);
	return r;
}

/* What has come, as far as there is room. False: the disk is ending, and nothing is under way. */
static bool begin(struct disk *disk)
{
	struct disk_ring *ring = disk->ring;
	struct disk_request *r;
	while (ring->busy < DISK_RING_LEN - 1 && (r = take(disk))) {
		ring->busy++;
		/* Only a driver that never flushes wants two steps of one request. */
		if (r->through)
			finish(disk, r, disk_file_do(disk, r));
		else
			give_to_kernel(disk, r);
	}
	pthread_mutex_lock(&disk->lock);
	bool ending = disk->ending;
	pthread_mutex_unlock(&disk->lock);
	return !ending || ring->busy;
}

static void ring_work(struct disk *disk)
{
	struct disk_ring *ring = disk->ring;
	struct io_uring_cqe *cqe;
	unsigned head;
	listen_for_bell(ring);
	while (begin(disk)) {
		unsigned n = 0;
		io_uring_submit_and_wait(&ring->uring, 1);
		io_uring_for_each_cqe(&ring->uring, head, cqe)
		{
			struct disk_request *r = io_uring_cqe_get_data(cqe);
			n++;
			if (r)
				ended(disk, r, cqe->res);
			else
				listen_for_bell(ring);
		}
		io_uring_cq_advance(&ring->uring, n);
	}
}

static void ring_end(struct disk *disk)
{
	io_uring_queue_exit(&disk->ring->uring);
	close(disk->ring->bell);
	free(disk->ring);
	disk->ring = NULL;
}

const struct disk_engine disk_ring_engine = {
	.name = "io_uring",
	.threads = 1,
	.init = ring_init,
	.work = ring_work,
	.wake = ring_wake,
	.end = ring_end,
};
