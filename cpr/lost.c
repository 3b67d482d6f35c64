/* SPDX-License-Identifier: MIT */
#include "cpr/lost.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "cpr/blob.h"
#include "cpr/handover.h"
#include "cpr/report.h"
#include "cpr/rescue.h"
#include "vmm/base/fd.h"
#include "vmm/base/log.h"
#include "vmm/console.h"
#include "vmm/machine.h"

#define LAST_WORDS_S 5

/* A file of its own: one that is there already may be somebody else's, or be open elsewhere. */
static int keep(const char *path, const struct blob *blob, struct error *err)
{
	if (unlink(path) && errno != ENOENT)
		return error_errno(err, errno, "--keep-failed-state %s", path);
	fd_auto int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	int rc = fd < 0 ? -errno : fd_write_all(fd, blob->map, blob->len);
	return rc ? error_errno(err, -rc, "--keep-failed-state %s", path) : 0;
}

void lost_tell(struct machine *m, const struct blob *blob, const struct handover *times,
	       struct error *err)
{
	const char *path = m->opt.keep_failed_state;
	struct error failed;

	if (times && times->reason[0])
		error_prefix(err, "%.*s; the old program failed too", HANDOVER_REASON_LEN - 1,
			     times->reason);
	error_hint(err, "the guest is lost; start it anew");
	if (path && blob->map) {
		if (keep(path, blob, &failed))
			log_error(&failed);
		else
			error_hint(err, "the guest is lost; its state is in %s (molt state dump)",
				   path);
	}
	error_exit(err, EXIT_LOST);
	report_lost(m, err);
}

static struct {
	struct machine *m;
	const struct blob *blob;
	struct handover *const *times;
} watched;

/* None of this is safe in a handler of a program that has crashed. But the guest is lost in any case: one more
 * crash, or a lock that is held (hence the alarm), only make it end without words. */
static void on_crash(int sig)
{
	struct error err;

	alarm(LAST_WORDS_S);
	error_set(&err, EFAULT, "it crashed (signal %d)", sig);
	lost_tell(watched.m, watched.blob, *watched.times, &err);
	error_prefix(&err, "update failed before commit");
	if (watched.m->console)
		console_own_terminal(watched.m->console);
	console_restore_terminal();
	log_error(&err);
	_exit(EXIT_LOST);
}

void lost_watch(enum program_mode mode, struct machine *m, const struct blob *blob,
		struct handover *const *times)
{
	if (mode != PROGRAM_AGAIN)
		return;
	watched.m = m;
	watched.blob = blob;
	watched.times = times;
	rescue_arm_last(on_crash);
}
