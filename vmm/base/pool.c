/* SPDX-License-Identifier: MIT */
/* Memory of the objects of a machine, out of a room that the program has from its start. */
#include "vmm/base/pool.h"

#include "vmm/base/base.h"

#ifdef MOLT_SANITIZED
#define ROOM_LEN 1
#else
#define ROOM_LEN POOL_ROOM
#endif
#define ALIGN _Alignof(max_align_t)

static _Alignas(max_align_t) uint8_t room[ROOM_LEN];
static size_t used;

void *pool_alloc(size_t n, size_t size)
{
	size_t len;
	if (__builtin_mul_overflow(n, size, &len))
		return NULL;
	if (len > ROOM_LEN)
		return calloc(n, size);
	len = len ? (len + ALIGN - 1) & ~(ALIGN - 1) : ALIGN;
	size_t at = __atomic_fetch_add(&used, len, __ATOMIC_RELAXED);
	return at <= ROOM_LEN && len <= ROOM_LEN - at ? room + at : calloc(n, size);
}

void pool_free(void *object)
{
	if ((uintptr_t)object - (uintptr_t)room >= ROOM_LEN)
		free(object);
}
