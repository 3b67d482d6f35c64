/* SPDX-License-Identifier: MIT */
/*
 * Signals at random moments of an update: SIGKILL and SIGSTOP to the successor, between exec and commit; and a second
 * request. What ends the successor after commit ends the guest, as it would at any other time: such a row is
 * told by the word in the handover page, and done again.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "drives.h"
#include "matrix.h"
#include "session.h"

/* Rows in a hundred that may come too late: a busy host is not the same twice. */
#define MAX_AFTER 30
#define AGAIN_NS  3000000
#define UPDATE_NS 10000000 /* of no record */

enum { COMMITTED = 1 }; /* cpr/handover/page.h: the first word of the page */

static volatile uint32_t *page;
static pid_t successor;

static void pass_ns(uint64_t ns)
{
	for (uint64_t until = clock_ns() + ns; clock_ns() < until;)
		;
}

/* Maps the page that both workers share. */
static int map_page(struct session *s, pid_t worker)
{
	char path[64], link[64];
	for (int fd = 3; fd < 256; fd++) {
		snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)worker, fd);
		ssize_t n = readlink(path, link, sizeof(link) - 1);
		link[n > 0 ? n : 0] = 0;
		if (!strstr(link, "memfd:molt-handover"))
			continue;
		int file = open(path, O_RDONLY | O_CLOEXEC);
		void *p = file < 0 ? MAP_FAILED : mmap(NULL, 4096, PROT_READ, MAP_SHARED, file, 0);
		close(file);
		if (p == MAP_FAILED)
			break;
		page = p;
		return 0;
	}
	return session_fail(s, "no handover page: %s", strerror(errno));
}

/* From here on nobody is traced any more. */
static int on_exec(struct session *s, const struct inject_call *c, pid_t tid, const uint64_t *args,
		   void *opaque)
{
	struct matrix *x = opaque;
	(void)args;
	if (c->image != IMAGE_NEW)
		return 0;
	successor = tid;
	return map_page(s, x->worker) ? -1 : 1;
}

/* Lets an update begin, and at a random moment after exec sends @pid (0: the successor) a signal. */
static int hit(struct matrix *x, pid_t pid, int sig, uint64_t window_ns)
{
	struct session *s = x->s;

	if (page)
		munmap((void *)page, 4096);
	page = NULL;
	x->in.nshots = 0;
	x->in.hook = on_exec;
	x->in.opaque = x;
	matrix_row_begin(x);
	if (session_install(s, false) || inject_update(s, &x->in))
		return -1;
	if (!page || s->exited)
		return session_fail(s, "the update did not come to exec");
	pass_ns(session_random(s, window_ns));
	return kill(pid ?: successor, sig) ? session_fail(s, "kill: %s", strerror(errno)) : 0;
}

/* From exec to commit, as long as that took last time. */
static uint64_t window_ns(const struct matrix *x)
{
	static const char *const phases[] = {"start", "build", "prepare", "park", "save",
					     "blob",  "send",  "devices", "load", "commit"};
	uint64_t sum = 0;
	for (unsigned i = 0; i < sizeof(phases) / sizeof(phases[0]); i++) {
		int64_t ns = record_number(x->s->record, phases[i]);
		sum += ns > 0 ? (uint64_t)ns : 0;
	}
	return sum ? sum * 3 / 4 : UPDATE_NS; /* after exec */
}

/* What is certain once the successor has got the signal. */
static bool committed(void)
{
	return *page == COMMITTED;
}

static bool is_gone(pid_t pid)
{
	return kill(pid, 0) && errno == ESRCH;
}

static enum outcome kill_successor(struct matrix *x)
{
	if (hit(x, 0, SIGKILL, window_ns(x)))
		return LOST;
	while (!is_gone(successor)) /* its parent reaps it */
		usleep(200);
	if (committed())
		return NOT_MET;
	return matrix_owner(x) ? LOST : matrix_judge(x, matrix_outcome(x));
}

static enum outcome stop_successor(struct matrix *x)
{
	if (hit(x, 0, SIGSTOP, window_ns(x)))
		return LOST;
	usleep(1000);
	if (committed())
		kill(successor, SIGCONT);
	return matrix_owner(x) ? LOST : matrix_judge(x, matrix_outcome(x));
}

/* The update that was asked for during another is done, once. */
static enum outcome second_done(struct matrix *x)
{
	struct session *s = x->s;
	while (x->records < 2)
		if (matrix_owner(x))
			return LOST;
	if (x->records != 2 || !record_is(s->record, "result", "ok")) {
		session_fail(s, "%u records, the last is %s", x->records, s->record);
		return LOST;
	}
	return matrix_judge(x, DONE);
}

/* Asked for while one is under way: done after it, once. */
static enum outcome ask_again(struct matrix *x)
{
	struct session *s = x->s;
	if (hit(x, s->pid, SIGUSR1, AGAIN_NS))
		return LOST;
	kill(s->pid, SIGUSR1);
	return second_done(x);
}

/* Asked for while one is under way, whose successor then ends: done after that was refused. */
static enum outcome ask_and_kill(struct matrix *x)
{
	if (hit(x, x->s->pid, SIGUSR1, AGAIN_NS) || kill(successor, SIGKILL))
		return LOST;
	while (!is_gone(successor))
		usleep(200);
	return committed() ? NOT_MET : second_done(x);
}

/* ---- the rows ---- */

static int run(struct matrix *x, const char *name, enum outcome (*row)(struct matrix *x),
	       unsigned n)
{
	unsigned count[OUTCOMES] = {0};
	for (unsigned i = 0; i < n;) {
		enum outcome o = row(x);
		count[o]++;
		if (o == NOT_MET) { /* the guest ended as it would have at any time: a new one */
			if (count[NOT_MET] > MAX_AFTER + n * MAX_AFTER / 100)
				return session_fail(x->s, "%s: too many came after commit", name);
			if (matrix_again(x))
				return -1;
			continue;
		}
		i++;
		if (matrix_count(x, o, name))
			return -1;
	}
	printf("  row %s:", name);
	for (unsigned i = 0; i < OUTCOMES; i++)
		if (count[i])
			printf(" %s=%u", i == NOT_MET ? "after-commit" : outcome_names[i],
			       count[i]);
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
	(void)updates;
	return matrix_begin(&matrix, s, NULL) ||
			       run(&matrix, "SIGKILL of the successor", kill_successor,
				   rows(50, 150, 1000)) ||
			       run(&matrix, "a second SIGUSR1", ask_again, rows(20, 50, 200)) ||
			       run(&matrix, "a second SIGUSR1, SIGKILL of the successor",
				   ask_and_kill, rows(20, 50, 100))
		       ? -1
		       : matrix_end(&matrix);
}

int drive_stop(struct session *s, unsigned updates)
{
	(void)updates;
	return matrix_begin(&matrix, s, NULL) || run(&matrix, "SIGSTOP of the successor",
						     stop_successor, rows(5, 15, 100))
		       ? -1
		       : matrix_end(&matrix);
}
