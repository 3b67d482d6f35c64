/* SPDX-License-Identifier: MIT */
/*
 * Signals at random moments of an update, to each of its three processes: the parent, the worker that has the guest,
 * the successor. Who has the guest then is told by the word in the page that the two workers share. What ends that
 * process ends the guest, as it would at any other time; nothing else does.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/guest/cases/drives.h"
#include "tests/guest/cases/matrix.h"
#include "tests/guest/runner/session.h"
#include "tests/guest/runner/verb.h"

#define KILLED	  (128 + SIGKILL)
#define MAX_AFTER 100	  /* rows in a hundred that may find no update any more */
#define WINDOW_NS 4000000 /* of what an update lasts from the successor's first word on */
#define PAUSE_NS  1500000 /* somewhat more than the pause */
#define STEP_NS	  60000	  /* of one of its steps */
#define WAIT_MS	  30000
#define GONE_MS	  10000
#define TERMED	  (128 + SIGTERM) /* at once: --stop-timeout 0 */

/* cpr/handover/page.h */
enum { COMMITTED = 1 };
enum { STAMP_READY = 3, STAMP_PREPARE, STAMP_STATE = 9, STAMP_RUN = 13 };
static volatile struct {
	uint32_t owner, reserved;
	uint64_t stamps[STAMP_RUN + 1];
} * page;

static unsigned count_alone; /* guests that have outlived their parent */

static void pass_ns(uint64_t ns)
{
	for (uint64_t until = clock_ns() + ns; clock_ns() < until;)
		;
}

/* The page of the update under way, in the worker's hands. */
static bool map_page(pid_t worker)
{
	char path[64], link[64];
	if (page)
		munmap((void *)page, 4096);
	page = NULL;
	for (int fd = 3; fd < 256 && !page; fd++) {
		snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)worker, fd);
		ssize_t n = readlink(path, link, sizeof(link) - 1);
		link[n > 0 ? n : 0] = 0;
		if (!strstr(link, "memfd:molt-handover"))
			continue;
		int file = open(path, O_RDONLY | O_CLOEXEC);
		void *p = file < 0 ? MAP_FAILED : mmap(NULL, 4096, PROT_READ, MAP_SHARED, file, 0);
		if (file >= 0)
			close(file);
		page = p == MAP_FAILED ? NULL : p;
	}
	return page;
}

static bool committed(void)
{
	return page && page->owner == COMMITTED;
}

static bool record_there(const struct session *s)
{
	return lseek(s->report, 0, SEEK_END) > s->report_at;
}

static void await_stamp(const struct session *s, unsigned stamp)
{
	for (uint64_t until = clock_ns() + WAIT_MS * 1000000ull;
	     !page->stamps[stamp] && !record_there(s) && clock_ns() < until;)
		sched_yield(); /* the guest wants this processor */
}

/* Some moment of the update under way: of the preparation, of the pause and what is around it, or about when one of the
 * pause's steps ends. */
static void moment(struct session *s)
{
	switch (session_random(s, 3)) {
	case 0:
		pass_ns(session_random(s, WINDOW_NS));
		break;
	case 1:
		await_stamp(s, STAMP_READY);
		pass_ns(session_random(s, PAUSE_NS));
		break;
	case 2:
		await_stamp(s, STAMP_PREPARE +
				       (unsigned)session_random(s, STAMP_RUN - STAMP_PREPARE + 1));
		pass_ns(session_random(s, STEP_NS));
		break;
	}
}

/* Asks for an update, and returns its successor once that is there. 0: it was over before it was seen. */
static pid_t begin(struct matrix *x)
{
	struct session *s = x->s;
	uint64_t until = clock_ns() + WAIT_MS * 1000000ull;
	off_t at = s->report_at;
	pid_t pid = 0;

	matrix_row_begin(x);
	if (session_install(s, false) || kill(s->pid, SIGUSR1))
		return -1;
	while (!session_children(s, "molt-succ", &pid) && lseek(s->report, 0, SEEK_END) == at &&
	       clock_ns() < until)
		;
	return pid && map_page(x->worker) ? pid : 0;
}

/* Has the process that the user knows ended, within @ms? */
static bool ends(struct session *s, unsigned ms)
{
	for (uint64_t until = clock_ns() + ms * 1000000ull; !s->exited;) {
		if (waitpid(s->pid, &s->status, WNOHANG) == s->pid)
			s->exited = true;
		else if (clock_ns() > until)
			return false;
		else
			usleep(200);
	}
	return true;
}

