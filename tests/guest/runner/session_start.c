/* SPDX-License-Identifier: MIT */
/* The beginning and the end of a session. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/guest/cases/cases.h"
#include "tests/guest/runner/cgroup.h"
#include "tests/guest/runner/session.h"
#include "tests/guest/runner/session_user.h"

#define CONTAINER  (CLONE_NEWPID | CLONE_NEWNS)
#define LOG_MS	   30000u
#define PREPARE_MS 10000u /* what molt gives by default, on a host that is not slow */
#define SHOW_LOG   1500	  /* bytes of molt's messages shown with a failure */

/* Both clocks at the same moment: of ten looks the one that was interrupted least. */
static void clocks_read(uint64_t *ns, uint64_t *tsc)
{
	uint64_t best = UINT64_MAX;

	for (int i = 0; i < 10; i++) {
		uint64_t before = host_tsc(), now = clock_ns(), took = host_tsc() - before;
		if (took >= best)
			continue;
		best = took;
		*ns = now;
		*tsc = before;
	}
}

/* Against CLOCK_MONOTONIC over 100 ms: better than 0.1 %, enough for deadlines and reports. */
static uint64_t tsc_calibrate(void)
{
	uint64_t t0 = 0, c0 = 0, t1 = 0, c1 = 0;

	clocks_read(&t0, &c0);
	usleep(100000);
	clocks_read(&t1, &c1);
	return (c1 - c0) * 1000000 / (t1 - t0);
}

int session_copy(struct session *s, const char *from, const char *name)
{
	char to[160], chunk[65536];
	ssize_t n;

	snprintf(to, sizeof(to), "%s/%s", s->dir, name);
	int in = open(from, O_RDONLY | O_CLOEXEC);
	int out = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0755);
	int rc = in < 0 || out < 0 ? -1 : 0;
	while (!rc && (n = read(in, chunk, sizeof(chunk))) > 0)
		if (write(out, chunk, (size_t)n) != n)
			rc = -1;
	if (rc)
		session_fail(s, "copy %s to %s: %s", from, to, strerror(errno));
	if (in >= 0)
		close(in);
	if (out >= 0)
		close(out);
	return rc;
}

/* Puts the numbers of descriptors in place of %T, %U and %N, and the session's folder in place of %D. */
static void expand(const struct session *s, const char *arg, char *to, size_t size)
{
	char *end = to + size - 16;
	for (const char *p = arg; *p && to < end; p++) {
		if (p[0] == '%' && (p[1] == 'T' || p[1] == 'U' || p[1] == 'N'))
			to += sprintf(to, "%d",
				      *++p == 'T' ? s->trigger
				      : *p == 'U' ? s->unmask
						  : s->link_molt);
		else if (p[0] == '%' && p[1] == 'D' && ++p)
			to += snprintf(to, (size_t)(end - to), "%s", s->dir);
		else
			*to++ = *p;
	}
	*to = 0;
}

static void child_exec(struct session *s, const char *cmdline, const char *kernel,
		       const char *report, int in, int out)
{
	char cpus[16], expanded[TEST_ARGS][128];
	char *argv[42], prepare[16];
	unsigned n = 0;
	char log[160];

	if (s->test->container && !session_user_mounts(true))
		_exit(126);
	snprintf(log, sizeof(log), "%s/log", s->dir);
	int err = open(log, O_WRONLY | O_CREAT | O_APPEND, 0600);
	if (dup2(in, 0) < 0 || dup2(out, 1) < 0 || err < 0 || dup2(err, 2) < 0)
		_exit(126);
	close(err);
	snprintf(cpus, sizeof(cpus), "%u", s->test->cpus);
	argv[n++] = s->program;
	argv[n++] = "run";
	argv[n++] = "--kernel";
	argv[n++] = (char *)kernel;
	argv[n++] = "--console";
	argv[n++] = "stdio";
	argv[n++] = "--report";
	argv[n++] = (char *)report;
	argv[n++] = "--cpus";
	argv[n++] = cpus;
	argv[n++] = "--cmdline";
	argv[n++] = (char *)cmdline;
	/* A case's own comes after it, and counts. Warming, which takes only idle time, gets none where a guest
	 * that never rests has the only processor. */
	if (s->set->slow > 1) {
		snprintf(prepare, sizeof(prepare), "%u", PREPARE_MS * s->set->slow);
		argv[n++] = "--prepare-timeout";
		argv[n++] = prepare;
		argv[n++] = "--warm-budget";
		argv[n++] = "100";
	}
	for (unsigned i = 0; i < TEST_ARGS && s->test->args[i]; i++) {
		expand(s, s->test->args[i], expanded[i], sizeof(expanded[i]));
		argv[n++] = expanded[i];
	}
	argv[n] = NULL;
	char fault[128];
	snprintf(fault, sizeof(fault), "@%s/fault", s->dir);
	setenv("MOLT_FAULT", fault, 1); /* for builds with faults (drives_fault.c) */
	snprintf(fault, sizeof(fault), "%s/notify", s->dir);
	if (s->notify >= 0)
		setenv("NOTIFY_SOCKET", fault, 1);
	if (s->test->user)
		session_user_become(s);
	if (s->test->cgroup && cgroup_enter())
		_exit(126);
	execv(argv[0], argv);
	fprintf(stderr, "exec %s: %s\n", argv[0], strerror(errno));
	_exit(126);
}

