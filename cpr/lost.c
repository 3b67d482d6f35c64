/* SPDX-License-Identifier: MIT */
#include "cpr/lost.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "cpr/blob.h"
#include "cpr/handover.h"
#include "cpr/report.h"
#include "vmm/base/fd.h"
#include "vmm/base/log.h"
#include "vmm/machine.h"

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
