/* SPDX-License-Identifier: MIT */
/* Log lines to standard error or a file, also from signal handlers and on a raw terminal. */
#include "vmm/base/log.h"

#include "vmm/base/base.h"

#include <fcntl.h>
#include <stdarg.h>
#include <time.h>

#define LINE_LEN 1600
#define HEAD_LEN 128 /* time, level, name */

static bool log_raw;
static char log_name[36];
static int log_fd = -1;
static bool log_cut; /* there was room for only a part of the file's last line */
static enum log_level log_most = LOG_LEVEL_INFO;
static __thread enum log_level last_level = LOG_LEVEL_INFO;

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

void log_set_level(enum log_level most)
{
	__atomic_store_n(&log_most, most, __ATOMIC_RELAXED);
}

/* dup3 replaces what the number stands for at once: no thread writes to somebody else's file. */
int log_set_file(int fd)
{
	if (log_fd >= 0)
		return dup3(fd, log_fd, O_CLOEXEC) < 0 ? -errno : 0;
	int own = fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
	if (own < 0)
		return -errno;
	__atomic_store_n(&log_fd, own, __ATOMIC_RELEASE);
	return 0;
}

int log_file(void)
{
	return log_fd;
}

void log_adopt(const char *name, int64_t level, int fd)
{
	for (const char *c = name; *c; c++)
		if (*c <= ' ' || *c > '~')
			return;
	if (level < 0 || level > LOG_LEVEL_INFO)
		return;
	log_set_name(name[0] ? name : NULL);
	log_set_level((enum log_level)level);
	if (fd >= 0)
		log_set_file(fd);
}

/* ---- one line, also in a signal handler: nothing of the C library that takes a lock ---- */

struct line {
	char text[LINE_LEN];
	size_t len;
};

/* Leaves room for CR LF. */
static void put_text(struct line *l, const char *text)
{
	while (*text && l->len < sizeof(l->text) - 2)
		l->text[l->len++] = *text++;
}

static void put_number(struct line *l, unsigned value, unsigned digits)
{
	char text[12] = {0};
	for (unsigned i = digits; i-- > 0; value /= 10)
		text[i] = (char)('0' + value % 10);
	put_text(l, text);
}

/* @month: 0 to 11. Gregorian. */
static unsigned month_days(unsigned year, unsigned month)
{
	static const uint8_t days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
	bool leap = !(year % 4) && (year % 100 || !(year % 400));
	return days[month] + (month == 1 && leap);
}

/* UTC to the millisecond (ISO 8601). */
static void put_time(struct line *l)
{
	struct timespec now;
	clock_gettime(CLOCK_REALTIME, &now);
	unsigned days = (unsigned)(now.tv_sec / 86400), seconds = (unsigned)(now.tv_sec % 86400);
	unsigned year = 1970, month = 0;
	while (days >= month_days(year, month)) {
		days -= month_days(year, month);
		year += month == 11;
		month = (month + 1) % 12;
	}
	const struct {
		unsigned value, digits;
		const char *after;
	} parts[] = {
		{year, 4, "-"},
		{month + 1, 2, "-"},
		{days + 1, 2, "T"},
		{seconds / 3600, 2, ":"},
		{seconds / 60 % 60, 2, ":"},
		{seconds % 60, 2, "."},
		{(unsigned)(now.tv_nsec / 1000000), 3, "Z "},
	};
	for (unsigned i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		put_number(l, parts[i].value, parts[i].digits);
		put_text(l, parts[i].after);
	}
}

static void put_head(struct line *l)
{
	put_text(l, "molt");
	put_text(l, log_name);
	put_text(l, ": ");
}

static ssize_t write_line(struct line *l, int fd, bool raw)
{
	if (raw)
		l->text[l->len++] = '\r';
	l->text[l->len++] = '\n';
	return write(fd, l->text, l->len);
}

static void to_stderr(enum log_level level, const char *text)
{
	static const char *const words[] = {"error: ", "warning: ", ""};
	struct line l = {.len = 0};
	put_head(&l);
	if (text[0] != ' ')
		put_text(&l, words[level]);
	put_text(&l, text);
	write_line(&l, STDERR_FILENO, __atomic_load_n(&log_raw, __ATOMIC_RELAXED));
}

static bool to_file(int fd, enum log_level level, const char *text)
{
	static const char *const words[] = {"error ", "warning ", "info "};
	struct line l = {.len = 0};
	if (__atomic_load_n(&log_cut, __ATOMIC_RELAXED))
		put_text(&l, "\n");
	put_time(&l);
	put_text(&l, words[level]);
	put_head(&l);
	put_text(&l, text);
	ssize_t n = write_line(&l, fd, false);
	if (n > 0)
		__atomic_store_n(&log_cut, n < (ssize_t)l.len, __ATOMIC_RELAXED);
	return n == (ssize_t)l.len;
}

static void put_line(enum log_level level, const char *text)
{
	int saved = errno, fd = __atomic_load_n(&log_fd, __ATOMIC_ACQUIRE);
	if (text[0] == ' ')
		level = last_level;
	last_level = level;
	if (level > __atomic_load_n(&log_most, __ATOMIC_RELAXED))
		return;
	if (fd < 0 || !to_file(fd, level, text) || level == LOG_LEVEL_ERROR)
		to_stderr(level, text);
	errno = saved;
}

void log_signal(const char *text)
{
	put_line(LOG_LEVEL_ERROR, text);
}

static void emit(enum log_level level, const char *fmt, va_list ap)
{
	char text[LINE_LEN - HEAD_LEN];
	vsnprintf(text, sizeof(text), fmt, ap);
	put_line(level, text);
}

static void error_line(const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	emit(LOG_LEVEL_ERROR, fmt, ap);
	va_end(ap);
}

void log_info(const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	emit(LOG_LEVEL_INFO, fmt, ap);
	va_end(ap);
}

void log_warn(const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	emit(LOG_LEVEL_WARNING, fmt, ap);
	va_end(ap);
}

void log_error(const struct error *err)
{
	error_line("%s", err->text);
	if (err->hint[0])
		error_line("  remedy: %s", err->hint);
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