/* The supervisor's end of $NOTIFY_SOCKET. */
static int supervise(struct session *s)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s/notify", s->dir);
	const int on = 1; /* who sends counts, as for systemd's NotifyAccess=main */
	s->notify = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (setsockopt(s->notify, SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)) ||
	    bind(s->notify, (struct sockaddr *)&addr, sizeof(addr)))
		return session_fail(s, "bind %s: %s", addr.sun_path, strerror(errno));
	return 0;
}

/* A network interface's link; molt inherits its end. */
static int link_make(struct session *s)
{
	int end[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, end) || fcntl(end[1], F_SETFD, 0))
		return session_fail(s, "socket: %s", strerror(errno));
	s->link = end[0];
	s->link_molt = end[1];
	return 0;
}

static int disk_make(struct session *s, unsigned mib)
{
	char path[160];
	snprintf(path, sizeof(path), "%s/disk", s->dir);
	int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	int rc = fd < 0 || ftruncate(fd, (off_t)mib << 20);
	if (fd >= 0)
		close(fd);
	return rc ? session_fail(s, "%s: %s", path, strerror(errno)) : 0;
}

static int session_init(struct session *s, const struct settings *set, const struct test_case *test,
			unsigned updates)
{
	const char *tmp = getenv("TMPDIR");
	memset(s, 0, sizeof(*s));
	s->set = set;
	s->test = test;
	s->random = set->seed | 1;
	s->in = s->out = s->report = s->watch = s->trigger = s->unmask = s->notify = -1;
	s->link = s->link_molt = -1;
	s->max_updates = updates;
	s->pauses_ns = calloc(updates + 1, sizeof(*s->pauses_ns));
	s->gaps_ns = calloc(updates + 1, sizeof(*s->gaps_ns));
	s->tsc_khz = tsc_calibrate();
	snprintf(s->dir, sizeof(s->dir), "%.40s/guest-test.XXXXXX", tmp ? tmp : "/tmp");
	if (!mkdtemp(s->dir))
		return session_fail(s, "mkdtemp %s: %s", s->dir, strerror(errno));
	snprintf(s->program, sizeof(s->program), "%s/molt", s->dir);
	if (session_copy(s, set->molt, "molt.a") ||
	    session_copy(s, set->molt_b ?: set->molt, "molt.b") || session_install(s, false))
		return -1;
	if (session_program_of(s->program, &s->running))
		return session_fail(s, "%s: %s", s->program, strerror(errno));
	return 0;
}

/* What the case's arguments need. Descriptors are inherited by molt under these numbers. */
static int make_resources(struct session *s)
{
	for (unsigned i = 0; i < TEST_ARGS && s->test->args[i]; i++) {
		const char *arg = s->test->args[i];
		if (strstr(arg, "%T"))
			s->trigger = eventfd(0, EFD_NONBLOCK);
		if (strstr(arg, "%U"))
			s->unmask = eventfd(0, EFD_NONBLOCK);
		if (strstr(arg, "%N") && link_make(s))
			return -1;
		if (!strcmp(arg, "--control") && supervise(s))
			return -1;
	}
	return s->test->disk_mib ? disk_make(s, s->test->disk_mib) : 0;
}

