/* SPDX-License-Identifier: MIT */
/* Which stretches of guest memory's file are there. */
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "vmm/ram.h"
#include "vmm/warm.h"

/* Of a file system on persistent memory, whose pages are in no page cache? By statx(2), whose header C libraries
 * lack, or have in their own way: stx_attributes is its second eight bytes (linux/stat.h; 5.8). */
#define STATX_LEN 256
#define ATTR_DAX  0x00200000u
static bool is_dax(int fd)
{
	uint64_t stx[STATX_LEN / 8] = {0};
	return !syscall(SYS_statx, fd, "", AT_EMPTY_PATH, 0, stx) && stx[1] & ATTR_DAX;
}

void warm_map_init(struct warm_map *map, const struct ram *ram, bool pinned)
{
	struct stat st = {0};
	*map = (struct warm_map){.fd = ram->fd, .size = ram->state.size};
	bool known = !fstat(ram->fd, &st);
	/* Files of huge pages and device DAX have all their pages from the start (ram_create), but lseek() does not
	 * tell: it fails, or says that all is data, or a hole. */
	map->whole = pinned || ram->state.page_len > PAGE_LEN || !S_ISREG(st.st_mode);
	if (!known || map->whole)
		return;
	map->look = !is_dax(ram->fd);
	/* A file that has blocks but says that all of it is a hole does not tell either. mincore does. */
	map->whole = st.st_blocks && lseek(ram->fd, 0, SEEK_DATA) < 0 && map->look;
}

static uint64_t clip(off_t at, uint64_t size)
{
	return at < 0 || (uint64_t)at > size ? size : (uint64_t)at;
}

bool warm_map_next(const struct warm_map *map, uint64_t at, uint64_t *off, uint64_t *len)
{
	uint64_t from = at, to = map->size;
	if (at >= map->size)
		return false;
	if (!map->whole) {
		off_t data = lseek(map->fd, (off_t)at, SEEK_DATA);
		if (data < 0) /* ENXIO: there is no more data. Other errors: the rest stays cold */
			return false;
		from = align_down(clip(data, map->size), PAGE_LEN);
		off_t hole = from < map->size ? lseek(map->fd, data, SEEK_HOLE) : -1;
		to = align_up(clip(hole, map->size), PAGE_LEN);
		if (from < at)
			from = at;
		if (to > map->size)
			to = map->size;
	}
	*off = from;
	*len = to > from ? to - from : 0;
	return *len;
}

uint64_t warm_map_total(const struct warm_map *map)
{
	uint64_t sum = 0, off, len;
	for (uint64_t at = 0; warm_map_next(map, at, &off, &len); at = off + len)
		sum += len;
	return sum;
}
