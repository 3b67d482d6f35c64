/* SPDX-License-Identifier: MIT */
/*
 * One molt with one test guest, as a child of the runner: its console on two pipes, its report file,
 * its updates. Nothing of molt is linked or included: this side sees what any supervisor sees.
 *
 * Functions return 0, or -1 with session.error saying what is wrong.
 */
#ifndef RUNNER_SESSION_H
#define RUNNER_SESSION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define SESSION_TAIL   24
#define SESSION_LINE   512
#define SESSION_RECORD 8192

struct session;
struct test_case;

struct settings {
	const char *molt, *molt_b; /* programs; the second may be NULL */
	const char *guests;	   /* folder of the guests */
	unsigned updates;	   /* 0: what the case says */
	unsigned slow;		   /* factor on all deadlines */
	uint64_t seed;
	bool soft_kvm; /* /dev/kvm here does without the processor's virtualisation */
	bool emulated; /* this host's processor is QEMU's emulation */
	bool verbose;
	bool long_run; /* the long versions: test_case.long_updates */
};

/* A program's file, whatever it is called. */
struct program_file {
	dev_t dev;
	ino_t ino;
};

struct session {
	const struct settings *set;
	const struct test_case *test;
	pid_t pid;
	int in, out, report; /* guest's input, guest's output, report file */
	int watch;	     /* inotify: something was written to the report */
	int trigger, unmask; /* eventfds of the test device, -1: none */
	int link, link_molt; /* our end and molt's of a network interface's link, -1: none */
	int notify; /* socket of the supervisor that we play for cases with --control, or -1 */
	char dir[64], program[96];
	struct program_file asked, running; /* of the update under way; of the last good one */
	bool hasty;			    /* measures: nothing is waited for after an update */
	char error[1024];

	char buf[65536]; /* output not yet cut into lines */
	size_t len;
	char line[SESSION_LINE];
	char tail[SESSION_TAIL][SESSION_LINE]; /* the last lines, for failures */
	unsigned lines;
	bool exited;
	bool forbidden; /* molt is made to do what its sandbox forbids */
	int status;

	/* Called for each line before anybody else sees it; true: taken. */
	bool (*on_line)(struct session *s, const char *line);
	/* Called again and again while the runner waits for something; nonzero: failed. */
	int (*on_poll)(struct session *s);
	/* Called after each good update; nonzero: failed. */
	int (*on_update)(struct session *s);
	void *opaque; /* on_line's and on_poll's */

	uint64_t random;
	uint64_t tsc_khz;
	unsigned updates;
	uint64_t *pauses_ns; /* one per update, room for max_updates */
	uint64_t *gaps_ns;   /* the same as the guest saw it; drive_gap only */
	unsigned max_updates;
	char record[SESSION_RECORD];  /* the last one */
	char slowest[SESSION_RECORD]; /* the one with the longest pause */
	char *records;		      /* all of the file, read by session_finish */
	off_t report_at;
};

int session_start(struct session *s, const struct settings *set, const struct test_case *test,
		  unsigned updates);
/* Ends molt if it lives, its workers too, and removes the folder. */
void session_end(struct session *s);

int session_fail(struct session *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Prints the console's last lines and molt's own messages. */
void session_show(const struct session *s);

int session_send(struct session *s, const char *bytes, size_t len);
/* The next line of the guest in s->line: 1; none within @ms: 0; end of the guest or FAIL: -1. */
int session_line(struct session *s, unsigned ms);
/* The next line must begin with @start; others fail. */
int session_expect(struct session *s, const char *start, unsigned ms);
/* Sends one byte and expects the answer. */
int session_ask(struct session *s, char byte, const char *start);
/* Keeps reading (lines go to on_line) for that long. */
int session_wait_us(struct session *s, uint64_t us);
uint64_t session_random(struct session *s, uint64_t below);

/* Copies a program into the session's folder, under a name that is not there yet. */
int session_copy(struct session *s, const char *from, const char *name);
/* Puts program A or B where molt was started from, as a package upgrade does. */
int session_install(struct session *s, bool b);
/* One update: other program file in place, SIGUSR1; _begin does not wait for the record. */
int session_update_begin(struct session *s);
int session_update_end(struct session *s);
int session_update(struct session *s);
/* The next record of the report in s->record, whoever wrote it: the pid may change. */
int session_record(struct session *s);
/* Keeps the console flowing for a moment, its lines unread; -1: molt has ended. */
int session_idle(struct session *s);
/* Expects PASS, power off and exit code 0. */
int session_finish(struct session *s);

/* Notices the end of the process that the world knows. */
bool session_alive(struct session *s);

/* ---- molt's processes (session_process.c) ---- */

/* The process that has the guest: the child of s->pid, which the world knows, whose name is molt-worker. 0: none. */
pid_t session_worker(const struct session *s);
/* Children of s->pid, those that are no zombies. @name: whose name begins with that, NULL: all. Returns how many, the
 * first in *pid (NULL: not wanted). */
unsigned session_children(const struct session *s, const char *name, pid_t *pid);
/* How many children a process has, zombies too; the first @max of them in @pids. */
unsigned process_children(pid_t pid, pid_t *pids, unsigned max);
/* Kills them all, parent and workers: a worker whose parent execs itself just then does not end with it. */
void session_kill(struct session *s);
/* The last record is of the process that the world knows, which lives. */
int session_same_pid(struct session *s);
/* Waits until the last update is through: the world's process runs the program of the last good one, has one child, the
 * worker, and holds nothing of the guest's. */
int session_settle(struct session *s);
/* 0, or -1: errno. */
int session_program_of(const char *path, struct program_file *file);

/* Waits for molt to end with that exit code. */
int session_exits(struct session *s, int code);
/* How often is @text among molt's own messages? */
unsigned session_logged(const struct session *s, const char *text);
/* The same of another file in the session's folder. */
unsigned session_written(const struct session *s, const char *file, const char *text);
/* Waits until it is there @n times. */
int session_await_written(struct session *s, const char *file, const char *text, unsigned n);

/* Numbers of the last record. -1: not there. */
int64_t record_number(const char *record, const char *key);
bool record_is(const char *record, const char *key, const char *value);
bool record_text(const char *record, const char *key, char *out, size_t size);

uint64_t clock_ns(void);
uint64_t host_tsc(void);

#endif
