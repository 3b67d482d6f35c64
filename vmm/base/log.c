/* SPDX-License-Identifier: MIT */
/* Log lines to standard error, also from signal handlers and on a raw terminal. */
#include "vmm/base/log.h"

#include "vmm/base/base.h"

#include <stdarg.h>

static bool log_raw;
static char log_name[36];

void log_set_raw(bool raw)
{
	__atomic_store_n(&log_raw, raw, __ATOMIC_RELAXED);
}

void log_set_name(const char *name)
{
	if (name)
		snprintf(log_name, sizeof(log_name), "[%.32s]", name);
	else
		log_name[0] = 0;
}

/* Ends the line, which has room for two more, and writes it at once. */
static void put_line(char *line, size_t len)
{
	if (__atomic_load_n(&log_raw, __ATOMIC_RELAXED))
		line[len++] = '\r';
	line[len++] = '\n';
	ssize_t ignored = write(STDERR_FILENO, line, len);
	(void)ignored;
}

static void emit(const char *level, const char *fmt, va_list ap)
{
	char line[1600];
	int n = snprintf(line, sizeof(line), "molt%s: %s", log_name, level);
	int k = vsnprintf(line + n, sizeof(line) - (size_t)n - 2, fmt, ap);
	size_t len = (size_t)n + (k > 0 ? (size_t)k : 0);
	put_line(line, len < sizeof(line) - 3 ? len : sizeof(line) - 3);
}

void log_signal(const char *text)
{
	char line[600];
	const char *parts[] = {"molt", log_name, ": ", text};
	size_t len = 0;
	for (unsigned i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
		for (const char *c = parts[i]; *c && len < sizeof(line) - 2; c++)
			line[len++] = *c;
	put_line(line, len);
}

void log_info(const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	emit("", fmt, ap);
	va_end(ap);
}

void log_warn(const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	emit("warning: ", fmt, ap);
	va_end(ap);
}

void log_error(const struct error *err)
{
	log_info("error: %s", err->text);
	if (err->hint[0])
		log_info("  remedy: %s", err->hint);
}

bool log_guest_ok(unsigned *counter, unsigned burst)
{
	unsigned n = __atomic_fetch_add(counter, 1, __ATOMIC_RELAXED);
	if (n >= burst) {
		__atomic_store_n(counter, burst, __ATOMIC_RELAXED);
		return false;
	}
	if (n + 1 == burst)
		log_warn("further messages like the next one are not shown");
	return true;
}
