/* SPDX-License-Identifier: MIT */
/* In which blocks a disk's file is read and written when that is done direct. */
#include <fcntl.h>
#include <linux/stat.h> /* whole, and not beside the C library's <sys/stat.h> */
#include <sys/syscall.h>

#include "devices/virtio/disk.h"

/* What the file system says (Linux 6.1, not of all). 0: nothing. */
static uint32_t said(int fd)
{
	struct statx st = {0};
	if (syscall(SYS_statx, fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &st) ||
	    !(st.stx_mask & STATX_DIOALIGN))
		return 0;
	return st.stx_dio_offset_align;
}

/* Else it is tried, which tells nothing of a hole. A block device has told its own (BLKSSZGET). */
void disk_file_find_block(int fd, uint32_t *block)
{
	static uint8_t buf[PAGE_LEN] __attribute__((aligned(PAGE_LEN)));
	uint32_t len = said(fd);
	if (len > *block && is_pow2(len) && len <= sizeof(buf))
		*block = len;
	while (*block < sizeof(buf) && pread(fd, buf, *block, 0) < 0 && errno == EINVAL)
		*block *= 2;
}
