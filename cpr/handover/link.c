/* SPDX-License-Identifier: MIT */
/* The environment variable that tells an image its role. */
#include "cpr/handover/link.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "vmm/base/fd.h"
#include "vmm/base/num.h"

static const char *const names[] = {
	[ROLE_PARENT] = "parent",
	[ROLE_REHEARSAL] = "rehearsal",
	[ROLE_WORKER] = "worker",
	[ROLE_SUCCESSOR] = "successor",
};

void role_format(char *text, const struct role *role)
{
	snprintf(text, ROLE_ENV_LEN, ROLE_ENV "=%s,%d,%d,%d", names[role->kind], role->link,
		 role->peer, (int)role->worker);
}

static bool owns(int fd)
{
	return fd > STDERR_FILENO && !fd_set_cloexec(fd, true);
}

struct role role_incoming(void)
{
	struct role role = {.kind = ROLE_PERSON, .link = -1, .peer = -1};
	const char *text = getenv(ROLE_ENV);
	char name[16];
	int worker, end = 0;

	if (!text)
		return role;
	role.kind = ROLE_CONFUSED;
	if (sscanf(text, "%15[a-z],%d,%d,%d%n", name, &role.link, &role.peer, &worker, &end) == 4 &&
	    !text[end])
		for (unsigned i = ROLE_PARENT; i < ARRAY_LEN(names); i++)
			if (!strcmp(name, names[i]))
				role.kind = i;
	if (role.kind != ROLE_CONFUSED)
		role.worker = worker;
	if (!owns(role.link) || (role.kind == ROLE_SUCCESSOR && !owns(role.peer)))
		role.kind = ROLE_CONFUSED;
	unsetenv(ROLE_ENV);
	return role;
}
