/* SPDX-License-Identifier: MIT */
/* What a successor that fails on purpose does. */
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

#include "cpr/handover/protocol.h"
#include "cpr/handover/wire.h"
#include "vmm/base/error.h"
#include "vmm/base/fd.h"
#include "vmm/base/num.h"
#include "vmm/seccomp/seccomp.h"

#define MAX_FD 1024

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

/* Whoever takes this program for gone is wrong about its child, which has all that it had. */
static void act_fork(void)
{
	if (fork() == 0)
		act_hang();
	_exit(0);
}

/* Those of clients, which come with the guest, are streams. */
static bool is_link(int fd)
{
	int type = 0;
	socklen_t len = sizeof(type);
	return !getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) && type == SOCK_SEQPACKET;
}

/* To parent and incumbent, as one message. Returns whether one takes it. */
static bool say(const char *text, size_t len)
{
	bool took = false;
	for (int fd = STDERR_FILENO + 1; fd < MAX_FD; fd++)
		if (is_link(fd))
			took |= send(fd, text, len, MSG_NOSIGNAL | MSG_DONTWAIT) > 0;
	return took;
}

static void act_garbage(void)
{
	static const char text[] = "\033[2J\377 this is no message";
	say(text, sizeof(text));
	_exit(0);
}

/* As PROTOCOL_@kind; and as what parent and worker say to each other, where it means nothing. */
static bool say_kind(uint32_t kind, int64_t value, const char *text)
{
	struct {
		struct wire_header header;
		char text[256];
	} m = {.header = {.magic = WIRE_MAGIC, .kind = kind, .value = value}};
	snprintf(m.text, sizeof(m.text), "%s", text);
	return say((const char *)&m, sizeof(m.header) + strlen(m.text));
}

/* Without end. */
static void act_flood(void)
{
	for (;;)
		if (!say_kind(PROTOCOL_PROGRESS, 1, "!"))
			usleep(100);
}

static void act_wrong(void)
{
	say_kind(99, 0, "");
	act_hang();
}

static void act_no(void)
{
	say_kind(PROTOCOL_NO, 0, "I would rather not\nand I say so\n");
	_exit(EXIT_REFUSED);
}

static void act_newer(void)
{
	say_kind(PROTOCOL_HELLO, 0, "molt-handover 98 99\n99.0\n0123\n");
	act_hang();
}

/* As a vCPU's thread, whose filter does not know this call. */
static void *call_forbidden(void *opaque)
{
	seccomp_enter(SECCOMP_VCPU, NULL);
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
	{"segv", SIGSEGV, NULL}, {"abort", SIGABRT, NULL},    {"stop", SIGSTOP, NULL},
	{"kill", SIGKILL, NULL}, {"bus", SIGBUS, NULL},	      {"crash", 0, act_crash},
	{"exit", 0, act_exit},	 {"hang", 0, act_hang},	      {"deaf", 0, act_deaf},
	{"close", 0, act_close}, {"garbage", 0, act_garbage}, {"flood", 0, act_flood},
	{"fork", 0, act_fork},	 {"wrong", 0, act_wrong},     {"no", 0, act_no},
	{"newer", 0, act_newer}, {"slow", 0, act_slow},	      {"forbidden", 0, act_forbidden},
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
