/* SPDX-License-Identifier: MIT */
/*
 * Signals at random moments of an update, to each of its three processes: the parent, the worker that has the guest, the
 * successor. Who has the guest then is told by the word in the page that the two workers share. What ends that process
 * ends the guest, as it would at any other time; nothing else does.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "drives.h"
#include "matrix.h"
#include "session.h"

#define KILLED	  (128 + SIGKILL)
#define MAX_AFTER 12	  /* rows in a hundred that may find no update any more */
#define WINDOW_NS 4000000 /* about what an update lasts from the successor's first word on */
#define WAIT_MS	  30000

enum { COMMITTED = 1 }; /* cpr/handover/page.h: the first word */

static volatile uint32_t *page;

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
	return page && *page == COMMITTED;
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

static bool record_there(const struct session *s)
{
	return lseek(s->report, 0, SEEK_END) > s->report_at;
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

static enum outcome go_on(struct matrix *x)
{
	return matrix_owner(x) ? LOST : matrix_judge(x, matrix_outcome(x));
}

/* ---- the rows ---- */

static enum outcome kill_successor(struct matrix *x)
{
	struct session *s = x->s;
	pid_t pid = begin(x);
	if (pid <= 0)
		return pid ? LOST : go_on(x);
	pass_ns(session_random(s, WINDOW_NS));
	bool before = !committed();
	kill(pid, SIGKILL);
	/* That it had the guest may be known a moment later. */
	if (before && !committed() && !follow(x) && !s->exited)
		return go_on(x);
	return ends(s, WAIT_MS) && committed() ? ended(s, KILLED) : LOST;
}

static enum outcome stop_successor(struct matrix *x)
{
	struct session *s = x->s;
	pid_t pid = begin(x);
	if (pid <= 0)
		return pid ? LOST : go_on(x);
	pass_ns(session_random(s, WINDOW_NS));
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
	pass_ns(session_random(s, WINDOW_NS));
	kill(x->worker, SIGKILL);
	if (follow(x))
		return LOST;
	return s->exited ? committed() ? LOST : ended(s, KILLED) : go_on(x);
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

/* Its end is the guest's: fencing relies on it. But for the moment in which it execs itself: then the worker says that it
 * goes on alone. */
static enum outcome kill_parent(struct matrix *x)
{
	struct session *s = x->s;
	pid_t pid = begin(x), worker = x->worker, left = 0;
	if (pid < 0)
		return LOST;
	pass_ns(session_random(s, 20 * WINDOW_NS));
	pid_t now = session_worker(s);
	kill(s->pid, SIGKILL);
	ends(s, WAIT_MS);
	const pid_t all[] = {pid, worker, now};
	for (int i = 0; i < 3000; i++) {
		left = 0;
		for (unsigned k = 0; k < sizeof(all) / sizeof(all[0]); k++) {
			if (all[k])
				waitpid(all[k], NULL, WNOHANG); /* orphans come to us */
			if (all[k] && !kill(all[k], 0))
				left = all[k];
		}
		if (!left)
			return NOT_MET;
		usleep(1000);
	}
	if (!session_logged(s, "is lost: ")) {
		session_fail(s, "process %d outlives its parent", (int)left);
		return LOST;
	}
	kill(left, SIGKILL);
	waitpid(left, NULL, 0);
	return NOT_MET;
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

static enum outcome power_off(struct matrix *x)
{
	struct session *s = x->s;
	pid_t pid = begin(x);
	if (pid < 0)
		return LOST;
	pass_ns(session_random(s, WINDOW_NS));
	if (session_send(s, "q", 1) || session_expect(s, "PASS", WAIT_MS) || !ends(s, WAIT_MS))
		return LOST;
	return ended(s, 0);
}

/* @ends: each row ends its guest, and is counted all the same. */
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
			if (matrix_again(x))
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
			       run(x, "SIGSTOP of the parent", stop_parent, rows(20, 50, 200),
				   false) ||
			       run(x, "a second SIGUSR1", ask_again, rows(20, 50, 200), false) ||
			       run(x, "the guest powers off", power_off, rows(20, 50, 200), true)
		       ? -1
		       : matrix_end(x);
}

int drive_stop(struct session *s, unsigned updates)
{
	(void)updates;
	return matrix_begin(&matrix, s, NULL) || run(&matrix, "SIGSTOP of the successor",
						     stop_successor, rows(10, 30, 100), false)
		       ? -1
		       : matrix_end(&matrix);
}
