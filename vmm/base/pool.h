/* SPDX-License-Identifier: MIT */
/* Memory of the objects of a machine. Within the pause every mapping costs its time, and every page
 * that malloc looks at: so they come out of a room that the program has from its start, and of the
 * heap after that. */
#pragma once

#include <stddef.h>

#define POOL_ROOM (512u << 10) /* bytes; only what is used takes memory */

/* @n zeroed objects of @size bytes, for any type. NULL: no memory. Any thread. The caller's, until pool_free. */
void *pool_alloc(size_t n, size_t size);

/* Gives back what is the heap's; what is the room's goes with the program. NULL is allowed. */
void pool_free(void *object);
