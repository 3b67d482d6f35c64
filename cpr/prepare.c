/* SPDX-License-Identifier: MIT */
#include "cpr/prepare.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/arch.h"
#include "vmm/base/fd.h"
#include "vmm/machine.h"

static int check_mode(const struct stat *st, const char *path, struct error *err)
{
	if (S_ISDIR(st->st_mode))
		return error_set(err, EISDIR, "%s: a directory, not a program", path);
	if (!S_ISREG(st->st_mode))
		return error_set(err, EACCES, "%s: not a regular file", path);
	if (!st->st_size)
		return error_set(err, ENOEXEC, "%s: the file is empty", path);
	if (!(st->st_mode & (S_IXUSR | S_IXGRP | S_IXOTH)) ||
	    faccessat(AT_FDCWD, path, X_OK, AT_EACCESS) < 0) {
		error_set(err, EACCES, "%s: not executable", path);
		return error_hint(err, "chmod 755 %s", path);
	}
	if (st->st_mode & S_IWOTH) {
		error_set(err, EPERM, "%s: writable by everybody (mode %o)", path,
			  st->st_mode & 07777);
		return error_hint(err, "chmod o-w %s", path);
	}
	return 0;
}

int prepare_program(const char *path, struct error *err)
{
	struct stat st;
	fd_auto int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0) {
		error_errno(err, errno, "program %s", path);
		return error_hint(err, "put the new molt at that path, then send SIGUSR1 again");
	}
	if (fstat(fd, &st) < 0)
		return error_errno(err, errno, "program %s", path);
	int rc = check_mode(&st, path, err);
	if (!rc)
		rc = arch_check_elf(fd, path, err);
	if (rc)
		return rc;
	rc = fd;
	fd = -1;
	return rc;
}

int prepare_devices(struct machine *m, struct error *err)
{
	for (unsigned i = 0; i < m->ndevices; i++) {
		struct device *dev = m->devices[i];
		int rc = dev->cls->check ? dev->cls->check(dev, err) : 0;
		if (rc)
			return error_prefix(err, "%s cannot be kept", dev->name);
	}
	return 0;
}