/* Until there is a record, or molt has ended. */
static int follow(struct matrix *x)
{
	struct session *s = x->s;
	for (uint64_t until = clock_ns() + WAIT_MS * 1000000ull; !record_there(s) && !ends(s, 1);)
		if (clock_ns() > until)
			return session_fail(s, "neither a record nor an end");
	return 0;
}

static enum outcome ended(struct session *s, int status)
{
	if (WIFEXITED(s->status) && WEXITSTATUS(s->status) == status)
		return NOT_MET; /* as at any other time: a new guest, and the row again */
	session_fail(s, "molt ended with status 0x%x, expected %d", s->status, status);
	return LOST;
}

/* The next record, and all that must be true after it: also that the process that the world knows becomes the program
 * of the good update that was made last. */
static enum outcome go_on(struct matrix *x)
{
	if (matrix_owner(x))
		return LOST;
	enum outcome o = matrix_judge(x, matrix_outcome(x));
	return o == LOST || session_settle(x->s) ? LOST : o;
}

/* As go_on, of what must not have kept the update from being done. */
static enum outcome go_on_done(struct matrix *x)
{
	enum outcome o = go_on(x);
	if (o == LOST || o == DONE)
		return o;
	session_fail(x->s, "the update was not done");
	return LOST;
}

/* None of them is there any more, within a moment. */
static bool all_gone(const pid_t *pids, unsigned n, pid_t *left)
{
	for (unsigned ms = 0; ms < GONE_MS; ms++) {
		*left = 0;
		for (unsigned i = 0; i < n; i++) {
			if (!pids[i])
				continue;
			waitpid(pids[i], NULL, WNOHANG); /* orphans come to us */
			if (!kill(pids[i], 0))
				*left = pids[i];
		}
		if (!*left)
			return true;
		usleep(1000);
	}
	return false;
}

/* What keeps it: its state (Z: its parent does not ask for it) and that of its parent, from /proc. */
static void tell_left(struct session *s, const char *what, pid_t left)
{
	char stat[2][256] = {"gone", "gone"};
	const pid_t of[2] = {left, s->pid};
	for (unsigned i = 0; i < 2; i++) {
		char path[32];
		snprintf(path, sizeof(path), "/proc/%d/stat", (int)of[i]);
		FILE *f = fopen(path, "re");
		if (f && !fgets(stat[i], sizeof(stat[i]), f))
			stat[i][0] = 0;
		if (f)
			fclose(f);
		stat[i][strcspn(stat[i], "\n")] = 0;
	}
	session_fail(s, "%s: %.60s; its parent: %.60s", what, stat[0], stat[1]);
}

/* ---- the rows ---- */

static enum outcome kill_successor(struct matrix *x)
{
	struct session *s = x->s;
	pid_t pid = begin(x), left;
	if (pid <= 0)
		return pid ? LOST : go_on(x);
	moment(s);
	kill(pid, SIGKILL);
	if (!all_gone(&pid, 1, &left)) {
		tell_left(s, "SIGKILL does not end it", left);
		return LOST;
	}
	if (!committed())
		return go_on(x);
	if (ends(s, WAIT_MS))
		return ended(s, KILLED);
	session_fail(s, "the guest has lost its worker, and molt does not end");
	return LOST;
}

static enum outcome stop_successor(struct matrix *x)
{
	struct session *s = x->s;
	pid_t pid = begin(x);
	if (pid <= 0)
		return pid ? LOST : go_on(x);
	moment(s);
	kill(pid, SIGSTOP);
	usleep(20000);
	if (committed())
		kill(pid, SIGCONT);
	return go_on(x);
}

/* Whoever has the guest when the worker is killed decides; once the state is whole the successor goes on with it. */
static enum outcome kill_incumbent(struct matrix *x)
{
	struct session *s = x->s;
	pid_t pid = begin(x);
	if (pid <= 0)
		return pid ? LOST : go_on(x);
	moment(s);
	bool whole = page->stamps[STAMP_STATE];
	kill(x->worker, SIGKILL);
	if (follow(x))
		return LOST;
	if (!s->exited)
		return go_on(x);
	if (!whole && !committed())
		return ended(s, KILLED);
	session_fail(s, "the successor had the state, and does not go on");
	return LOST;
}

static enum outcome stop_parent(struct matrix *x)
{
	struct session *s = x->s;
	matrix_row_begin(x);
	if (session_install(s, false) || kill(s->pid, SIGUSR1))
		return LOST;
	pass_ns(session_random(s, WINDOW_NS));
	kill(s->pid, SIGSTOP);
	usleep(20000);
	bool runs = !session_ask(s, 'r', "GAP ");
	kill(s->pid, SIGCONT);
	return runs ? go_on(x) : LOST;
}

