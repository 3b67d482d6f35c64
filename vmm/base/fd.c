/* SPDX-License-Identifier: MIT */
/* Small helpers for descriptors: closing, close-on-exec, receiving, writing all of something. */
#include "vmm/base/fd.h"

#include "vmm/base/base.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>

void fd_close(int *fd)
{
	int saved = errno;
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
	errno = saved;
}

int fd_set_cloexec(int fd, bool on)
{
	return fcntl(fd, F_SETFD, on ? FD_CLOEXEC : 0) < 0 ? -errno : 0;
}

void fd_limit_raise(void)
{
	struct rlimit files;
	if (getrlimit(RLIMIT_NOFILE, &files))
		return;
	files.rlim_cur = files.rlim_max;
	setrlimit(RLIMIT_NOFILE, &files);
}

/* Few are open, while their numbers may go up to a hard limit of a million: so no loop over all numbers. */
void fd_close_inherited(void)
{
	DIR *dir = opendir("/proc/self/fd");
	for (struct dirent *d; dir && (d = readdir(dir));) {
		int fd = atoi(d->d_name); /* of "." and "..": 0 */
		if (fd > STDERR_FILENO && !(fcntl(fd, F_GETFD) & FD_CLOEXEC))
			close(fd);
	}
	if (dir)
		closedir(dir);
}

int fd_set_nonblock(int fd, bool on)
{
	int flags = fcntl(fd, F_GETFL);
	if (flags < 0)
		return -errno;
	flags = on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK;
	return fcntl(fd, F_SETFL, flags) < 0 ? -errno : 0;
}

unsigned fd_received(struct msghdr *msg, int *fds, unsigned max)
{
	unsigned stored = 0;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < n; i++) {
			int fd;
			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(fd));
			if (stored < max)
				fds[stored++] = fd;
			else
				close(fd);
		}
	}
	return stored;
}

bool fd_hung_up(int fd)
{
	struct pollfd p = {.fd = fd};
	struct stat st;
	/* To isatty() it is no terminal any more; and to poll a pipe that has ended looks the same. */
	return !fstat(fd, &st) && S_ISCHR(st.st_mode) && poll(&p, 1, 0) > 0 &&
	       (p.revents & POLLHUP);
}

static int write_up_to(int fd, const char *buf, size_t len, size_t *done)
{
	for (*done = 0; *done < len;) {
		ssize_t n = write(fd, buf + *done, len - *done);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n ? -errno : -EIO;
		*done += (size_t)n;
	}
	return 0;
}

int fd_write_all(int fd, const void *buf, size_t len)
{
	size_t done;
	return write_up_to(fd, buf, len, &done);
}

int fd_append_whole(int fd, const void *buf, size_t len)
{
	size_t done;
	struct stat st;
	int rc = write_up_to(fd, buf, len, &done);
	if (!rc || !done || fstat(fd, &st) || !S_ISREG(st.st_mode))
		return rc;
	/* O_APPEND leaves the position behind what was written. Where another process has appended to the file
	 * meanwhile, that is not its end, and nothing can be taken back. */
	off_t end = lseek(fd, 0, SEEK_CUR);
	if (end == st.st_size && ftruncate(fd, end - (off_t)done))
		return -errno;
	return rc;
}

int fd_pread_all(int fd, void *buf, size_t len, off_t off)
{
	char *p = buf;
	while (len) {
		ssize_t n = pread(fd, p, len, off);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n ? -errno : -ENODATA;
		p += n;
		off += n;
		len -= (size_t)n;
	}
	return 0;
}

int file_read_text(const char *path, char *buf, size_t size)
{
	fd_auto int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	ssize_t n = read(fd, buf, size - 1);
	if (n < 0)
		return -errno;
	while (n > 0 && buf[n - 1] == '\n')
		n--;
	buf[n] = 0;
	return (int)n;
}

int file_absolute(const char *path, char *buf, size_t size)
{
	size_t len = 0;
	if (path[0] != '/') {
		if (!getcwd(buf, size))
			return errno == ERANGE ? -ENAMETOOLONG : -errno;
		len = strcmp(buf, "/") ? strlen(buf) : 0;
		while (!strncmp(path, "./", 2))
			path += 2;
	}
	int n = snprintf(buf + len, size - len, "%s%s", path[0] == '/' ? "" : "/", path);
	return n < 0 || (size_t)n >= size - len ? -ENAMETOOLONG : 0;
}
