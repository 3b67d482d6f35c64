/* SPDX-License-Identifier: MIT */
#include "tests/guest/runner/session_user.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/guest/runner/session.h"

#define USER	  65534
#define KVM_GROUP 65533

bool session_user_possible(void)
{
	int status = 1;
	pid_t pid = geteuid() ? -1 : fork();

	if (!pid)
		_exit(unshare(CLONE_NEWNS) ? 1 : 0);
	return pid > 0 && waitpid(pid, &status, 0) == pid && status == 0;
}

bool session_container_possible(void)
{
	int status = 1;
	pid_t pid = geteuid() ? -1 : fork();

	if (!pid)
		_exit(unshare(CLONE_NEWPID | CLONE_NEWNS) ? 1 : 0);
	return pid > 0 && waitpid(pid, &status, 0) == pid && status == 0;
}

int session_user_give(struct session *s, const char *report)
{
	return chown(s->dir, USER, USER) || chown(report, USER, USER)
		       ? session_fail(s, "chown: %s", strerror(errno))
		       : 0;
}

static int drop(void)
{
	const gid_t group = KVM_GROUP;

	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || setgroups(1, &group) ||
	       setresgid(USER, USER, USER) || setresuid(USER, USER, USER);
}

static void fail(const char *what)
{
	fprintf(stderr, "%s: %s\n", what, strerror(errno));
	_exit(126);
}

bool session_user_mounts(bool proc)
{
	bool own = !mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
		   (!mount(NULL, "/proc", NULL, MS_PRIVATE, NULL) &&
		    !mount("/", "/proc/fs", NULL, MS_BIND | MS_REC, NULL) &&
		    !mount(NULL, "/proc/fs", NULL, MS_REC | MS_PRIVATE, NULL) &&
		    !chroot("/proc/fs") && !chdir("/"));
	return own && (!proc || !mount("proc", "/proc", "proc", 0, NULL));
}

void session_user_become(const struct session *s)
{
	char dir[80], node[96];
	struct stat st;

	snprintf(dir, sizeof(dir), "%s/dev", s->dir);
	snprintf(node, sizeof(node), "%s/kvm", dir);
	if (unshare(CLONE_NEWNS) || !session_user_mounts(false))
		fail("mount namespace");
	if (mkdir(dir, 0755) || mount("tmpfs", dir, "tmpfs", MS_NOSUID | MS_NOEXEC, "mode=755"))
		fail(dir);
	if (stat("/dev/kvm", &st) || mknod(node, S_IFCHR | 0600, st.st_rdev) ||
	    chown(node, 0, KVM_GROUP) || chmod(node, 0660) ||
	    mount(node, "/dev/kvm", NULL, MS_BIND, NULL))
		fail(node);
	if (drop())
		fail("becoming another user");
}

/* What a process of that user gets when it opens molt's /dev/kvm: 0 or an errno. */
static int user_opens(const struct session *s)
{
	char path[64];
	int status = -1;

	snprintf(path, sizeof(path), "/proc/%d/root", (int)s->pid);
	pid_t pid = fork();
	if (!pid) {
		if (chroot(path) || drop())
			_exit(255);
		_exit(open("/dev/kvm", O_RDWR) < 0 ? errno : 0);
	}
	return waitpid(pid, &status, 0) == pid && WIFEXITED(status) ? WEXITSTATUS(status) : 255;
}

int session_user_close(struct session *s)
{
	char path[64];
	int before = user_opens(s);

	snprintf(path, sizeof(path), "/proc/%d/root/dev/kvm", (int)s->pid);
	if (before)
		return session_fail(s, "the user cannot open /dev/kvm: %s", strerror(before));
	if (chmod(path, 0))
		return session_fail(s, "chmod %s: %s", path, strerror(errno));
	int after = user_opens(s);
	return after == EACCES ? 0 : session_fail(s, "/dev/kvm is not closed: %d", after);
}

void session_user_end(const struct session *s)
{
	char dir[80];

	snprintf(dir, sizeof(dir), "%s/dev", s->dir);
	rmdir(dir);
}
