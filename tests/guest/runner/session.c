/* SPDX-License-Identifier: MIT */
#include "tests/guest/runner/session.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/guest/cases/cases.h"

#define UPDATE_DEADLINE_MS 20000
#define END_DEADLINE_MS	   10000
#define SETTLED_EACH	   7 /* updates; odd: they go to and fro between two files */

uint64_t clock_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

uint64_t host_tsc(void)
{
	uint32_t lo, hi;

	__asm__ volatile("lfence; rdtsc; lfence" : "=a"(lo), "=d"(hi) : : "memory");
	return (uint64_t)hi << 32 | lo;
}

uint64_t session_random(struct session *s, uint64_t below)
{
	s->random ^= s->random << 13;
	s->random ^= s->random >> 7;
	s->random ^= s->random << 17;
	return below ? s->random % below : 0;
}

int session_fail(struct session *s, const char *fmt, ...)
{
	va_list ap;

	if (s->error[0])
		return -1; /* the first reason counts */
	va_start(ap, fmt);
	vsnprintf(s->error, sizeof(s->error), fmt, ap);
	va_end(ap);
	return -1;
}

/* Puts program file A or B where molt was started from, as a package upgrade does. */
int session_install(struct session *s, bool b)
{
	char from[160], tmp[160];

	snprintf(from, sizeof(from), "%s/molt.%c", s->dir, b ? 'b' : 'a');
	snprintf(tmp, sizeof(tmp), "%s/molt.new", s->dir);
	unlink(tmp); /* left there when both names were the same file */
	if (link(from, tmp) || rename(tmp, s->program))
		return session_fail(s, "install %s as %s: %s", from, s->program, strerror(errno));
	return 0;
}

bool session_alive(struct session *s)
{
	if (!s->exited && waitpid(s->pid, &s->status, WNOHANG) == s->pid)
		s->exited = true;
	return !s->exited;
}

int session_send(struct session *s, const char *bytes, size_t len)
{
	return write(s->in, bytes, len) == (ssize_t)len
		       ? 0
		       : session_fail(s, "write to the console: %s", strerror(errno));
}

/* Cuts the next line out of the buffer into s->line. */
static bool line_cut(struct session *s)
{
	char *end = memchr(s->buf, '\n', s->len);

	if (!end)
		return false;
	size_t n = (size_t)(end - s->buf);
	size_t keep = n < SESSION_LINE - 1 ? n : SESSION_LINE - 1;
	memcpy(s->line, s->buf, keep);
	s->line[keep] = 0;
	if (keep && s->line[keep - 1] == '\r')
		s->line[keep - 1] = 0;
	s->len -= n + 1;
	memmove(s->buf, end + 1, s->len);
	memcpy(s->tail[s->lines++ % SESSION_TAIL], s->line, SESSION_LINE);
	if (s->set->verbose)
		printf("    | %s\n", s->line);
	return true;
}

/* Waits up to @ms for output. Returns whether something came (end of file included). */
static bool output_read(struct session *s, int ms)
{
	struct pollfd p = {s->out, POLLIN, 0};

	if (poll(&p, 1, ms) <= 0)
		return false;
	ssize_t n = read(s->out, s->buf + s->len, sizeof(s->buf) - s->len);
	if (n > 0)
		s->len += (size_t)n;
	return n >= 0;
}

/* The child is gone: what the guest said last is the better reason, where it failed. */
static int session_dead(struct session *s)
{
	for (bool more = true; more;) {
		bool read = output_read(s, 0);
		for (more = false; line_cut(s); more = read)
			if (!strncmp(s->line, "FAIL", 4))
				return session_fail(s, "guest: %s", s->line);
	}
	if (WIFSIGNALED(s->status))
		return session_fail(s, "molt was ended by signal %d", WTERMSIG(s->status));
	return session_fail(s, "molt ended early with exit code %d", WEXITSTATUS(s->status));
}

int session_line(struct session *s, unsigned ms)
{
	uint64_t until = clock_ns() + (uint64_t)ms * 1000000;

	for (;;) {
		while (line_cut(s)) {
			if (s->on_line && s->on_line(s, s->line)) {
				if (s->error[0])
					return -1;
				continue;
			}
			if (!strncmp(s->line, "FAIL", 4))
				return session_fail(s, "guest: %s", s->line);
			if (s->line[0] && s->line[0] != '#')
				return 1;
		}
		uint64_t now = clock_ns();
		if (now >= until)
			return 0;
		/* One last read after the end: what the pipe holds still counts. */
		bool alive = session_alive(s);
		uint64_t left_ms = (until - now + 999999) / 1000000;
		if (s->on_poll && s->on_poll(s))
			return -1;
		if (left_ms > (s->on_poll ? 1 : 100))
			left_ms = s->on_poll ? 1 : 100;
		if (!output_read(s, alive ? (int)left_ms : 0) && !alive)
			return session_dead(s);
		if (!alive && !memchr(s->buf, '\n', s->len))
			return session_dead(s);
	}
}

int session_expect(struct session *s, const char *start, unsigned ms)
{
	int rc = session_line(s, ms * s->set->slow);

	if (rc < 0)
		return -1;
	if (rc == 0)
		return session_fail(s, "no '%s' within %u ms", start, ms * s->set->slow);
	if (strncmp(s->line, start, strlen(start)))
		return session_fail(s, "expected '%s', got '%s'", start, s->line);
	return 0;
}

int session_ask(struct session *s, char byte, const char *start)
{
	return session_send(s, &byte, 1) ? -1 : session_expect(s, start, 20000);
}

