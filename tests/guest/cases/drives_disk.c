/* SPDX-License-Identifier: MIT */
/* A virtio disk under updates: the guest checks what it reads, and in the end the image is what it has read. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/guest/cases/cases.h"
#include "tests/guest/cases/drives.h"
#include "tests/guest/runner/session.h"
#include "tests/guest/runner/verb.h"

#define BOOT_MS	    30000
#define MAX_THREADS 16
#define STOP_MS	    20000
#define QUIET_MS    20

static int wait_random(struct session *s)
{
	const struct test_case *t = s->test;

	return session_wait_us(s, t->min_us + session_random(s, t->max_us - t->min_us + 1));
}

static int ask_done(struct session *s, uint64_t *done, uint64_t *errors)
{
	if (session_ask(s, 'r', "DISK "))
		return -1;
	return sscanf(s->line, "DISK %" SCNu64 " %" SCNu64, done, errors) == 2
		       ? 0
		       : session_fail(s, "'%s'", s->line);
}

/* FNV-1a over the words of the image, as the guest has it. */
static int image_sum(struct session *s, uint64_t *sum)
{
	char path[160];
	uint64_t words[512];
	ssize_t n;

	snprintf(path, sizeof(path), "%s/disk", s->dir);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return session_fail(s, "%s: %s", path, strerror(errno));
	*sum = 0xcbf29ce484222325ull;
	while ((n = read(fd, words, sizeof(words))) > 0)
		for (unsigned i = 0; i < (size_t)n / sizeof(*words); i++)
			*sum = (*sum ^ words[i]) * 0x100000001b3ull;
	close(fd);
	return 0;
}

int disk_image_right(struct session *s)
{
	uint64_t sum, said;

	if (image_sum(s, &sum))
		return -1;
	const char *at = strstr(s->line, "sum=");
	said = at ? strtoull(at + strlen("sum="), NULL, 16) : 0;
	return said == sum ? 0 : session_fail(s, "the image is not what the guest has read");
}

static int end(struct session *s)
{
	return session_send(s, "q", 1) || session_finish(s) ? -1 : disk_image_right(s);
}

int disk_goes_on(struct session *s)
{
	uint64_t before, now, errors;

	if (ask_done(s, &before, &errors))
		return -1;
	for (int ms = 0; ms < STOP_MS * (int)s->set->slow; ms++)
		if (ask_done(s, &now, &errors))
			return -1;
		else if (now > before)
			return errors ? session_fail(s, "%" PRIu64 " errors", errors) : 0;
		else if (session_wait_us(s, 1000))
			return -1;
	return session_fail(s, "no request is done");
}

int drive_disk(struct session *s, unsigned updates)
{
	uint64_t before = 0, now, errors;

	if (session_expect(s, "READY", BOOT_MS))
		return -1;
	for (unsigned i = 0; i < updates; i++) {
		if (wait_random(s) || session_update(s) || ask_done(s, &now, &errors))
			return -1;
		if (i % 8 == 7 && now == before)
			return session_fail(s, "no request was done over 8 updates");
		before = i % 8 == 7 ? now : before;
	}
	return end(s);
}

static int grow(struct session *s, off_t bytes)
{
	char path[160];

	snprintf(path, sizeof(path), "%s/disk", s->dir);
	return truncate(path, bytes) ? session_fail(s, "%s: %s", path, strerror(errno)) : 0;
}

static int ask_size(struct session *s, unsigned blocks, unsigned generation, const char *told)
{
	char line[64];

	snprintf(line, sizeof(line), "SIZE %u %u %s", blocks, generation, told);
	return session_ask(s, 'c', line);
}

/* The file grows while the guest writes to it; what has come is written to from then on. */
int drive_disk_grow(struct session *s, unsigned updates)
{
	static struct verb v;
	unsigned blocks;

	if (session_expect(s, "READY", BOOT_MS) || sscanf(s->line, "READY %u", &blocks) != 1)
		return -1;
	for (unsigned i = 0; i < updates; i++) {
		blocks += 32;
		if (wait_random(s) || grow(s, (off_t)blocks * 4096) ||
		    verb_run(s, &v, 0, ": the guest is told", "rescan", NULL) ||
		    ask_size(s, blocks, i + 1, "told") || session_update(s) ||
		    verb_run(s, &v, 0, ", as before", "rescan", NULL) ||
		    ask_size(s, blocks, i + 1, "quiet"))
			return -1;
	}
	return end(s);
}

/* Right after an update, with requests in flight: none of them may come into the next boot. */
int drive_disk_reboot(struct session *s, unsigned updates)
{
	uint64_t done, errors;

	if (session_expect(s, "READY", BOOT_MS))
		return -1;
	for (unsigned i = 0; i < updates; i++) {
		if (wait_random(s) || session_update(s) || session_send(s, "b", 1) ||
		    session_expect(s, "READY", BOOT_MS) || ask_done(s, &done, &errors))
			return -1;
		if (errors)
			return session_fail(s, "%" PRIu64 " errors", errors);
	}
	return end(s);
}

