/* SPDX-License-Identifier: MIT */
/* What is checked of an update before a process is started: the program file, and each device's word whether it can be
 * kept now. */
#include "cpr/handover/check.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>

#include "vmm/arch.h"
#include "vmm/base/reasons.h"
#include "vmm/machine.h"

/* Refuses a file that others may write or own: whoever can change it has the guest. */
static int check_owner(const struct stat *st, const char *path, struct error *err)
{
	if (st->st_uid && st->st_uid != geteuid()) {
		error_set(err, EPERM,
			  "%s: belongs to user %u, not to root or the user of this guest (%u)",
			  path, st->st_uid, geteuid());
		return error_hint(err, "chown root %s, or start guests with --insecure-exe", path);
	}
	if (st->st_mode & (S_IWGRP | S_IWOTH)) {
		error_set(err, EPERM, "%s: writable by %s (mode %o)", path,
			  st->st_mode & S_IWOTH ? "everybody" : "its group", st->st_mode & 07777);
		return error_hint(err, "chmod go-w %s, or start guests with --insecure-exe", path);
	}
	return 0;
}

static bool on_noexec(int fd)
{
	struct statvfs fs;
	return !fstatvfs(fd, &fs) && fs.f_flag & ST_NOEXEC;
}

static int check_mode(int fd, const struct stat *st, const char *path, struct error *err)
{
	if (!S_ISREG(st->st_mode) || !st->st_size) {
		bool dir = S_ISDIR(st->st_mode), regular = S_ISREG(st->st_mode);
		error_set(err, dir ? EISDIR : ENOEXEC, "%s: %s", path,
			  dir	    ? "a directory, not a program"
			  : regular ? "the file is empty"
				    : "not a regular file");
		return error_hint(err, "give the path of a molt program");
	}
	if (on_noexec(fd)) {
		error_set(err, EACCES, "%s: on a mount with noexec", path);
		return error_hint(err,
				  "install it elsewhere, or mount -o remount,exec what "
				  "findmnt -T %s names",
				  path);
	}
	int code =
		syscall(SYS_faccessat2, fd, "", X_OK, AT_EACCESS | AT_EMPTY_PATH) < 0 ? errno : 0;
	if (code && code != EACCES)
		return error_errno(err, code, "program %s", path);
	if (code || !(st->st_mode & (S_IXUSR | S_IXGRP | S_IXOTH))) {
		error_set(err, EACCES, "%s: not executable", path);
		return error_hint(err, "chmod 755 %s", path);
	}
	return 0;
}

int check_program(const char *path, bool insecure, struct error *err)
{
	struct stat st;
	fd_auto int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0) {
		error_errno(err, errno, "program %s", path);
		return error_hint(err, "put the new molt at that path, then try again");
	}
	if (fstat(fd, &st) < 0)
		return error_errno(err, errno, "program %s", path);
	int rc = check_mode(fd, &st, path, err);
	if (!rc && !insecure)
		rc = check_owner(&st, path, err);
	if (!rc)
		rc = arch_check_elf(fd, path, err);
	if (rc)
		return rc;
	rc = fd;
	fd = -1;
	return rc;
}

int check_device(struct device *dev, struct error *err)
{
	int rc = dev->cls->check ? dev->cls->check(dev, err) : 0;
	if (!rc)
		dev->blocked_s = 0;
	else if (!dev->blocked_s)
		dev->blocked_s = boot_s();
	return rc;
}

bool check_look(struct machine *m)
{
	struct error err;
	bool may_block = false;
	pthread_mutex_lock(&m->lock);
	for (unsigned i = 0; i < m->ndevices; i++) {
		struct device *dev = m->devices[i];
		bool known = dev->blocked_s;
		may_block |= dev->cls->check != NULL;
		if (!check_device(dev, &err) || known)
			continue;
		log_warn("updates will be refused: %s cannot be kept: %s", dev->name, err.text);
		if (err.hint[0])
			log_info("  remedy: %s", err.hint);
	}
	pthread_mutex_unlock(&m->lock);
	return may_block;
}

/* Asks all devices, even after a no, so that one refusal names everything that is in the way. */
int check_devices(struct machine *m, struct reasons *reasons, struct error *err)
{
	int first = 0;
	pthread_mutex_lock(&m->lock);
	for (unsigned i = 0; i < m->ndevices; i++) {
		struct device *dev = m->devices[i];
		struct error one;
		int rc = check_device(dev, &one);
		if (!rc)
			continue;
		error_prefix(&one, "%s cannot be kept", dev->name);
		reasons_add_error(reasons, &one);
		if (!first)
			*err = one;
		first = first ? first : rc;
	}
	pthread_mutex_unlock(&m->lock);
	return first;
}

int check_update(struct machine *m, const char *path, struct reasons *reasons, struct error *err)
{
	fd_auto int fd = check_program(path, m->opt.insecure_exe, err);
	int rc = fd < 0 ? fd : check_devices(m, reasons, err);
	if (rc)
		return rc;
	rc = fd;
	fd = -1;
	return rc;
}
