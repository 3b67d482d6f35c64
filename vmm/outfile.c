/* SPDX-License-Identifier: MIT */
/* Files to which lines are appended. */
#include "vmm/outfile.h"

#include <fcntl.h>

#include "vmm/machine.h"

static int get(struct machine *m, const char *name)
{
	pthread_mutex_lock(&m->lock);
	int fd = fdset_get(&m->fds, name);
	pthread_mutex_unlock(&m->lock);
	return fd;
}

int outfile_open(struct machine *m, const char *name, const char *path, struct error *err)
{
	return !path || get(m, name) >= 0 ? 0 : outfile_reopen(m, name, path, err);
}

int outfile_reopen(struct machine *m, const char *name, const char *path, struct error *err)
{
	if (!path)
		return 0;
	/* Not blocking: it may be a FIFO, and the guest's leader must not wait for its reader. */
	int fd =
		open(path, O_WRONLY | O_CREAT | O_APPEND | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0644);
	if (fd < 0)
		return error_file(err, errno, "--%s %.300s", name, path);
	pthread_mutex_lock(&m->lock);
	int rc = fdset_replace(&m->fds, name, fd, err);
	pthread_mutex_unlock(&m->lock);
	if (rc)
		close(fd);
	return rc;
}

static int use_log(struct machine *m, struct error *err)
{
	int rc = m->opt.log ? log_set_file(get(m, "log")) : 0;
	return rc ? error_errno(err, -rc, "--log %.300s", m->opt.log) : 0;
}

int outfile_log(struct machine *m, struct error *err)
{
	log_set_name(m->opt.name);
	log_set_level(m->opt.log_level);
	return outfile_open(m, "log", m->opt.log, err) ?: use_log(m, err);
}

int outfile_log_reopen(struct machine *m, struct error *err)
{
	return outfile_reopen(m, "log", m->opt.log, err) ?: use_log(m, err);
}
