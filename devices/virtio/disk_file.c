/* SPDX-License-Identifier: MIT */
/* The file or block device behind a disk. */
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include "devices/virtio/disk.h"
#include "vmm/base/users.h"

#define BOUNCE_ALIGN PAGE_LEN
#define BOUNCE_LEN   (1 * MIB) /* at most, whatever the guest asks for */
#define ZEROES_LEN   (256 * KIB)

static int in_use(const struct disk *disk, struct error *err)
{
	char users[FILE_USERS_LEN];
	file_users("/proc", disk->path, users, sizeof(users));
	error_end(err, EXIT_CONFIG, EBUSY, "disk %.300s is in use by %s", disk->path, users);
	return error_hint(err, disk->readonly
				       ? "end who writes to it, or give another file"
				       : "end that process, or give another file; several guests "
					 "may share one with ,ro");
}

/* Against other writers, and who writes against all others. Of the open file: it goes over updates, and ends with
 * the guest. */
static int lock(const struct disk *disk, int fd, struct error *err)
{
	struct flock whole = {.l_type = disk->readonly ? F_RDLCK : F_WRLCK, .l_whence = SEEK_SET};
	if (fcntl(fd, F_OFD_SETLK, &whole) == 0)
		return 0;
	if (errno == EAGAIN || errno == EACCES)
		return in_use(disk, err);
	error_end(err, EXIT_CONFIG, errno, "locking disk %.300s: %m", disk->path);
	return error_hint(err, "its file system must have locks (fcntl(2), F_OFD_SETLK)");
}

int disk_file_measure(const struct disk *disk, int fd, uint64_t *len, uint32_t *block,
		      struct error *err)
{
	struct stat st;
	int block_len = DISK_SECTOR;
	if (fstat(fd, &st) < 0)
		return error_file(err, errno, "disk %.300s", disk->path);
	*len = (uint64_t)st.st_size;
	if (S_ISBLK(st.st_mode) &&
	    (ioctl(fd, BLKGETSIZE64, len) < 0 || ioctl(fd, BLKSSZGET, &block_len) < 0))
		return error_file(err, errno, "size of disk %.300s", disk->path);
	*block = (uint32_t)block_len;
	if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode)) {
		error_end(err, EXIT_CONFIG, EINVAL,
			  "disk %.300s: neither a file nor a block device", disk->path);
		return error_hint(err, "give an image in raw format, or a block device");
	}
	if (!*len || *len % DISK_SECTOR) {
		error_end(err, EXIT_CONFIG, EINVAL,
			  "disk %.300s: its %llu bytes are no multiple of %d", disk->path,
			  (unsigned long long)*len, DISK_SECTOR);
		return error_hint(err, "truncate -s SIZE makes it longer");
	}
	return 0;
}