/* For longer than an update may take to prepare, which the worker is asked for: it is refused in time. */
static enum outcome stop_parent_long(struct matrix *x)
{
	static struct verb v;
	struct session *s = x->s;
	matrix_row_begin(x);
	if (session_install(s, false) || kill(s->pid, SIGSTOP))
		return LOST;
	bool good = !verb_run(s, &v, 70, "waiting for its process to be started", "update", NULL) &&
		    !session_ask(s, 't', "TSC ");
	kill(s->pid, SIGCONT);
	return good ? go_on(x) : LOST;
}

/* The guest stands still with it, unless it has gone over; nothing else happens. */
static enum outcome stop_incumbent(struct matrix *x)
{
	struct session *s = x->s;
	pid_t pid = begin(x);
	if (pid <= 0)
		return pid ? LOST : go_on(x);
	moment(s);
	kill(x->worker, SIGSTOP);
	usleep(20000);
	kill(x->worker, SIGCONT);
	return go_on_done(x);
}

/* It is the parent's to pass on what ends the guest: a supervisor may send it to the whole cgroup. */
static enum outcome term_workers(struct matrix *x)
{
	struct session *s = x->s;
	pid_t pid = begin(x);
	if (pid <= 0)
		return pid ? LOST : go_on(x);
	moment(s);
	kill(x->worker, SIGTERM);
	kill(pid, SIGTERM);
	kill(pid, SIGINT);
	return go_on_done(x);
}

/* Before STATE the update is called off, after it the new owner ends the guest. */
static enum outcome term_parent(struct matrix *x)
{
	struct session *s = x->s;
	char reason[256];
	pid_t pid = begin(x), left;
	if (pid < 0)
		return LOST;
	moment(s);
	kill(s->pid, SIGTERM);
	if (!ends(s, WAIT_MS)) {
		session_fail(s, "SIGTERM does not end it");
		return LOST;
	}
	const pid_t all[] = {pid, x->worker};
	if (!all_gone(all, 2, &left)) {
		session_fail(s, "process %d is left over", (int)left);
		return LOST;
	}
	if (record_there(s) && !session_record(s) && record_is(s->record, "result", "refused") &&
	    record_text(s->record, "reason", reason, sizeof(reason)) &&
	    !strstr(reason, "asked to power off") && !strstr(reason, "has ended")) {
		session_fail(s, "refused for '%s'", reason);
		return LOST;
	}
	return ended(s, TERMED);
}

/* Until the new worker is the only child: then the parent execs itself. */
static void become_next(struct session *s, pid_t worker)
{
	pid_t only = 0;
	for (uint64_t until = clock_ns() + WAIT_MS * 1000000ull; clock_ns() < until;)
		if (session_children(s, NULL, &only) == 1 && only == worker)
			break;
	pass_ns(session_random(s, WINDOW_NS));
}

/* Its end is the guest's: fencing relies on it. But for the moment in which it execs itself: then the worker goes on
 * alone, and says so. */
static enum outcome kill_parent(struct matrix *x)
{
	struct session *s = x->s;
	pid_t pid = begin(x), worker = x->worker, left = 0;
	if (pid < 0)
		return LOST;
	bool execs = session_random(s, 2);
	if (execs)
		become_next(s, pid);
	else
		moment(s);
	const pid_t all[] = {pid, worker, session_worker(s)};
	kill(s->pid, SIGKILL);
	if (!ends(s, WAIT_MS))
		return LOST;
	if (all_gone(all, 3, &left))
		return NOT_MET;
	if (!execs || !session_logged(s, "is lost: ")) {
		session_fail(s, "process %d outlives its parent", (int)left);
		return LOST;
	}
	s->pid = left;
	s->exited = false;
	if (x->guest.check(s) || session_send(s, "q", 1) || session_expect(s, "PASS", WAIT_MS) ||
	    !ends(s, WAIT_MS))
		return LOST;
	count_alone++;
	return ended(s, 0);
}

/* Asked for while one is under way: done after it, once, however often. */
static enum outcome ask_again(struct matrix *x)
{
	struct session *s = x->s;
	pid_t pid = begin(x);
	if (pid <= 0)
		return pid ? LOST : go_on(x);
	pass_ns(session_random(s, WINDOW_NS));
	kill(s->pid, SIGUSR1);
	kill(s->pid, SIGUSR1);
	while (x->records < 2)
		if (matrix_owner(x))
			return LOST;
	if (x->records != 2 || !record_is(s->record, "result", "ok")) {
		session_fail(s, "%u records, the last is %s", x->records, s->record);
		return LOST;
	}
	return matrix_judge(x, DONE);
}

