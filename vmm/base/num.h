/* SPDX-License-Identifier: MIT */
/* Arithmetic on sizes and addresses, little-endian access, time. */
#pragma once

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#define KIB		 ((uint64_t)1 << 10)
#define MIB		 ((uint64_t)1 << 20)
#define GIB		 ((uint64_t)1 << 30)
#define PAGE_LEN	 ((uint64_t)4096)
#define NS_PER_MS	 ((uint64_t)1000000)
#define NS_PER_S	 ((uint64_t)1000000000)
#define ARRAY_LEN(a)	 (sizeof(a) / sizeof((a)[0]))
#define member_len(s, m) sizeof(((s *)0)->m)

/* @align is a power of two. align_up may wrap: check the input first. */
static inline uint64_t align_down(uint64_t v, uint64_t align)
{
	return v & ~(align - 1);
}

static inline uint64_t align_up(uint64_t v, uint64_t align)
{
	return (v + align - 1) & ~(align - 1);
}

static inline bool is_pow2(uint64_t v)
{
	return v && !(v & (v - 1));
}

/* Does [off, off + len) lie within [0, limit)? No overflow for any input. */
static inline bool range_fits(uint64_t off, uint64_t len, uint64_t limit)
{
	return off <= limit && len <= limit - off;
}

static inline bool ranges_overlap(uint64_t a, uint64_t alen, uint64_t b, uint64_t blen)
{
	return alen && blen && a - b < blen ? true : (alen && blen && b - a < alen);
}

/* Little-endian load/store of @len bytes (1 to 8). Hosts are little-endian (x86-64, arm64). */
static inline uint64_t load_le(const void *p, size_t len)
{
	uint64_t v = 0;
	uint32_t cell;
	switch (len) { /* by constant lengths: a call for each element takes most of the time of writing a state */
	case 1:
		return *(const uint8_t *)p;
	case 4:
		memcpy(&cell, p, 4);
		return cell;
	case 8:
		memcpy(&v, p, 8);
		return v;
	}
	memcpy(&v, p, len < 8 ? len : 8);
	return v;
}

static inline void store_le(void *p, uint64_t v, size_t len)
{
	uint32_t cell = (uint32_t)v;
	switch (len) {
	case 1:
		*(uint8_t *)p = (uint8_t)v;
		return;
	case 4:
		memcpy(p, &cell, 4);
		return;
	case 8:
		memcpy(p, &v, 8);
		return;
	}
	memcpy(p, &v, len < 8 ? len : 8);
}

static inline uint64_t clock_ns(clockid_t clock)
{
	struct timespec ts;
	clock_gettime(clock, &ts);
	return (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
}

/* CLOCK_MONOTONIC in ns: the same clock before and after exec. */
static inline uint64_t now_ns(void)
{
	return clock_ns(CLOCK_MONOTONIC);
}

/* CLOCK_BOOTTIME in seconds: it counts on while the host sleeps. */
static inline uint64_t boot_s(void)
{
	return clock_ns(CLOCK_BOOTTIME) / NS_PER_S;
}

/* Milliseconds until @until_ns (of now_ns), rounded up, as poll(2) takes them. 0: it is over. */
static inline int ms_until(uint64_t until_ns)
{
	uint64_t now = now_ns();
	uint64_t ms = until_ns > now ? (until_ns - now + NS_PER_MS - 1) / NS_PER_MS : 0;
	return ms < INT_MAX ? (int)ms : INT_MAX;
}
