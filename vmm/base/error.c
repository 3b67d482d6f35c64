/* SPDX-License-Identifier: MIT */
#include "vmm/base/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Where errors go that the caller does not want: so that error_hint() and the like still know the code
 * to return. */
static _Thread_local struct error unwanted;

static void set(struct error *err, int code, const char *fmt, va_list ap)
{
	err->code = code;
	err->exit = EXIT_INTERNAL;
	err->hint[0] = 0;
	vsnprintf(err->text, sizeof(err->text), fmt, ap);
}

int error_errno(struct error *err, int code, const char *fmt, ...)
{
	va_list ap;
	err = err ? err : &unwanted;
	va_start(ap, fmt);
	set(err, code, fmt, ap);
	va_end(ap);
	size_t n = strlen(err->text);
	snprintf(err->text + n, sizeof(err->text) - n, ": %s", strerror(code));
	return -code;
}

int error_set(struct error *err, int code, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	set(err ? err : &unwanted, code, fmt, ap);
	va_end(ap);
	return -code;
}

int error_hint(struct error *err, const char *fmt, ...)
{
	err = err ? err : &unwanted;
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(err->hint, sizeof(err->hint), fmt, ap);
	va_end(ap);
	return -err->code;
}

int error_prefix(struct error *err, const char *fmt, ...)
{
	err = err ? err : &unwanted;
	char prefix[200], text[sizeof(err->text)];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(prefix, sizeof(prefix), fmt, ap);
	va_end(ap);
	memcpy(text, err->text, sizeof(text));
	int n = snprintf(err->text, sizeof(err->text), "%s: ", prefix);
	if (n > 0 && (size_t)n < sizeof(err->text)) {
		size_t room = sizeof(err->text) - (size_t)n - 1, len = strnlen(text, room);
		memcpy(err->text + n, text, len);
		err->text[(size_t)n + len] = 0;
	}
	return -err->code;
}

int error_exit(struct error *err, enum exit_code exit)
{
	err = err ? err : &unwanted;
	err->exit = exit;
	return -err->code;
}
