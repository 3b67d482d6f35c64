/* SPDX-License-Identifier: MIT */
#include "tests/guest/cases/matrix.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/guest/cases/cases.h"
#include "tests/guest/runner/session.h"

#define BOOT_MS	  20000
#define RECORD_MS 60000
#define MAX_LOST  20

/* The guest may stand still for so long where nothing but molt's own deadline (200 ms, cpr/handover/incumbent.c) ends
 * a pause. */
#define GAP_NS	 250000000ull
#define GAP_ROWS 3 /* a busy host takes the guest's processor away as well, but not each time */

const char *const outcome_names[OUTCOMES] = {"done", "refused", "back", "alone", "lost", "not-met"};

static int log_open(struct session *s)
{
	char path[160];
	snprintf(path, sizeof(path), "%s/log", s->dir);
	return open(path, O_RDONLY | O_CLOEXEC);
}

static void log_read(struct matrix *x)
{
	int fd = log_open(x->s);
	ssize_t n = fd < 0 ? 0 : pread(fd, x->log, sizeof(x->log) - 1, x->log_at);
	if (fd >= 0)
		close(fd);
	x->log[n > 0 ? n : 0] = 0;
}

void matrix_row_begin(struct matrix *x)
{
	struct stat st = {0};
	int fd = log_open(x->s);
	if (fd >= 0 && !fstat(fd, &st))
		x->log_at = st.st_size;
	if (fd >= 0)
		close(fd);
	x->s->record[0] = 0;
	x->records = 0;
	x->worker = inject_worker(x->s->pid);
}

/* All records since the last row; the last one stays in s->record. */
static unsigned read_records(struct matrix *x)
{
	struct session *s = x->s;
	char text[SESSION_RECORD];
	unsigned n = 0;
	for (;; n++, x->records++) {
		ssize_t got = pread(s->report, text, sizeof(text) - 1, s->report_at);
		text[got > 0 ? got : 0] = 0;
		char *end = strchr(text, '\n');
		if (!end)
			return n;
		*end = 0;
		memcpy(s->record, text, (size_t)(end - text) + 1);
		s->report_at += end - text + 1;
	}
}

/* No molt is left that could write a record. */
static bool nobody_left(void)
{
	siginfo_t info;
	return waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) < 0;
}

int matrix_owner(struct matrix *x)
{
	struct session *s = x->s;
	uint64_t until = clock_ns() + RECORD_MS * 1000000ull * s->set->slow;

	while (!read_records(x)) {
		if (clock_ns() > until || (nobody_left() && !read_records(x)))
			return session_fail(s, "no record: the guest is lost");
		usleep(500);
	}
	if (s->exited || (pid_t)record_number(s->record, "pid") != s->pid)
		return session_fail(s, "the guest has another process id: %s", s->record);
	return 0;
}

enum outcome matrix_outcome(struct matrix *x)
{
	if (record_is(x->s->record, "result", "ok"))
		return DONE;
	return record_number(x->s->record, "pause_ns") > 0 ? BACK : REFUSED;
}

static int check_gap(struct session *s)
{
	return session_ask(s, 't', "TSC ");
}

static const struct matrix_guest gap = {.check = check_gap};

/* Only of the guest that measures it: what it has seen since it was asked last. */
static int ask_gap(struct matrix *x, uint64_t *ns)
{
	*ns = 0;
	if (x->guest.check != check_gap)
		return 0;
	if (session_ask(x->s, 'r', "GAP "))
		return -1;
	for (char *p = x->s->line + 4; *p; p += *p == ',') {
		uint64_t one = strtoull(p, &p, 10);
		if (one > *ns)
			*ns = one;
	}
	return 0;
}

static bool is_patient(const struct session *s)
{
	for (unsigned i = 0; i < TEST_ARGS && s->test->args[i]; i++)
		if (!strcmp(s->test->args[i], "--update-timeout"))
			return true;
	return false;
}

/* Of the row's update alone: what the checks cost does not count. */
static int check_row_gap(struct matrix *x)
{
	uint64_t ns;
	if (ask_gap(x, &ns))
		return -1;
	if (ns > x->gap_ns) {
		x->gap_ns = ns;
		snprintf(x->gap_row, sizeof(x->gap_row), "%s", x->name ?: "");
	}
	x->stood_still = ns > GAP_NS * x->s->set->slow && !is_patient(x->s);
	return 0;
}

/* Did the guest stand still for too long in each of the rows that came to the same end? */
static int check_gaps(struct matrix *x)
{
	for (unsigned o = 0; o < OUTCOMES; o++)
		if (x->seen[o] >= GAP_ROWS && x->stood[o] == x->seen[o])
			return session_fail(x->s,
					    "%s: the guest stood still for too long in all %u rows",
					    outcome_names[o], x->seen[o]);
	return 0;
}

/* Did molt say what went wrong? Where the update was done all the same, the call was tried again or
 * nothing depends on it. Either the message or the record will do: the row may have failed the other. */
static bool told(const struct matrix *x, enum outcome o)
{
	static const char refused[] = "update refused, the guest runs on: ";
	char reason[64];
	if (o == ALONE)
		return strstr(x->log, "is lost: ");
	if (o != REFUSED && o != BACK)
		return true;
	const char *p = strstr(x->log, refused);
	if (p && p[sizeof(refused) - 1] != '\n')
		return true;
	return record_text(x->s->record, "reason", reason, sizeof(reason)) && reason[0];
}

