/* SPDX-License-Identifier: MIT */
/* How a guest may end other than by powering off. */
#include <stdio.h>

#include "tests/guest/cases/cases.h"
#include "tests/guest/cases/drives.h"
#include "tests/guest/runner/session.h"

#define BOOT_MS	 30000
#define PANICKED 34 /* molt(1), EXIT STATUS */

/* Told by a guest that goes on, and after an update by one that does not. */
int drive_panic(struct session *s, unsigned updates)
{
	if (session_expect(s, "READY", BOOT_MS) || drive_updates(s, updates / 2) ||
	    session_ask(s, 'c', "GOES ON") ||
	    session_await_written(s, "log", "its crash kernel goes on", 1) ||
	    drive_updates(s, updates - updates / 2) || session_send(s, "p", 1) ||
	    session_exits(s, PANICKED))
		return -1;
	if (!session_logged(s, "the guest's kernel has panicked (exit 34)"))
		return session_fail(s, "molt does not say that the guest has panicked");
	snprintf(s->line, sizeof(s->line), "ended with %d", PANICKED);
	return 0;
}
