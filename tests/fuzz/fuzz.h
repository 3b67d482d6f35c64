/* SPDX-License-Identifier: MIT */
/*
 * What the fuzz targets share: reading the input, a clock, and a log that keeps account of what a
 * guest can make molt say. They take the place of vmm/base/log.c and (--wrap) clock_gettime, so one
 * file of a target includes this.
 */
#ifndef MOLT_FUZZ_H
#define MOLT_FUZZ_H

#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/base/error.h"
#include "vmm/base/log.h"
#include "vmm/base/num.h"

/* The fakes of the unit tests, included after this, hold more than each target uses. */
#pragma GCC diagnostic ignored "-Wunused-function"

/* libFuzzer's entry points (llvm.org/docs/LibFuzzer.html). */
int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

/* A property of molt that must hold whatever the input is. */
#define fuzz_expect(cond, ...)                                                                     \
	do {                                                                                       \
		if (!(cond)) {                                                                     \
			fprintf(stderr, "%s:%d: not so: %s: ", __FILE__, __LINE__, #cond);         \
			fprintf(stderr, __VA_ARGS__);                                              \
			fputc('\n', stderr);                                                       \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

/* ---- the input: what is beyond its end reads as zero ---- */

struct input {
	const uint8_t *p;
	size_t n;
};

static inline void input_bytes(struct input *in, void *out, size_t len)
{
	size_t n = len < in->n ? len : in->n;
	memset(out, 0, len);
	memcpy(out, in->p, n);
	in->p += n;
	in->n -= n;
}

/* A little-endian number of @len bytes, at most 8. */
static inline uint64_t input_num(struct input *in, size_t len)
{
	uint8_t raw[8] = {0};
	input_bytes(in, raw, len);
	return load_le(raw, 8);
}

static inline unsigned input_u8(struct input *in)
{
	return (unsigned)input_num(in, 1);
}

/* A number below @n takes this many bytes. */
static inline size_t input_width(unsigned n)
{
	return n > 65536 ? 4 : n > 256 ? 2 : 1;
}

static inline unsigned input_below(struct input *in, unsigned n)
{
	return n ? (unsigned)input_num(in, input_width(n)) % n : 0;
}

/* ---- time: the same in every run ---- */

int __wrap_clock_gettime(clockid_t id, struct timespec *ts);
static uint64_t fuzz_time_ns = 1000000000000;

int __wrap_clock_gettime(clockid_t id, struct timespec *ts)
{
	fuzz_time_ns += 12345;
	*ts = (struct timespec){(time_t)(fuzz_time_ns / 1000000000),
				(long)(fuzz_time_ns % 1000000000)};
	return 0;
}

/* ---- the log ---- */

static struct {
	bool guest;	 /* what happens now is the guest's doing */
	unsigned budget; /* lines that log_guest_ok has allowed: a message and its remedy */
} fuzz_log;

/* The guest does one thing. What log_guest_ok allowed for the one before is forgotten. */
static void fuzz_guest_acts(void)
{
	fuzz_log.guest = true;
	fuzz_log.budget = 0;
}

bool log_guest_ok(unsigned *counter, unsigned burst)
{
	if (*counter >= burst)
		return false;
	++*counter;
	fuzz_log.budget = 2;
	return true;
}

__attribute__((format(printf, 1, 0))) static void fuzz_said(const char *fmt, va_list ap)
{
	char line[2048];
	vsnprintf(line, sizeof(line), fmt, ap);
	fuzz_expect(!fuzz_log.guest || fuzz_log.budget, "a guest makes this said without limit: %s",
		    line);
	fuzz_log.budget -= fuzz_log.guest;
}

void log_info(const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	fuzz_said(fmt, ap);
	va_end(ap);
}

void log_warn(const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	fuzz_said(fmt, ap);
	va_end(ap);
}

void log_error(const struct error *err)
{
	log_info("error: %s", err->text);
	if (err->hint[0])
		log_info("  remedy: %s", err->hint);
}

void log_signal(const char *text)
{
}

void log_set_raw(bool raw)
{
}

void log_set_name(const char *name)
{
}

void log_set_level(enum log_level most)
{
}

int log_set_file(int fd)
{
	return 0;
}

int log_file(void)
{
	return -1;
}

void log_adopt(const char *name, int64_t level, int fd)
{
}

#endif