int session_wait_us(struct session *s, uint64_t us)
{
	uint64_t until = clock_ns() + us * 1000;

	for (;;) {
		uint64_t now = clock_ns();
		if (now >= until)
			return 0;
		uint64_t left = until - now;
		if (left < 1000000) {
			usleep((unsigned)(left / 1000));
			continue;
		}
		int rc = session_line(s, (unsigned)(left / 1000000));
		if (rc < 0)
			return -1;
		if (rc > 0)
			return session_fail(s, "unexpected line '%s'", s->line);
	}
}

/* The program that the worker is not: rows of the fault matrix make updates of their own, so the number tells
 * nothing. */
static bool next_is_b(const struct session *s)
{
	struct program_file a, now;
	char path[160];

	snprintf(path, sizeof(path), "/proc/%d/exe", (int)session_worker(s));
	if (session_program_of(path, &now)) /* another worker is just taking over */
		return s->updates % 2 == 0;
	snprintf(path, sizeof(path), "%s/molt.a", s->dir);
	return !session_program_of(path, &a) && a.dev == now.dev && a.ino == now.ino;
}

int session_update_begin(struct session *s)
{
	if (session_install(s, next_is_b(s)))
		return -1;
	if (!session_alive(s))
		return session_dead(s);
	return session_program_of(s->program, &s->asked) || kill(s->pid, SIGUSR1)
		       ? session_fail(s, "asking for an update: %s", strerror(errno))
		       : 0;
}

int session_idle(struct session *s)
{
	output_read(s, 0); /* a full pipe would stop the guest */
	if (s->on_poll && s->on_poll(s))
		return -1;
	return session_alive(s) ? 0 : session_dead(s);
}

/* Until something may have been written to the report. Not by looking again and again: where there are two
 * processors that would be a tenth of the pause. */
static void report_wait(struct session *s)
{
	struct pollfd watch = {.fd = s->watch, .events = POLLIN};
	char events[1024];

	if (s->on_poll)
		usleep(200);
	else if (poll(&watch, 1, 20) > 0)
		while (read(s->watch, events, sizeof(events)) > 0)
			;
}

int session_record(struct session *s)
{
	uint64_t until = clock_ns() + UPDATE_DEADLINE_MS * 1000000ull * s->set->slow;
	for (;;) {
		ssize_t n = pread(s->report, s->record, sizeof(s->record) - 1, s->report_at);
		s->record[n > 0 ? n : 0] = 0;
		char *end = strchr(s->record, '\n');
		if (end) {
			*end = 0;
			s->report_at += end - s->record + 1;
			return 0;
		}
		if (clock_ns() > until)
			return session_fail(s, "no record: the guest is lost");
		report_wait(s);
	}
}

int session_update_end(struct session *s)
{
	uint64_t until = clock_ns() + (uint64_t)UPDATE_DEADLINE_MS * 1000000 * s->set->slow;
	char reason[512], old_build[64], new_build[64];
	size_t n;

	for (;;) {
		ssize_t got = pread(s->report, s->record, sizeof(s->record) - 1, s->report_at);
		s->record[got > 0 ? got : 0] = 0;
		char *end = strchr(s->record, '\n');
		if (end) {
			n = (size_t)(end - s->record);
			break;
		}
		if (session_idle(s))
			return -1;
		if (clock_ns() > until)
			return session_fail(s, "update %u: no record in the report", s->updates);
		report_wait(s);
	}
	s->record[n] = 0;
	s->report_at += (off_t)n + 1;
	if (!record_is(s->record, "result", "ok")) {
		record_text(s->record, "reason", reason, sizeof(reason));
		return session_fail(s, "update %u: %s", s->updates, reason[0] ? reason : s->record);
	}
	int64_t pause = record_number(s->record, "pause_ns");
	if (pause <= 0)
		return session_fail(s, "update %u: no pause in %s", s->updates, s->record);
	if (s->set->molt_b) {
		record_text(s->record, "old_build", old_build, sizeof(old_build));
		record_text(s->record, "new_build", new_build, sizeof(new_build));
		if (!new_build[0] || !strcmp(old_build, new_build))
			return session_fail(s, "update %u: build '%s' did not change", s->updates,
					    new_build);
	}
	if (pause > record_number(s->slowest, "pause_ns"))
		memcpy(s->slowest, s->record, sizeof(s->slowest));
	if (s->updates < s->max_updates)
		s->pauses_ns[s->updates] = (uint64_t)pause;
	s->updates++;
	s->running = s->asked;
	if (session_same_pid(s) || (s->on_update && s->on_update(s)))
		return -1;
	/* Not after each: the next one is to come upon all that may be left of this one. */
	return s->updates % SETTLED_EACH || s->hasty ? 0 : session_settle(s);
}

int session_update(struct session *s)
{
	return session_update_begin(s) ? -1 : session_update_end(s);
}

int session_exits(struct session *s, int code)
{
	uint64_t until = clock_ns() + (uint64_t)END_DEADLINE_MS * 1000000 * s->set->slow;
	while (session_alive(s)) {
		output_read(s, 1);
		if (clock_ns() > until)
			return session_fail(s, "molt does not end");
	}
	return WIFEXITED(s->status) && WEXITSTATUS(s->status) == code ? 0 : session_dead(s);
}

int session_finish(struct session *s)
{
	if (session_expect(s, "PASS", 60000))
		return -1;
	char pass[SESSION_LINE];
	memcpy(pass, s->line, sizeof(pass));
	if (session_exits(s, 0))
		return -1;
	if (!s->forbidden && session_logged(s, "sandbox:"))
		return session_fail(s, "molt made a system call that its sandbox forbids");
	memcpy(s->line, pass, sizeof(pass));
	s->records = calloc(1, (size_t)s->report_at + 1);
	return s->records && pread(s->report, s->records, (size_t)s->report_at, 0) == s->report_at
		       ? 0
		       : session_fail(s, "read the report: %s", strerror(errno));
}
