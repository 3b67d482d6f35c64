/* SPDX-License-Identifier: MIT */
/*
 * A keeper that is killed, that is stopped, and one whose nudge comes too late, round and round; and a
 * program that passes every check and that exec then refuses, so that the old one resumes in place. tests/model
 * says why these matter. --debug-hold makes the pause long enough to catch the keeper.
 */
#include "drives.h"

#include <dirent.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "session.h"

#define BOOT_MS	  20000
#define RECORD_MS 20000
#define TRIES	  5

/* A new file with the program that runs now: preflight has nothing against it. */
static int install_again(struct session *s)
{
	char from[160], path[160];

	snprintf(from, sizeof(from), "%s/molt.%c", s->dir, s->updates & 1 ? 'b' : 'a');
	snprintf(path, sizeof(path), "%s/molt.new", s->dir);
	unlink(path);
	return session_copy(s, from, "molt.new") ||
	       (rename(path, s->program) && session_fail(s, "install: %s", strerror(errno)));
}

/* While the guest stands still: no size for its program headers, which exec answers with ENOEXEC
 * (fs/binfmt_elf.c, load_elf_phdrs). False: it is being executed already. */
static bool break_file(struct session *s)
{
	const Elf64_Half size = 0;
	int fd = open(s->program, O_WRONLY | O_CLOEXEC);
	bool good = fd >= 0 && pwrite(fd, &size, sizeof(size), offsetof(Elf64_Ehdr, e_phentsize)) ==
				       sizeof(size);
	if (fd >= 0)
		close(fd);
	return good;
}

/* Preflight's child has no handover page. */
static bool is_keeper(pid_t pid)
{
	char path[64], target[128];
	bool found = false;
	snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
	DIR *dir = opendir(path);
	if (!dir)
		return false;
	for (struct dirent *e; !found && (e = readdir(dir));) {
		ssize_t n = readlinkat(dirfd(dir), e->d_name, target, sizeof(target) - 1);
		target[n > 0 ? n : 0] = 0;
		found = strstr(target, "molt-handover") != NULL;
	}
	closedir(dir);
	return found;
}

/* 0: none. */
static pid_t keeper_find(struct session *s)
{
	char path[64], text[256] = "";
	snprintf(path, sizeof(path), "/proc/%d/task/%d/children", (int)s->pid, (int)s->pid);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	ssize_t n = read(fd, text, sizeof(text) - 1);
	close(fd);
	for (char *p = text; n > 0 && *p; p += strcspn(p, " "), p += strspn(p, " "))
		if (is_keeper((pid_t)atoi(p)))
			return (pid_t)atoi(p);
	return 0;
}

static bool record_there(struct session *s)
{
	struct stat st;
	return !fstat(s->report, &st) && st.st_size > s->report_at;
}

static int keeper_signal(struct session *s, int sig)
{
	pid_t keeper;
	while (!(keeper = keeper_find(s)))
		if (record_there(s) || session_wait_us(s, 200))
			return session_fail(s, "the update ended and no keeper was seen");
	return kill(keeper, sig) ? session_fail(s, "keeper: %s", strerror(errno)) : 0;
}

static int record_read(struct session *s)
{
	uint64_t until = clock_ns() + RECORD_MS * 1000000ull * s->set->slow;
	while (!record_there(s)) {
		if (clock_ns() > until)
			return session_fail(s, "no record: molt or the guest hangs");
		if (session_wait_us(s, 500))
			return -1;
	}
	ssize_t n = pread(s->report, s->record, sizeof(s->record) - 1, s->report_at);
	s->record[n > 0 ? n : 0] = 0;
	s->report_at += n;
	return 0;
}

/* An update that exec refuses; @sig: for the keeper, meanwhile, 0: none. Once more where the file was
 * broken too late, and the program replaced by itself. */
static int refused(struct session *s, int sig)
{
	for (unsigned i = 0; i < TRIES; i++) {
		if (install_again(s) || kill(s->pid, SIGUSR1) || keeper_signal(s, sig))
			return -1;
		bool broken = break_file(s);
		if (record_read(s))
			return -1;
		if (broken && record_is(s->record, "result", "refused"))
			return strstr(s->record, "exec of")
				       ? 0
				       : session_fail(s, "unexpected record %s", s->record);
		if (!record_is(s->record, "result", "ok"))
			return session_fail(s, "unexpected record %s", s->record);
	}
	return session_fail(s, "the pause was too short to break the file in, %d times", TRIES);
}

/* The guest answers, and no keeper is left once it has had time to go. */
static int check_guest(struct session *s)
{
	uint64_t until = clock_ns() + RECORD_MS * 1000000ull * s->set->slow;
	if (session_ask(s, 'r', "GAP "))
		return -1;
	while (keeper_find(s))
		if (clock_ns() > until || session_wait_us(s, 1000))
			return session_fail(s, "the keeper is left over");
	return 0;
}

static int exec_refused(struct session *s)
{
	return refused(s, 0);
}

static int stopped_and_refused(struct session *s)
{
	return refused(s, SIGSTOP);
}

static int killed_and_refused(struct session *s)
{
	return refused(s, SIGKILL);
}

static int killed(struct session *s)
{
	return session_update_begin(s) || keeper_signal(s, SIGKILL) || session_update_end(s);
}

/* What a keeper sends that was kept from running between its look at the word and the signal: to the new
 * program, which has committed, and to the old one, which has resumed. */
static int nudged_late(struct session *s)
{
	return session_update(s) || kill(s->pid, SIGXCPU);
}

static int refused_and_nudged(struct session *s)
{
	return refused(s, 0) || kill(s->pid, SIGXCPU);
}

int drive_keeper(struct session *s, unsigned updates)
{
	static const struct {
		const char *name;
		int (*run)(struct session *s);
	} rows[] = {
		{"exec refuses", exec_refused},
		{"nudge after commit", nudged_late},
		{"keeper killed", killed},
		{"nudge after resuming", refused_and_nudged},
		{"keeper killed, exec refuses", killed_and_refused},
		{"keeper stopped, exec refuses", stopped_and_refused},
	};

	if (session_expect(s, "READY", BOOT_MS) || check_guest(s))
		return -1;
	for (unsigned i = 0; i < updates; i++) {
		unsigned row = i % (sizeof(rows) / sizeof(rows[0]));
		if (rows[row].run(s) || check_guest(s)) {
			char why[sizeof(s->error)];
			memcpy(why, s->error, sizeof(why));
			s->error[0] = 0;
			return session_fail(s, "'%s': %.900s", rows[row].name, why);
		}
	}
	return session_update(s) || session_send(s, "q", 1) || session_finish(s) ? -1 : 0;
}
