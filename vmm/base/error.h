/* SPDX-License-Identifier: MIT */
/*
 * A function that can fail returns 0 or -errno and fills one struct error where it failed: what was
 * being done, on which object, why, and the remedy. Callers may prefix. Only the outermost layer
 * prints.
 */
#pragma once

/* Exit codes of the program, stable (molt(1)). */
enum exit_code {
	EXIT_POWEROFF = 0,
	EXIT_INTERNAL = 1,
	EXIT_USAGE = 2,
	EXIT_HOST = 3,	 /* host unfit: no KVM, no VFIO, memlock */
	EXIT_CONFIG = 4, /* bad configuration: files, sizes, devices */
	EXIT_RESET = 32,
	EXIT_CRASH = 33, /* triple fault */
	EXIT_PANIC = 34, /* the guest has said so (devices/pc/panic.c) */
	EXIT_REFUSED = 70,
};

struct error {
	int code;	     /* errno value, positive; 0: no error */
	enum exit_code exit; /* what the program ends with if this error ends it */
	char text[640];	     /* object and cause; no newline */
	char hint[640];	     /* remedy, may be empty */
};

/* Fills @err (may be NULL) with @code and a text, in which %m is strerror(@code); returns -code.
 * @exit: what the program ends with if this error ends it. */
int error_end(struct error *err, enum exit_code exit, int code, const char *fmt, ...)
	__attribute__((cold, format(printf, 4, 5)));

#define error_set(err, code, ...)	 error_end(err, EXIT_INTERNAL, code, __VA_ARGS__)
#define error_errno(err, code, fmt, ...) error_set(err, code, fmt ": %m", ##__VA_ARGS__)

/* Of a file that the user has named: EXIT_CONFIG, and the remedy that goes with @code. */
#define error_file(err, code, fmt, ...)                                                            \
	(error_end(err, EXIT_CONFIG, code, fmt ": %m", ##__VA_ARGS__), error_file_hint(err))
int error_file_hint(struct error *err) __attribute__((cold));

/* Adds the remedy; of EMFILE there is one already, which stays. Returns -err->code, or of this thread's last error when
 * @err is NULL. */
int error_hint(struct error *err, const char *fmt, ...) __attribute__((cold, format(printf, 2, 3)));

/* Puts "prefix: " before the text. Returns -err->code. */
int error_prefix(struct error *err, const char *fmt, ...)
	__attribute__((cold, format(printf, 2, 3)));

/* Sets the exit code this error stands for. Returns -err->code. */
int error_exit(struct error *err, enum exit_code exit) __attribute__((cold));
