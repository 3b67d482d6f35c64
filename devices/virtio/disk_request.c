/* SPDX-License-Identifier: MIT */
/* What the guest asks of a disk (VIRTIO 1.2, 5.2.6): judged here, done by a back-end. */
#include "devices/virtio/disk.h"
#include "vmm/machine.h"

#define PENDING -1 /* in the place of a status: a back-end is to do it */

static struct disk *disk_of(struct virtio_dev *v)
{
	return (struct disk *)v->owner;
}

static void put_back(struct disk *disk, struct disk_request *r)
{
	r->busy = false;
	r->next = disk->free;
	disk->free = r;
}

/* @written: bytes of the buffers, beside the status. */
static void give_back(struct disk *disk, struct disk_request *r, uint8_t status, uint64_t written)
{
	*r->status = status;
	virtq_push(&disk->virtio, r->q, r->chain.head, (uint32_t)written + 1);
	put_back(disk, r);
}

/* What a machine that is ending has, the next boot may have by then. */
void disk_request_done(struct disk *disk, struct disk_request *r)
{
	static const char *const what[DISK_OPS] = {[DISK_READ] = "reading",
						   [DISK_WRITE] = "writing",
						   [DISK_FLUSH] = "flushing",
						   [DISK_DISCARD] = "discarding",
						   [DISK_ZERO] = "zeroing"};
	if (disk->ending)
		return;
	if (r->rc && log_guest_ok(&disk->complaints, 20))
		log_warn("%s: %s at byte %llu: %s; the guest gets an error", disk->dev.name,
			 what[r->op], (unsigned long long)r->off, strerror(-r->rc));
	give_back(disk, r, r->rc ? VIRTIO_BLK_S_IOERR : VIRTIO_BLK_S_OK,
		  !r->rc && r->op == DISK_READ ? r->len : 0);
	disk->bytes -= r->len;
}

void disk_requests_notify(struct disk *disk)
{
	for (unsigned q = 0; q < disk->virtio.queues; q++)
		virtq_notify(&disk->virtio, q);
}

/* Sectors [first, first + len / DISK_SECTOR) of the disk as a range of the file, which must not be empty. */
static int range(const struct disk *disk, struct disk_request *r, uint64_t first, uint64_t len)
{
	if (!len || len % DISK_SECTOR || len > DISK_REQUEST_MAX ||
	    !range_fits(first, len / DISK_SECTOR, disk->state.sectors))
		return VIRTIO_BLK_S_IOERR;
	r->off = first * DISK_SECTOR;
	r->len = len;
	return PENDING;
}

/* Discard and write zeroes: one segment, as the configuration says. @out: the data of the request. */
static int start_range(struct disk *disk, struct disk_request *r, const struct iovec *out,
		       unsigned n)
{
	struct virtio_blk_discard_write_zeroes seg;
	if (iov_size(out, n) != sizeof(seg))
		return VIRTIO_BLK_S_IOERR;
	iov_read(out, n, &seg, sizeof(seg));
	/* Only zeroing has a flag (5.2.6.2). */
	if (seg.flags & ~(r->op == DISK_ZERO ? VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP : 0u))
		return VIRTIO_BLK_S_UNSUPP;
	r->may_unmap = seg.flags;
	return range(disk, r, seg.sector, (uint64_t)seg.num_sectors * DISK_SECTOR);
}

static int get_id(const struct disk *disk, const struct iovec *in, unsigned n, uint64_t *written)
{
	char id[DISK_ID_LEN] = {0};
	memcpy(id, disk->serial, strnlen(disk->serial, sizeof(id)));
	*written = iov_write(in, n, id, sizeof(id));
	return *written ? VIRTIO_BLK_S_OK : VIRTIO_BLK_S_IOERR;
}

