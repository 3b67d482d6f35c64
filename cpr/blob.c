/* SPDX-License-Identifier: MIT */
#include "cpr/blob.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cpr/fdset.h"
#include "vmm/base/error.h"

#define SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL)

int blob_create(struct blob *b, const struct state_tree *tree, const struct fdset *fds,
		struct error *err)
{
	*b = (struct blob){.fd = -1, .size = state_size_bound(tree, fds)};
	b->fd = memfd_create("molt-state", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (b->fd < 0 || ftruncate(b->fd, (off_t)b->size) < 0)
		return error_errno(err, errno, "state blob of %zu bytes", b->size);
	/* Pages made and mapped now: their first touch is most of the cost of writing (facts). */
	b->map = mmap(NULL, b->size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, b->fd, 0);
	if (b->map == MAP_FAILED) {
		b->map = NULL;
		return error_errno(err, errno, "state blob of %zu bytes", b->size);
	}
	return 0;
}

static int read_back(struct blob *b, const struct fdset *fds, struct error *err)
{
	struct state_blob parsed;
	int rc = state_open(&parsed, b->map, b->len, err);
	return rc ? rc : fdset_verify(fds, err);
}

int blob_write(struct blob *b, const struct state_tree *tree, struct fdset *fds,
	       const struct state_header *header, struct error *err)
{
	int rc = state_save(tree, fds, header, b->map, b->size, &b->len, err);
	munmap(b->map, b->size); /* F_SEAL_WRITE is EBUSY while it is mapped writable */
	b->map = NULL;
	if (rc)
		return rc;
	if (fcntl(b->fd, F_ADD_SEALS, SEALS) < 0)
		return error_errno(err, errno, "state blob: sealing");
	b->map = mmap(NULL, b->size, PROT_READ, MAP_PRIVATE, b->fd, 0);
	if (b->map == MAP_FAILED) {
		b->map = NULL;
		return error_errno(err, errno, "state blob: reading back");
	}
	return read_back(b, fds, err);
}

int blob_adopt(struct blob *b, int fd, struct error *err)
{
	struct stat st;
	*b = (struct blob){.fd = fd};
	int seals = fcntl(fd, F_GET_SEALS);
	if (seals < 0 || (seals & SEALS) != SEALS)
		return error_set(err, EBADMSG, "state blob: descriptor %d is no sealed memfd", fd);
	if (fstat(fd, &st) < 0 || st.st_size <= 0)
		return error_set(err, EBADMSG, "state blob: descriptor %d is empty", fd);
	b->size = b->len = (size_t)st.st_size;
	b->map = mmap(NULL, b->size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (b->map == MAP_FAILED) {
		b->map = NULL;
		return error_errno(err, errno, "state blob of %zu bytes", b->size);
	}
	return 0;
}

void blob_close(struct blob *b)
{
	if (b->map)
		munmap(b->map, b->size);
	if (b->fd >= 0)
		close(b->fd);
	*b = (struct blob){.fd = -1};
}
