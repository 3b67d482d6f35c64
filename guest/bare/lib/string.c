/* SPDX-License-Identifier: MIT */
/* What the compiler expects to exist. */
#include "guest.h"

void *memcpy(void *to, const void *from, size_t len)
{
	void *d = to;
	__asm__ volatile("rep movsb" : "+D"(d), "+S"(from), "+c"(len) : : "memory");
	return to;
}

void *memset(void *to, int c, size_t len)
{
	void *d = to;
	__asm__ volatile("rep stosb" : "+D"(d), "+c"(len) : "a"(c) : "memory");
	return to;
}

int memcmp(const void *a, const void *b, size_t len)
{
	const uint8_t *x = a, *y = b;

	for (; len; len--, x++, y++)
		if (*x != *y)
			return *x - *y;
	return 0;
}

size_t strlen(const char *s)
{
	size_t n = 0;

	while (s[n])
		n++;
	return n;
}