/* The same of an update that is refused: the worker that goes on serves it. */
static enum outcome ask_and_kill(struct matrix *x)
{
	struct session *s = x->s;
	pid_t pid = begin(x), left;
	if (pid <= 0)
		return pid ? LOST : go_on(x);
	kill(s->pid, SIGUSR1);
	pass_ns(session_random(s, WINDOW_NS));
	kill(pid, SIGKILL);
	if (!all_gone(&pid, 1, &left))
		return LOST;
	if (committed())
		return ends(s, WAIT_MS) ? ended(s, KILLED) : LOST;
	while (x->records < 2)
		if (matrix_owner(x))
			return LOST;
	if (x->records == 2 && record_is(s->record, "result", "ok"))
		return matrix_judge(x, DONE);
	session_fail(s, "%u records, the last is %s", x->records, s->record);
	return LOST;
}

static enum outcome power_off(struct matrix *x)
{
	struct session *s = x->s;
	pid_t pid = begin(x);
	if (pid < 0)
		return LOST;
	moment(s);
	if (session_send(s, "q", 1) || session_expect(s, "PASS", WAIT_MS) || !ends(s, WAIT_MS))
		return LOST;
	return ended(s, 0);
}

/* A new guest, which is not to live through the same moments once more. */
static int again(struct matrix *x)
{
	uint64_t random = x->s->random;
	int rc = matrix_again(x);
	x->s->random = random;
	return rc;
}

/* @always_ends: each row ends its guest, and is counted all the same. */
static int run(struct matrix *x, const char *name, enum outcome (*row)(struct matrix *x),
	       unsigned n, bool always_ends)
{
	unsigned count[OUTCOMES] = {0};
	x->name = name;
	for (unsigned i = 0; i < n;) {
		enum outcome o = row(x);
		count[o]++;
		if (o == NOT_MET) {
			if (!always_ends && count[NOT_MET] > 20 + n * MAX_AFTER / 100)
				return session_fail(x->s, "%s: too many came after commit", name);
			if (again(x))
				return -1;
			if (!always_ends)
				continue;
			x->rows++;
			x->survived++;
			i++;
			continue;
		}
		i++;
		if (matrix_count(x, o, name))
			return -1;
	}
	printf("  row %s:", name);
	for (unsigned i = 0; i < OUTCOMES; i++)
		if (count[i])
			printf(" %s=%u", i == NOT_MET ? "ended" : outcome_names[i], count[i]);
	if (count_alone)
		printf(" (%u of them alone, later)", count_alone);
	count_alone = 0;
	printf("\n");
	return 0;
}

static struct matrix matrix;

/* How many: beside everything else (scripts/test), of this label alone, and of a long run. */
static unsigned rows(unsigned some, unsigned many, unsigned most)
{
	return getenv("MOLT_LONG") ? most : getenv("MOLT_FAULT_SHORT") ? some : many;
}

int drive_kill(struct session *s, unsigned updates)
{
	struct matrix *x = &matrix;
	(void)updates;
	return matrix_begin(x, s, NULL) ||
			       run(x, "SIGKILL of the successor", kill_successor,
				   rows(50, 200, 1000), false) ||
			       run(x, "SIGKILL of the worker", kill_incumbent, rows(20, 60, 300),
				   true) ||
			       run(x, "SIGKILL of the parent", kill_parent, rows(20, 60, 300),
				   true) ||
			       run(x, "SIGTERM to the parent", term_parent, rows(20, 60, 300),
				   true) ||
			       run(x, "SIGTERM to both workers", term_workers, rows(10, 30, 100),
				   false) ||
			       run(x, "SIGSTOP of the parent", stop_parent, rows(20, 50, 200),
				   false) ||
			       run(x, "SIGSTOP of the worker", stop_incumbent, rows(10, 30, 100),
				   false) ||
			       run(x, "a second SIGUSR1", ask_again, rows(20, 50, 200), false) ||
			       run(x, "a second SIGUSR1, SIGKILL of the successor", ask_and_kill,
				   rows(10, 30, 100), false) ||
			       run(x, "the guest powers off", power_off, rows(20, 50, 200), true)
		       ? -1
		       : matrix_end(x);
}

int drive_stop(struct session *s, unsigned updates)
{
	(void)updates;
	return matrix_begin(&matrix, s, NULL) ||
			       run(&matrix, "SIGSTOP of the successor", stop_successor,
				   rows(10, 30, 100), false) ||
			       run(&matrix, "SIGSTOP of the parent, for long", stop_parent_long,
				   rows(3, 8, 40), false)
		       ? -1
		       : matrix_end(&matrix);
}
