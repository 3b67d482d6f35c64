/* SPDX-License-Identifier: MIT */
/* The environment variable that tells a program its role, and the list of signals that the parent passes on. */
#include "cpr/handover/link.h"
#include "vmm/base/base.h"

static const char *const names[] = {
	[ROLE_PARENT] = "parent",
	[ROLE_REHEARSAL] = "rehearsal",
	[ROLE_WORKER] = "worker",
	[ROLE_SUCCESSOR] = "successor",
};

void link_signals(sigset_t *set)
{
	static const int served[] = {SIGUSR1, SIGTERM, SIGINT,	  SIGHUP,  SIGQUIT,
				     SIGUSR2, SIGALRM, SIGVTALRM, SIGPROF, SIGSTKFLT,
				     SIGPOLL, SIGPWR,  SIGXCPU};
	sigemptyset(set);
	for (unsigned i = 0; i < ARRAY_LEN(served); i++)
		sigaddset(set, served[i]);
	for (int sig = SIGRTMIN; sig <= SIGRTMAX; sig++)
		sigaddset(set, sig);
}

void role_format(char *text, const struct role *role)
{
	snprintf(text, ROLE_ENV_LEN, ROLE_ENV "=%s,%d,%d,%d", names[role->kind], role->link,
		 role->peer, (int)role->worker);
}

static bool owns(int fd)
{
	return fd > STDERR_FILENO && !fd_set_cloexec(fd, true);
}

/* Accepts only what role_format would have written. */
static bool parse(const char *text, struct role *role)
{
	char name[16], again[ROLE_ENV_LEN];
	int worker;

	if (sscanf(text, "%15[a-z],%d,%d,%d", name, &role->link, &role->peer, &worker) != 4)
		return false;
	role->worker = worker;
	for (unsigned i = ROLE_PARENT; i < ARRAY_LEN(names); i++) {
		if (strcmp(name, names[i]))
			continue;
		role->kind = i;
		role_format(again, role);
		return !strcmp(again + sizeof(ROLE_ENV), text) && (i != ROLE_PARENT || worker > 0);
	}
	return false;
}

struct role role_incoming(void)
{
	const struct role confused = {.kind = ROLE_CONFUSED, .link = -1, .peer = -1};
	struct role role = {.kind = ROLE_PERSON, .link = -1, .peer = -1};
	const char *text = getenv(ROLE_ENV);

	if (!text)
		return role;
	if (!parse(text, &role) || !owns(role.link) ||
	    ((role.kind == ROLE_SUCCESSOR || (role.kind == ROLE_WORKER && role.peer >= 0)) &&
	     (role.peer == role.link || !owns(role.peer))))
		role = confused;
	unsetenv(ROLE_ENV);
	return role;
}
