/* SPDX-License-Identifier: MIT */
/* molt-counted: linked over malloc and its kin (--wrap), so that each use of them is a system call as
 * well, which a tracer sees. */
#include <stdlib.h>
#include <unistd.h>

#include "tests/guest/runner/calls.h"

/* The linker's names: ld(1), --wrap. */
void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t size);

void *__wrap_malloc(size_t size)
{
	syscall(CALLS_MALLOC, 0);
	return __real_malloc(size);
}

void *__wrap_calloc(size_t n, size_t size)
{
	syscall(CALLS_MALLOC, 0);
	return __real_calloc(n, size);
}

void *__wrap_realloc(void *p, size_t size)
{
	syscall(CALLS_MALLOC, 0);
	return __real_realloc(p, size);
}