/* Nobody can ask for an update any more; what is left of molt is our child, since we are the subreaper. */
static enum outcome judge_alone(struct matrix *x)
{
	struct session *s = x->s;
	s->pid = x->in.pid;
	s->exited = false;
	if (check_row_gap(x) || x->guest.check(s))
		return LOST;
	log_read(x);
	if (told(x, ALONE))
		return ALONE;
	session_fail(s, "molt does not say that its parent is gone: '%s'", x->log);
	return LOST;
}

enum outcome matrix_judge(struct matrix *x, enum outcome o)
{
	struct session *s = x->s;
	if (o == ALONE)
		return judge_alone(x);
	if (s->exited) {
		session_fail(s, "the process that the user knows has ended");
		return LOST;
	}
	if (check_row_gap(x) || x->guest.check(s) || aftermath_check(s, &x->before))
		return LOST;
	log_read(x);
	if (!told(x, o)) {
		session_fail(s, "molt does not say why: '%s'", x->log);
		return LOST;
	}
	x->seen[o]++;
	x->stood[o] += x->stood_still;
	if (session_update(s) || x->guest.check(s) || aftermath_check(s, &x->before))
		return LOST;
	return o;
}

enum outcome matrix_follow(struct matrix *x)
{
	struct session *s = x->s;
	uint64_t ignored;
	if ((x->guest.ready && x->guest.ready(s)) || ask_gap(x, &ignored) ||
	    inject_update(s, &x->in))
		return LOST;
	if (x->in.image == IMAGE_NONE) {
		session_fail(s, "the guest has no process any more");
		return LOST;
	}
	read_records(x); /* the row may have failed their writing */
	if (x->in.alone)
		return ALONE;
	return x->in.image == IMAGE_NEW ? DONE : x->in.paused ? BACK : REFUSED;
}

enum outcome matrix_row(struct matrix *x)
{
	matrix_row_begin(x);
	if (session_install(x->s, false))
		return LOST;
	enum outcome o = matrix_follow(x);
	return o == LOST ? o : matrix_judge(x, o);
}

enum outcome matrix_run(struct matrix *x, enum outcome (*row)(struct matrix *x, void *opaque),
			void *opaque)
{
	enum outcome o = row(x, opaque);
	for (unsigned n = 1; o != LOST && x->stood_still; n++) {
		if (n == GAP_ROWS) {
			session_fail(x->s, "the guest stood still for too long each time: %s",
				     x->s->record);
			return LOST;
		}
		o = row(x, opaque);
	}
	return o;
}

/* ---- the guest's beginning and end ---- */

static int begin(struct matrix *x)
{
	struct session *s = x->s;
	/* Followed to its end: the parent's new image comes after the record. */
	x->in.nshots = 0;
	x->in.hook = NULL;
	if (session_expect(s, "READY", BOOT_MS) || session_install(s, true) ||
	    inject_update(s, &x->in) || matrix_owner(x) || x->guest.check(s))
		return -1;
	return aftermath_take(s, &x->before) || aftermath_check(s, &x->before) ? -1 : 0;
}

int matrix_begin(struct matrix *x, struct session *s, const struct matrix_guest *guest)
{
	*x = (struct matrix){.s = s, .guest = *(guest ?: &gap)};
	alarm(0); /* every wait here has its own deadline, and the process id may change */
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	return begin(x);
}

/* Whatever a lost row left: children of this process, which adopts them. */
static void children_end(void)
{
	char path[64], text[256];
	snprintf(path, sizeof(path), "/proc/self/task/%d/children", (int)getpid());
	for (unsigned tries = 0; tries < 16; tries++) {
		int fd = open(path, O_RDONLY | O_CLOEXEC);
		ssize_t n = fd < 0 ? 0 : read(fd, text, sizeof(text) - 1);
		if (fd >= 0)
			close(fd);
		text[n > 0 ? n : 0] = 0;
		pid_t pid = (pid_t)strtol(text, NULL, 10);
		if (pid <= 0)
			return;
		kill(pid, SIGKILL);
		waitpid(pid, NULL, __WALL);
	}
}

int matrix_again(struct matrix *x)
{
	struct session *s = x->s;
	const struct settings *set = s->set;
	const struct test_case *test = s->test;
	unsigned updates = s->max_updates;

	session_end(s);
	children_end();
	return session_start(s, set, test, updates) || begin(x) ? -1 : 0;
}

int matrix_count(struct matrix *x, enum outcome o, const char *name)
{
	struct session *s = x->s;

	x->rows++;
	if (o != LOST) {
		x->survived++;
		return o == ALONE ? matrix_again(x) : 0;
	}
	printf("  row %s: LOST: %s\n", name, s->error);
	if (x->rows - x->survived > MAX_LOST)
		return -1;
	session_show(s);
	return matrix_again(x);
}

void matrix_except(struct matrix *x, const char *name, const char *reason)
{
	x->excepted++;
	printf("  excepted %s: %s\n", name, reason);
}

int matrix_end(struct matrix *x)
{
	struct session *s = x->s;
	printf("FAULT rows=%u survived=%u excepted=%u\n", x->rows, x->survived, x->excepted);
	if (x->gap_ns)
		printf("  largest gap of the guest in an update: %llu us (%s)\n",
		       (unsigned long long)(x->gap_ns / 1000), x->gap_row);
	if (check_gaps(x))
		return -1;
	if (x->survived != x->rows)
		return session_fail(s, "%u rows lost the guest or left something over",
				    x->rows - x->survived);
	return session_send(s, "q", 1) || session_finish(s) ? -1 : 0;
}