int disk_file_open(struct disk *disk, struct error *err)
{
	int flags = (disk->readonly ? O_RDONLY : O_RDWR) | (disk->direct ? O_DIRECT : 0);
	uint64_t len;
	/* Non-blocking: a FIFO is refused, not waited for. */
	fd_auto int fd = open(disk->path, flags | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	if (fd < 0 && disk->direct && errno == EINVAL) {
		error_end(err, EXIT_CONFIG, EINVAL,
			  "disk %.300s: its file system has no direct I/O", disk->path);
		return error_hint(err, "leave out ,direct");
	}
	if (fd < 0)
		return error_file(err, errno, "disk %.300s", disk->path);
	int rc = disk_file_measure(disk, fd, &len, &disk->state.block_len, err)
			 ?: lock(disk, fd, err);
	if (rc)
		return rc;
	/* To io_uring that means something for files as well. */
	rc = fd_set_nonblock(fd, false);
	if (rc)
		return error_errno(err, -rc, "disk %.300s", disk->path);
	if (disk->direct)
		disk_file_find_block(fd, &disk->state.block_len);
	disk->state.sectors = len / DISK_SECTOR;
	rc = fd;
	fd = -1;
	return rc;
}

/* ---- what the guest asks for ---- */

/* All of the buffers, in as many calls as it takes; or of @one in their place. */
static int transfer(const struct disk *disk, const struct disk_request *r, const struct iovec *one)
{
	struct iovec copy[VIRTIO_MAX_BUFFERS], *iov = copy;
	unsigned n = one ? 1 : r->niov;
	off_t off = (off_t)r->off;
	memcpy(copy, one ?: r->iov, n * sizeof(*copy));
	while (n) {
		ssize_t done = r->op == DISK_READ ? preadv(disk->fd, iov, (int)n, off)
						  : pwritev(disk->fd, iov, (int)n, off);
		if (done < 0 && errno == EINTR)
			continue;
		if (done <= 0) /* 0: the file has become shorter */
			return done ? -errno : -EIO;
		off += done;
		iov_cut_front(&iov, &n, (size_t)done);
	}
	return 0;
}

/* By way of @buf, in pieces of its length. A write of no buffers is of what @buf has. */
static int in_pieces(const struct disk *disk, const struct disk_request *r, void *buf, size_t size)
{
	struct disk_request part = {.op = r->op, .off = r->off};
	struct iovec rest[VIRTIO_MAX_BUFFERS], *iov = rest;
	unsigned n = r->niov;
	int rc = 0;
	for (unsigned i = 0; i < n; i++)
		rest[i] = r->iov[i];
	for (uint64_t left = r->len; !rc && left; left -= part.len, part.off += part.len) {
		part.len = left < size ? left : size;
		if (r->op == DISK_WRITE)
			iov_read(iov, n, buf, part.len);
		rc = transfer(disk, &part,
			      &(const struct iovec){.iov_base = buf, .iov_len = part.len});
		if (!rc && r->op == DISK_READ)
			iov_write(iov, n, buf, part.len);
		iov_cut_front(&iov, &n, part.len);
	}
	return rc;
}

/* Direct I/O wants memory that is aligned, of which a guest may know nothing. */
static int bounced(const struct disk *disk, const struct disk_request *r)
{
	void *buf;
	size_t size = r->len < BOUNCE_LEN ? r->len : BOUNCE_LEN;
	if (posix_memalign(&buf, BOUNCE_ALIGN, size))
		return -ENOMEM;
	int rc = in_pieces(disk, r, buf, size);
	free(buf);
	return rc;
}

static int read_or_write(const struct disk *disk, const struct disk_request *r)
{
	int rc = transfer(disk, r, NULL);
	return rc == -EINVAL && disk->direct ? bounced(disk, r) : rc;
}

static int flush(const struct disk *disk, const struct disk_request *r)
{
	int rc;
	do
		rc = fdatasync(disk->fd);
	while (rc < 0 && errno == EINTR);
	return rc < 0 ? -errno : 0;
}

int disk_file_mode(const struct disk_request *r)
{
	bool hole = r->op == DISK_DISCARD || r->may_unmap;
	return FALLOC_FL_KEEP_SIZE | (hole ? FALLOC_FL_PUNCH_HOLE : FALLOC_FL_ZERO_RANGE);
}

static int allocate(const struct disk *disk, const struct disk_request *r)
{
	int rc;
	do
		rc = fallocate(disk->fd, disk_file_mode(r), (off_t)r->off, (off_t)r->len);
	while (rc < 0 && errno == EINTR);
	return rc < 0 ? -errno : 0;
}

/* A hint: a file that cannot forget keeps what it has. */
static int discard(const struct disk *disk, const struct disk_request *r)
{
	int rc = allocate(disk, r);
	return rc == -EOPNOTSUPP ? 0 : rc;
}

static int write_zeroes(const struct disk *disk, const struct disk_request *r)
{
	static uint8_t zeroes[ZEROES_LEN] __attribute__((aligned(BOUNCE_ALIGN)));
	const struct disk_request write = {.op = DISK_WRITE, .off = r->off, .len = r->len};
	return in_pieces(disk, &write, zeroes, ZEROES_LEN);
}

/* What has no quick way writes them. */
static int zero(const struct disk *disk, const struct disk_request *r)
{
	int rc = allocate(disk, r);
	return rc == -EOPNOTSUPP ? write_zeroes(disk, r) : rc;
}

int disk_file_do(const struct disk *disk, const struct disk_request *r)
{
	static int (*const ops[DISK_OPS])(const struct disk *disk, const struct disk_request *r) = {
		[DISK_READ] = read_or_write, [DISK_WRITE] = read_or_write, [DISK_FLUSH] = flush,
		[DISK_DISCARD] = discard,    [DISK_ZERO] = zero,
	};
	int rc = ops[r->op](disk, r);
	return rc || !r->through ? rc : flush(disk, r);
}
