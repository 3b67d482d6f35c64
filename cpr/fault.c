/* SPDX-License-Identifier: MIT */
/* The faults that the tests' build commits on purpose, and where. */
#include "cpr/fault.h"

#ifdef MOLT_FAULTS

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "vmm/base/error.h"
#include "vmm/base/fd.h"
#include "vmm/base/num.h"
#include "vmm/confine.h"

#define STATUS_WALLED 8 /* of roam: everything was refused */
#define STATUS_LOOSE  9
#define MAX_FD	      1024

/* POINT:ACTION from the environment, or from the file it names with an @ in front. */
static const char *fault_wanted(char *buf, size_t size)
{
	const char *fault = getenv("MOLT_FAULT");
	if (!fault || fault[0] != '@')
		return fault;
	return file_read_text(fault + 1, buf, size) > 0 ? buf : NULL;
}

static void act_crash(void)
{
	signal(SIGSEGV, SIG_DFL); /* a sanitizer's handler exits instead */
	raise(SIGSEGV);
}

static void act_exit(void)
{
	_exit(0);
}

static void act_hang(void)
{
	for (;;)
		pause();
}

/* And then as if nothing had been. */
static void act_slow(void)
{
	usleep(1000000);
}

static void act_deaf(void)
{
	signal(SIGTERM, SIG_IGN);
	act_hang();
}

static void act_close(void)
{
	for (int fd = STDERR_FILENO + 1; fd < MAX_FD; fd++)
		close(fd);
}

static void act_fork(void)
{
	if (fork() == 0)
		act_hang();
	_exit(0);
}

/* Into every descriptor that takes it. Returns whether one did. */
static bool say(const char *text, size_t len)
{
	bool took = false;
	signal(SIGXFSZ, SIG_IGN); /* files may not grow there */
	for (int fd = STDERR_FILENO + 1; fd < MAX_FD; fd++)
		took |= write(fd, text, len) > 0;
	return took;
}

static void act_garbage(void)
{
	static const char text[] = "molt-preflight 1\nreason \033[2J\377\nyes";
	say(text, sizeof(text));
	_exit(0);
}

static void act_flood(void)
{
	static const char text[] = "molt-preflight 1\nreason none\n";
	while (say(text, sizeof(text) - 1))
		;
}

/* Says yes as it should, and stays. */
static void act_linger(void)
{
	static const char text[] = "molt-preflight 1\nyes\n";
	say(text, sizeof(text) - 1);
	act_hang();
}

/* What a preflight may not do; nothing of it would harm anybody. */
static void act_roam(void)
{
	bool loose = kill(getppid(), 0) == 0 || socket(AF_UNIX, SOCK_STREAM, 0) >= 0 ||
		     open("/dev/null", O_WRONLY) >= 0 || open("/dev/null", O_RDONLY) < 0 ||
		     unlink("/nowhere") == 0 || errno != EPERM || fork() >= 0 || setsid() >= 0;
	for (int fd = 7; fd < MAX_FD; fd++) /* 3 to 5 are its own, 6 was opened here */
		loose |= fcntl(fd, F_GETFD) >= 0;
	_exit(loose ? STATUS_LOOSE : STATUS_WALLED);
}

/* As a vCPU's thread, whose filter does not know this call. */
static void *call_forbidden(void *opaque)
{
	confine_enter(CONFINE_VCPU, NULL);
	syscall(SYS_getppid);
	return NULL;
}

static void act_forbidden(void)
{
	pthread_t thread;
	if (!pthread_create(&thread, NULL, call_forbidden, NULL))
		pthread_join(thread, NULL);
}

static const struct {
	const char *action;
	int sig;
	void (*act)(void);
} actions[] = {
	{"segv", SIGSEGV, NULL}, {"abort", SIGABRT, NULL},	  {"stop", SIGSTOP, NULL},
	{"kill", SIGKILL, NULL}, {"bus", SIGBUS, NULL},		  {"crash", 0, act_crash},
	{"exit", 0, act_exit},	 {"hang", 0, act_hang},		  {"deaf", 0, act_deaf},
	{"close", 0, act_close}, {"fork", 0, act_fork},		  {"garbage", 0, act_garbage},
	{"flood", 0, act_flood}, {"linger", 0, act_linger},	  {"roam", 0, act_roam},
	{"slow", 0, act_slow},	 {"forbidden", 0, act_forbidden},
};

/* What is to be done at this point, in @buf; "" if nothing is. */
static const char *fault_action(const char *name, char *buf, size_t size)
{
	char words[256];
	const char *fault = fault_wanted(words, sizeof(words));
	size_t n = strlen(name);
	buf[0] = 0;
	for (; fault && *fault; fault += strcspn(fault, " "), fault += strspn(fault, " "))
		if (!strncmp(fault, name, n) && fault[n] == ':')
			snprintf(buf, size, "%.*s", (int)strcspn(fault + n + 1, " "),
				 fault + n + 1);
	return buf;
}

int fault_error(const char *name, struct error *err)
{
	char buf[32];
	if (strcmp(fault_action(name, buf, sizeof(buf)), "fail"))
		return 0;
	return error_set(err, EIO, "fault point %s", name);
}

void fault_point(const char *name)
{
	char buf[32];
	const char *action = fault_action(name, buf, sizeof(buf));
	for (unsigned i = 0; i < ARRAY_LEN(actions); i++) {
		if (strcmp(action, actions[i].action))
			continue;
		if (actions[i].sig)
			raise(actions[i].sig);
		else
			actions[i].act();
	}
}

#endif