/* Writes past the limit fail, as on a file system that is full: the guest's errors, and nothing else's. */
static int limit(struct session *s, rlim_t bytes)
{
	const struct rlimit to = {bytes, RLIM_INFINITY};

	return prlimit(session_worker(s), RLIMIT_FSIZE, &to, NULL)
		       ? session_fail(s, "prlimit: %s", strerror(errno))
		       : 0;
}

int drive_disk_errors(struct session *s, unsigned updates)
{
	uint64_t done, errors, before;

	if (session_expect(s, "READY", BOOT_MS))
		return -1;
	for (unsigned i = 0; i < updates; i++) {
		if (session_ask(s, 'e', "ERRORS") || ask_done(s, &done, &before) ||
		    limit(s, 4 << 20))
			return -1;
		/* A successor inherits its limits from the parent: errors end with the update. */
		do
			if (wait_random(s) || ask_done(s, &done, &errors))
				return -1;
		while (errors == before);
		if (session_update(s) || session_ask(s, 'E', "NONE") || wait_random(s))
			return -1;
	}
	if (!session_logged(s, "File too large; the guest gets an error"))
		return session_fail(s, "molt does not tell of errors");
	return end(s);
}

/* ---- a disk that does not answer: its threads are held by ptrace where they read or write ---- */

struct held {
	pid_t tid[MAX_THREADS];
	bool in_call[MAX_THREADS];
	unsigned n, calls;
};

static bool is_disk_thread(pid_t worker, const char *tid)
{
	char path[64], name[32] = "";
	snprintf(path, sizeof(path), "/proc/%d/task/%.16s/comm", (int)worker, tid);
	FILE *comm = fopen(path, "re");
	bool is = comm && fgets(name, sizeof(name), comm) && !strcmp(name, "molt-disk\n");
	if (comm)
		fclose(comm);
	return is;
}

static void threads_find(struct session *s, struct held *h)
{
	char path[64];
	pid_t worker = session_worker(s);

	*h = (struct held){.n = 0};
	snprintf(path, sizeof(path), "/proc/%d/task", (int)worker);
	DIR *dir = opendir(path);
	for (const struct dirent *d; dir && h->n < MAX_THREADS && (d = readdir(dir));)
		if (is_disk_thread(worker, d->d_name))
			h->tid[h->n++] = (pid_t)atoi(d->d_name);
	if (dir)
		closedir(dir);
}

static bool in_file_call(pid_t tid)
{
	struct user_regs_struct regs;
	if (ptrace(PTRACE_GETREGS, tid, 0, &regs))
		return false;
	return regs.orig_rax == SYS_preadv || regs.orig_rax == SYS_pwritev ||
	       regs.orig_rax == SYS_fdatasync;
}

/* Until one at least is in such a call, and the others are there too or have nothing to do. */
static int threads_stop(struct session *s, struct held *h)
{
	unsigned quiet = 0;
	threads_find(s, h);
	for (unsigned i = 0; i < h->n; i++)
		if (ptrace(PTRACE_SEIZE, h->tid[i], 0, PTRACE_O_TRACESYSGOOD) ||
		    ptrace(PTRACE_INTERRUPT, h->tid[i], 0, 0))
			return session_fail(s, "ptrace: %s", strerror(errno));
	for (unsigned ms = 0; quiet < QUIET_MS || !h->calls; ms++, quiet++) {
		if (ms > STOP_MS || !h->n)
			return session_fail(s, "no thread of the disk (%u) does anything", h->n);
		for (unsigned i = 0; i < h->n; i++) {
			int status;
			if (h->in_call[i] || waitpid(h->tid[i], &status, __WALL | WNOHANG) <= 0)
				continue;
			quiet = 0;
			h->in_call[i] =
				WSTOPSIG(status) == (SIGTRAP | 0x80) && in_file_call(h->tid[i]);
			h->calls += h->in_call[i];
			if (!h->in_call[i])
				ptrace(PTRACE_SYSCALL, h->tid[i], 0, 0);
		}
		if (session_wait_us(s, 1000))
			return -1;
	}
	return 0;
}

static void threads_go(const struct held *h)
{
	for (unsigned i = 0; i < h->n; i++) {
		if (!h->in_call[i] && !ptrace(PTRACE_INTERRUPT, h->tid[i], 0, 0))
			waitpid(h->tid[i], NULL, __WALL);
		ptrace(PTRACE_DETACH, h->tid[i], 0, 0);
	}
}

static int refused(struct session *s)
{
	char reason[512];

	if (session_update_begin(s) || session_record(s))
		return -1;
	if (!record_is(s->record, "result", "refused") ||
	    !record_text(s->record, "reason", reason, sizeof(reason)))
		return session_fail(s, "not refused: %s", s->record);
	if (!strstr(reason, "/disk") || !strstr(reason, "in flight, the oldest: ") ||
	    !strstr(reason, ", since "))
		return session_fail(s, "the reason names no request: %s", reason);
	return 0;
}

int drive_disk_stuck(struct session *s, unsigned updates)
{
	struct held held;

	if (session_expect(s, "READY", BOOT_MS))
		return -1;
	for (unsigned i = 0; i < updates; i++) {
		if (wait_random(s))
			return -1;
		int rc = threads_stop(s, &held) || refused(s);
		threads_go(&held);
		if (rc || wait_random(s) || session_install(s, false) || session_update(s))
			return -1;
	}
	return end(s);
}