int session_start(struct session *s, const struct settings *set, const struct test_case *test,
		  unsigned updates)
{
	char cmdline[256], kernel[512], report[160];
	int to[2], from[2];

	if (session_init(s, set, test, updates) || make_resources(s))
		return -1;
	snprintf(report, sizeof(report), "%s/report", s->dir);
	s->report = open(report, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	s->watch = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	if (s->report < 0 || inotify_add_watch(s->watch, report, IN_MODIFY) < 0 ||
	    pipe2(to, O_CLOEXEC) || pipe2(from, O_CLOEXEC))
		return session_fail(s, "pipes: %s", strerror(errno));
	snprintf(kernel, sizeof(kernel), "%s/%s", set->guests, test->guest);
	if (test->user) { /* who may not look into the build folder */
		if (session_copy(s, kernel, "kernel") || session_user_give(s, report))
			return -1;
		snprintf(kernel, sizeof(kernel), "%s/kernel", s->dir);
	}
	snprintf(cmdline, sizeof(cmdline),
		 "cpus=%u tsc_khz=%llu updates=%u slow=%u emulated=%d software=%d %s", test->cpus,
		 (unsigned long long)s->tsc_khz, updates, set->slow, set->emulated, set->soft_kvm,
		 test->cmdline ?: "");
	s->pid = test->container
			 ? (pid_t)syscall(SYS_clone, CONTAINER | SIGCHLD, NULL, NULL, NULL, NULL)
			 : fork();
	if (s->pid < 0)
		return session_fail(s, "fork: %s", strerror(errno));
	if (!s->pid)
		child_exec(s, cmdline, kernel, report, to[0], from[1]);
	close(to[0]);
	close(from[1]);
	s->in = to[1];
	s->out = from[0];
	fcntl(s->out, F_SETFL, O_NONBLOCK);
	return 0;
}

void session_end(struct session *s)
{
	static const char *const files[] = {
		"molt",	   "molt.a",	"molt.b", "molt.new", "report",	      "log",
		"fault",   "notify",	"ctl",	  "ctl.lock", "kept",	      "kernel",
		"own.log", "own.log.1", "config", "own.ctl",  "own.ctl.lock", "disk"};
	char path[160];

	session_kill(s);
	for (unsigned i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
		snprintf(path, sizeof(path), "%s/%s", s->dir, files[i]);
		unlink(path);
	}
	session_user_end(s);
	rmdir(s->dir);
	int fds[] = {s->in,	s->out,	   s->report, s->watch,	   s->trigger,
		     s->unmask, s->notify, s->link,   s->link_molt};
	for (unsigned i = 0; i < sizeof(fds) / sizeof(fds[0]); i++)
		if (fds[i] >= 0)
			close(fds[i]);
	free(s->records);
	free(s->pauses_ns);
	free(s->gaps_ns);
}

unsigned session_written(const struct session *s, const char *file, const char *text)
{
	char path[160];
	unsigned n = 0;

	snprintf(path, sizeof(path), "%s/%s", s->dir, file);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	off_t len = fd < 0 ? 0 : lseek(fd, 0, SEEK_END);
	char *log = calloc(1, (size_t)len + 1);
	if (log && len && pread(fd, log, (size_t)len, 0) == len)
		for (const char *p = log; (p = strstr(p, text)); p++)
			n++;
	free(log);
	if (fd >= 0)
		close(fd);
	return n;
}

unsigned session_logged(const struct session *s, const char *text)
{
	return session_written(s, "log", text);
}

int session_await_written(struct session *s, const char *file, const char *text, unsigned n)
{
	for (unsigned ms = 0; session_written(s, file, text) < n; ms += 10) {
		if (ms > LOG_MS * s->set->slow)
			return session_fail(s, "%s: '%s' is not there %u times", file, text, n);
		if (session_wait_us(s, 10000))
			return -1;
	}
	return 0;
}

void session_show(const struct session *s)
{
	char path[160], text[SHOW_LOG + 1];
	unsigned from = s->lines > SESSION_TAIL ? s->lines - SESSION_TAIL : 0;

	for (unsigned i = from; i < s->lines; i++)
		printf("    guest| %s\n", s->tail[i % SESSION_TAIL]);
	if (s->len)
		printf("    guest| %.*s (no newline)\n", (int)s->len, s->buf);
	snprintf(path, sizeof(path), "%s/log", s->dir);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	off_t end = lseek(fd, 0, SEEK_END);
	ssize_t n = pread(fd, text, SHOW_LOG, end > SHOW_LOG ? end - SHOW_LOG : 0);
	text[n > 0 ? n : 0] = 0;
	for (char *save, *l = strtok_r(text, "\n", &save); l; l = strtok_r(NULL, "\n", &save))
		printf("    molt| %s\n", l);
	close(fd);
}
