/* SPDX-License-Identifier: MIT */
/*
 * Signals at random moments of an update: SIGKILL and SIGSTOP to the new image, between exec and commit,
 * and to the keeper; and a second request. What ends the new image after commit ends the guest, as it
 * would at any other time: such a row is told by the word in the handover page, and done again.
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

#define MAX_AFTER 8 /* rows in a hundred that may come too late */
#define START_NS  300000
#define RECORD_MS 60000
#define KEEPER_NS 3000000

enum { COMMITTED = 1 }; /* cpr/handover/page.h: the first word of the page */

static volatile uint32_t *page;

static void pass_ns(uint64_t ns)
{
	for (uint64_t until = clock_ns() + ns; clock_ns() < until;)
		;
}

/* Before exec: maps the page that old image, new image and keeper share. */
static int map_page(struct session *s, pid_t pid, void *opaque)
{
	char path[64], link[64];
	(void)opaque;
	for (int fd = 3; fd < 256; fd++) {
		snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)pid, fd);
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

/* How long the new image needed to commit, last time. */
static uint64_t window_ns(const struct session *s)
{
	static const char *const phases[] = {"adopt", "build", "dma", "load", "commit"};
	uint64_t sum = START_NS;
	for (unsigned i = 0; i < sizeof(phases) / sizeof(phases[0]); i++) {
		int64_t ns = record_number(s->record, phases[i]);
		sum += ns > 0 ? (uint64_t)ns : 0;
	}
	return sum;
}

/* Lets an update begin, and at a random moment after exec sends the new image a signal. */
static int hit_image(struct matrix *x, int sig)
{
	struct session *s = x->s;
	struct inject *in = &x->in;
	uint64_t window = window_ns(s);

	if (page)
		munmap((void *)page, 4096);
	page = NULL;
	in->nshots = 0;
	in->hook = map_page;
	in->hook_image = IMAGE_OLD;
	in->keeper = false;
	in->until = IMAGE_NEW;
	matrix_row_begin(x);
	if (session_install(s, false) || inject_update(s, in))
		return -1;
	if (!page || s->exited)
		return session_fail(s, "the update did not come to exec");
	pass_ns(session_random(s, window));
	return kill(s->pid, sig) ? session_fail(s, "kill: %s", strerror(errno)) : 0;
}

/* What is certain once the image has got the signal. */
static bool committed(void)
{
	return *page == COMMITTED;
}

static enum outcome kill_image(struct matrix *x)
{
	struct session *s = x->s;
	if (hit_image(x, SIGKILL))
		return LOST;
	if (waitpid(s->pid, &s->status, 0) == s->pid)
		s->exited = true;
	if (committed())
		return NOT_MET;
	return matrix_owner(x, 0) ? LOST : matrix_judge(x, BACK);
}

static enum outcome stop_image(struct matrix *x)
{
	struct session *s = x->s;
	int status;
	if (hit_image(x, SIGSTOP))
		return LOST;
	if (waitpid(s->pid, &status, WUNTRACED) == s->pid && WIFSTOPPED(status) && committed())
		kill(s->pid, SIGCONT);
	if (matrix_owner(x, 0))
		return LOST;
	return matrix_judge(x, committed() ? DONE : BACK);
}

/* ---- the keeper ---- */

/* Asks for an update and lets it begin until there is a keeper. Returns a descriptor of that, since its
 * number is another's soon. */
static int begin_update(struct matrix *x)
{
	struct session *s = x->s;
	struct inject *in = &x->in;
	matrix_row_begin(x);
	in->nshots = 0;
	in->hook = NULL;
	in->keeper = true;
	in->until = IMAGE_KEEPER;
	if (session_install(s, false) || inject_update(s, in))
		return -1;
	int keeper = in->pid ? (int)syscall(SYS_pidfd_open, in->pid, 0) : -1;
	return keeper < 0 ? session_fail(s, "no keeper is seen") : keeper;
}

static enum outcome hit_keeper(struct matrix *x, int sig)
{
	struct session *s = x->s;
	int keeper = begin_update(x);
	if (keeper < 0)
		return LOST;
	pass_ns(session_random(s, KEEPER_NS));
	syscall(SYS_pidfd_send_signal, keeper, sig, NULL, 0);
	int rc = matrix_owner(x, 0);
	if (sig == SIGSTOP) { /* the guest runs beside it; it goes when it is let */
		if (!rc)
			rc = session_ask(s, 'r', "GAP ");
		syscall(SYS_pidfd_send_signal, keeper, SIGCONT, NULL, 0);
	}
	close(keeper);
	if (!rc && !record_is(s->record, "result", "ok"))
		rc = session_fail(s, "%s", s->record);
	return rc ? LOST : matrix_judge(x, DONE);
}

static enum outcome kill_keeper(struct matrix *x)
{
	return hit_keeper(x, SIGKILL);
}

static enum outcome stop_keeper(struct matrix *x)
{
	return hit_keeper(x, SIGSTOP);
}

/* The update that was asked for during another is done, once. */
static enum outcome second_done(struct matrix *x)
{
	struct session *s = x->s;
	while (x->records < 2)
		if (matrix_owner(x, 0))
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
	int keeper = begin_update(x);
	if (keeper < 0)
		return LOST;
	close(keeper);
	pass_ns(session_random(s, KEEPER_NS));
	kill(s->pid, SIGUSR1);
	kill(s->pid, SIGUSR1);
	return second_done(x);
}

/* Asked for while one is under way, whose image then ends: done by the old program, which came back under
 * another process id. We are the parent, and do not reap the image before that. */
static enum outcome ask_and_kill(struct matrix *x)
{
	struct session *s = x->s;
	siginfo_t info;
	if (hit_image(x, SIGUSR1) || kill(s->pid, SIGKILL) ||
	    waitid(P_PID, (id_t)s->pid, &info, WEXITED | WNOWAIT))
		return LOST;
	if (committed()) {
		waitpid(s->pid, &s->status, 0);
		s->exited = true;
		return NOT_MET;
	}
	return second_done(x);
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
			       run(&matrix, "SIGKILL of the new image", kill_image,
				   rows(50, 150, 1000)) ||
			       run(&matrix, "SIGKILL of the keeper", kill_keeper,
				   rows(40, 100, 500)) ||
			       run(&matrix, "SIGSTOP of the keeper", stop_keeper,
				   rows(20, 50, 200)) ||
			       run(&matrix, "a second SIGUSR1", ask_again, rows(20, 50, 200)) ||
			       run(&matrix, "a second SIGUSR1, SIGKILL of the new image",
				   ask_and_kill, rows(20, 50, 100))
		       ? -1
		       : matrix_end(&matrix);
}

int drive_stop(struct session *s, unsigned updates)
{
	(void)updates;
	return matrix_begin(&matrix, s, NULL) || run(&matrix, "SIGSTOP of the new image",
						     stop_image, rows(5, 15, 100))
		       ? -1
		       : matrix_end(&matrix);
}
