/* SPDX-License-Identifier: MIT */
/* The page that incumbent and successor share: the word that says who owns the guest, and the time stamps. */
#include "cpr/handover/page.h"
#include "vmm/base/base.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

static struct handover *map(int fd, struct error *err)
{
	void *p = mmap(NULL, PAGE_LEN, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (p != MAP_FAILED)
		return p;
	error_errno(err, errno, "handover page");
	return NULL;
}

struct handover *handover_new(int *fd, struct error *err)
{
	fd_auto int memfd = memfd_create("molt-handover", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (memfd < 0 || ftruncate(memfd, PAGE_LEN) < 0 ||
	    fcntl(memfd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) < 0) {
		error_errno(err, errno, "handover page");
		return NULL;
	}
	struct handover *h = map(memfd, err);
	if (h) {
		*fd = memfd;
		memfd = -1;
	}
	return h;
}

struct handover *handover_map(int fd, struct error *err)
{
	struct stat st;
	int seals = fcntl(fd, F_GET_SEALS);
	if (seals < 0 || !(seals & F_SEAL_SHRINK) || fstat(fd, &st) < 0 ||
	    st.st_size != (off_t)PAGE_LEN) {
		error_set(err, EBADF, "handover page: descriptor %d is not it", fd);
		return NULL;
	}
	return map(fd, err);
}

void handover_unmap(struct handover *h)
{
	if (h)
		munmap(h, PAGE_LEN);
}

void handover_stamp(struct handover *h, enum handover_stamp which)
{
	h->stamps[which] = now_ns();
}

void handover_hold(uint32_t ms)
{
	struct timespec ts = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L};
	if (ms)
		nanosleep(&ts, NULL);
}

enum handover_owner handover_owner(const struct handover *h)
{
	return __atomic_load_n(&h->owner, __ATOMIC_SEQ_CST);
}

bool handover_decide(struct handover *h, enum handover_owner owner)
{
	uint32_t open = HANDOVER_OPEN;
	return __atomic_compare_exchange_n(&h->owner, &open, (uint32_t)owner, false,
					   __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}
