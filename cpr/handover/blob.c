/* SPDX-License-Identifier: MIT */
/* The memfd that carries a state: filled by the incumbent, checked and mapped by the successor. */
#include "cpr/handover/blob.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "cpr/state/fdset.h"
#include "vmm/base/build.h"
#include "vmm/base/base.h"

/* Left out of core dumps: the guest's registers are in it. */
static void keep_out_of_dumps(void *map, size_t len)
{
	if (map)
		madvise(map, len, MADV_DONTDUMP);
}

/* Pages are made now: their first touch is most of the cost of writing (docs/kernel-facts.md). The memfd is never
 * mapped writable: a seal would not stop such a mapping, and taking it away costs more than a write. It keeps its
 * length from the start: the successor has it mapped. */
int blob_create(struct blob *b, const struct state_tree *tree, const struct fdset *fds,
		struct error *err)
{
	const int flags = MAP_PRIVATE | MAP_POPULATE;
	*b = (struct blob){.fd = -1, .size = state_size_bound(tree, fds)};
	b->fd = memfd_create("molt-state", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	/* fallocate, unlike a mapping, says so where there is not that much memory. */
	if (b->fd < 0 || fallocate(b->fd, 0, 0, (off_t)b->size) < 0 ||
	    fcntl(b->fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) < 0)
		return error_errno(err, errno, "state blob of %zu bytes", b->size);
	void *text = mmap(NULL, b->size, PROT_READ | PROT_WRITE, flags | MAP_ANONYMOUS, -1, 0);
	b->text = text == MAP_FAILED ? NULL : text;
	keep_out_of_dumps(b->text, b->size);
	return b->text ? 0 : error_errno(err, errno, "state blob of %zu bytes", b->size);
}

int blob_write(struct blob *b, const struct state_tree *tree, struct fdset *fds, struct error *err)
{
	struct state_header header = {0};
	snprintf(header.version, sizeof(header.version), "%s", build_version());
	snprintf(header.build_id, sizeof(header.build_id), "%s", build_id());
	int rc = state_save(tree, fds, &header, b->text, b->size, &b->len, err);
	if (rc)
		return rc;
	ssize_t n = pwrite(b->fd, b->text, b->len, 0);
	if (n != (ssize_t)b->len)
		return error_errno(err, n < 0 ? errno : EIO, "state blob: writing %zu bytes",
				   b->len);
	if (fcntl(b->fd, F_ADD_SEALS, BLOB_SEALS) < 0)
		return error_errno(err, errno, "state blob: sealing");
	return 0;
}

static int map_sealed(struct blob *b, int fd, int seals, struct error *err)
{
	struct stat st;
	*b = (struct blob){.fd = fd};
	int has = fcntl(fd, F_GET_SEALS);
	if (has < 0)
		return error_set(err, EBADMSG, "state blob: descriptor %d is no memfd", fd);
	if ((has & seals) != seals)
		return error_set(err, EBADMSG, "state blob: descriptor %d is no sealed memfd", fd);
	if (fstat(fd, &st) < 0 || st.st_size <= 0)
		return error_set(err, EBADMSG, "state blob: descriptor %d is empty", fd);
	b->size = b->len = (size_t)st.st_size;
	b->map = mmap(NULL, b->size, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, 0);
	if (b->map == MAP_FAILED) {
		b->map = NULL;
		return error_errno(err, errno, "state blob of %zu bytes", b->size);
	}
	keep_out_of_dumps(b->map, b->size);
	return 0;
}

int blob_adopt(struct blob *b, int fd, struct error *err)
{
	return map_sealed(b, fd, BLOB_SEALS, err);
}

/* The incumbent is not trusted: if it could shrink the file, reading the mapping would end this process (SIGBUS). */
int blob_expect(struct blob *b, int fd, struct error *err)
{
	return map_sealed(b, fd, F_SEAL_SHRINK, err);
}

int blob_arrived(struct blob *b, size_t len, struct error *err)
{
	int seals = fcntl(b->fd, F_GET_SEALS);
	if (seals < 0 || (seals & BLOB_SEALS) != BLOB_SEALS)
		return error_set(err, EBADMSG, "state blob: descriptor %d is not sealed", b->fd);
	if (!len || len > b->size)
		return error_set(err, EBADMSG, "state blob: %zu bytes of %zu", len, b->size);
	b->len = len;
	return 0;
}

void blob_close(struct blob *b)
{
	if (b->map)
		munmap(b->map, b->size);
	if (b->text) {
		explicit_bzero(b->text, b->size);
		munmap(b->text, b->size);
	}
	if (b->fd >= 0)
		close(b->fd);
	*b = (struct blob){.fd = -1};
}
