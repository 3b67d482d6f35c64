/* SPDX-License-Identifier: MIT */
#include "cpr/fault.h"

#ifdef MOLT_FAULTS

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/base/fd.h"
#include "vmm/base/num.h"

static const struct {
	const char *action;
	int sig;
} signals[] = {
	{"segv", SIGSEGV}, {"abort", SIGABRT}, {"stop", SIGSTOP},
	{"kill", SIGKILL}, {"bus", SIGBUS},
};

/* POINT:ACTION from the environment, or from the file it names with an @ in front. */
static const char *fault_wanted(char *buf, size_t size)
{
	const char *fault = getenv("MOLT_FAULT");
	if (!fault || fault[0] != '@')
		return fault;
	return file_read_text(fault + 1, buf, size) > 0 ? buf : NULL;
}

void fault_point(const char *name)
{
	char buf[64];
	const char *fault = fault_wanted(buf, sizeof(buf));
	size_t n = strlen(name);
	if (!fault || strncmp(fault, name, n) || fault[n] != ':')
		return;
	const char *action = fault + n + 1;
	for (unsigned i = 0; i < ARRAY_LEN(signals); i++)
		if (!strcmp(action, signals[i].action))
			raise(signals[i].sig);
	if (!strcmp(action, "exit"))
		_exit(0);
	while (!strcmp(action, "hang"))
		pause();
	for (int fd = 3; !strcmp(action, "close") && fd < 1024; fd++)
		close(fd);
}

#endif