/* A status, with *@written bytes of data; or PENDING. */
static int judge(struct disk *disk, struct disk_request *r, uint64_t *written)
{
	struct iovec *out = r->chain.iov, *in = out + r->chain.out;
	unsigned nout = r->chain.out, nin = r->chain.in;
	struct virtio_blk_outhdr head;
	if (iov_read(out, nout, &head, sizeof(head)) != sizeof(head))
		return VIRTIO_BLK_S_IOERR;
	iov_cut_front(&out, &nout, sizeof(head));
	iov_cut_back(in, &nin, 1);
	bool writes = head.type != VIRTIO_BLK_T_IN && head.type != VIRTIO_BLK_T_GET_ID &&
		      head.type != VIRTIO_BLK_T_FLUSH;
	if (writes && disk->readonly)
		return VIRTIO_BLK_S_IOERR;
	/* A driver that will never flush relies on each write (5.2.6.2). */
	r->through = writes && !(disk->state.virtio.features >> VIRTIO_BLK_F_FLUSH & 1);
	switch (head.type) {
	case VIRTIO_BLK_T_IN:
		r->op = DISK_READ;
		r->iov = in;
		r->niov = nin;
		break;
	case VIRTIO_BLK_T_OUT:
		r->op = DISK_WRITE;
		r->iov = out;
		r->niov = nout;
		break;
	case VIRTIO_BLK_T_FLUSH:
		r->op = DISK_FLUSH;
		r->off = r->len = 0;
		return PENDING;
	case VIRTIO_BLK_T_DISCARD:
	case VIRTIO_BLK_T_WRITE_ZEROES:
		r->op = head.type == VIRTIO_BLK_T_DISCARD ? DISK_DISCARD : DISK_ZERO;
		return start_range(disk, r, out, nout);
	case VIRTIO_BLK_T_GET_ID:
		return get_id(disk, in, nin, written);
	default:
		return VIRTIO_BLK_S_UNSUPP;
	}
	return range(disk, r, head.sector, iov_size(r->iov, r->niov));
}

static uint8_t *status_of(const struct virtq_chain *chain)
{
	const struct iovec *last = &chain->iov[chain->out + chain->in - 1];
	return chain->in ? (uint8_t *)last->iov_base + last->iov_len - 1 : NULL;
}

/* False: it was answered. */
static bool start(struct disk *disk, struct disk_request *r)
{
	uint64_t written = 0;
	r->busy = true;
	r->moved = 0;
	r->since_ns = now_ns();
	r->status = status_of(&r->chain);
	if (!r->status) {
		virtio_broken(&disk->virtio, "a request has no room for its status");
		virtq_push(&disk->virtio, r->q, r->chain.head, 0);
		put_back(disk, r);
		return false;
	}
	int status = judge(disk, r, &written);
	if (status != PENDING) {
		give_back(disk, r, (uint8_t)status, written);
		return false;
	}
	disk->bytes += r->len;
	return true;
}

/* What is left when there is no room is looked at when something is done. */
static struct disk_request *take_from(struct disk *disk, unsigned q)
{
	struct virtio_dev *v = &disk->virtio;
	struct disk_request *r;
	unsigned answered = 0;
	while (disk->bytes < DISK_REQUEST_MAX && (r = disk->free) && virtq_pop(v, q, &r->chain)) {
		disk->free = r->next;
		r->q = q;
		if (start(disk, r))
			return r;
		/* A guest that offers on and on does not keep the lock from others. */
		if (++answered == VIRTIO_QUEUE_SIZE) {
			virtio_look_again(v, q);
			break;
		}
	}
	return NULL;
}

/* Each queue is the first in turn, so that none takes all the room. */
struct disk_request *disk_request_take(struct disk *disk)
{
	struct virtio_dev *v = &disk->virtio;
	struct disk_request *r = NULL;
	for (unsigned i = 0; !r && i < v->queues; i++) {
		unsigned q = (disk->turn + i) % v->queues;
		r = take_from(disk, q);
		virtq_notify(v, q);
	}
	if (r)
		disk->turn = (r->q + 1) % v->queues;
	return r;
}

void disk_oldest(struct virtio_dev *v, char *text, size_t size)
{
	static const char *const what[DISK_OPS] = {[DISK_READ] = "a read",
						   [DISK_WRITE] = "a write",
						   [DISK_FLUSH] = "a flush",
						   [DISK_DISCARD] = "a discard",
						   [DISK_ZERO] = "a write of zeroes"};
	const struct disk *disk = disk_of(v);
	const struct disk_request *oldest = NULL;
	for (unsigned i = 0; i < disk_room(disk); i++) {
		const struct disk_request *r = &disk->requests[i];
		if (r->busy && (!oldest || r->since_ns < oldest->since_ns))
			oldest = r;
	}
	if (oldest)
		snprintf(text, size, "%s of %llu bytes at byte %llu, since %llu ms",
			 what[oldest->op], (unsigned long long)oldest->len,
			 (unsigned long long)oldest->off,
			 (unsigned long long)((now_ns() - oldest->since_ns) / 1000000));
}
