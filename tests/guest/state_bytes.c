/* SPDX-License-Identifier: MIT */
#include "state_bytes.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "session.h"

#define MAX_WORDS   256
#define SEALS	    (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL)
#define AT_ONCE	    2 /* images */
#define EXIT_STATUS 1

/* What the image was given; words end with a NUL each. */
static struct {
	char args[65536], env[65536], *argv[MAX_WORDS + 1], *envp[MAX_WORDS + 1];
	unsigned char state[4 << 20];
	off_t len;
	int fd;
} given;

static struct image {
	pid_t pid;
	int text; /* its messages */
	char name[64];
	bool good; /* its state is as it was */
} images[AT_ONCE];

static ssize_t read_file(pid_t pid, const char *name, void *to, size_t size)
{
	char path[64];
	size_t len = 0;
	ssize_t n = 0;

	snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	while (fd >= 0 && (n = read(fd, (char *)to + len, size - len)) > 0)
		len += (size_t)n;
	if (fd >= 0)
		close(fd);
	return fd < 0 || n < 0 ? -1 : (ssize_t)len;
}

static int take_words(struct session *s, pid_t pid, const char *name, char *text, size_t size,
		      char **words)
{
	ssize_t len = read_file(pid, name, text, size);
	unsigned n = 0;
	if (len <= 0 || len == (ssize_t)size || text[len - 1])
		return session_fail(s, "the new image's %s cannot be read", name);
	for (char *p = text; p < text + len && n < MAX_WORDS; p += strlen(p) + 1)
		words[n++] = p;
	words[n] = NULL;
	return n == MAX_WORDS ? session_fail(s, "the new image's %s is too long", name) : 0;
}

int state_bytes_take(struct session *s, pid_t pid, int fd)
{
	char name[32];

	given.fd = fd;
	snprintf(name, sizeof(name), "fd/%d", fd);
	given.len = read_file(pid, name, given.state, sizeof(given.state));
	if (given.len <= 0 || given.len == (off_t)sizeof(given.state))
		return session_fail(s, "the new image's state cannot be read");
	return take_words(s, pid, "cmdline", given.args, sizeof(given.args), given.argv) ||
			       take_words(s, pid, "environ", given.env, sizeof(given.env),
					  given.envp)
		       ? -1
		       : 0;
}

/* With the first @len bytes of the state, the one at @flip changed (-1: none). */
static int start(struct session *s, struct image *im, off_t len, off_t flip)
{
	posix_spawn_file_actions_t actions;
	int text[2] = {-1, -1};

	im->good = flip < 0 && len == given.len;
	snprintf(im->name, sizeof(im->name),
		 im->good    ? "state unchanged"
		 : flip >= 0 ? "byte %lld changed"
			     : "cut off at %lld",
		 (long long)(flip >= 0 ? flip : len));
	int state = memfd_create("molt-state", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	unsigned char byte = flip < 0 ? 0 : given.state[flip] ^ 0xff;
	bool made = state >= 0 && write(state, given.state, (size_t)len) == len &&
		    (flip < 0 || pwrite(state, &byte, 1, flip) == 1) &&
		    !fcntl(state, F_ADD_SEALS, SEALS) && !pipe2(text, O_CLOEXEC);
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, text[1], STDERR_FILENO);
	posix_spawn_file_actions_adddup2(&actions, state, given.fd);
	im->text = text[0];
	int rc = made ? posix_spawn(&im->pid, s->set->molt, &actions, NULL, given.argv, given.envp)
		      : errno;
	posix_spawn_file_actions_destroy(&actions);
	close(text[1]);
	close(state);
	return rc ? session_fail(s, "%s: %s", im->name, strerror(rc)) : 0;
}

/* A good state lets it come to the descriptors, which it has not. */
static bool told(const struct image *im, const char *text)
{
	bool state = strstr(text, "state blob: ");
	return im->good ? !state && strstr(text, "descriptor ") : state;
}

static int end(struct session *s, struct image *im)
{
	char text[1024];
	size_t len = 0;
	int status;

	for (ssize_t n; (n = read(im->text, text + len, sizeof(text) - 1 - len)) > 0;)
		len += (size_t)n;
	text[len] = 0;
	close(im->text);
	if (waitpid(im->pid, &status, 0) != im->pid)
		return session_fail(s, "waitpid: %s", strerror(errno));
	im->pid = 0;
	return WIFEXITED(status) && WEXITSTATUS(status) == EXIT_STATUS && told(im, text)
		       ? 0
		       : session_fail(s, "state, %s: a new image ended with status 0x%x: %.500s",
				      im->name, status, text);
}

/* In the place of the image before the last, which is to end first. */
static int next(struct session *s, off_t len, off_t flip)
{
	static unsigned turn;
	struct image *im = &images[turn++ % AT_ONCE];
	return (im->pid && end(s, im)) || start(s, im, len, flip) ? -1 : 0;
}

int state_bytes_run(struct session *s, off_t len, off_t step)
{
	if (len <= 0 || len > given.len)
		return session_fail(s, "state of %lld bytes in a file of %lld", (long long)len,
				    (long long)given.len);
	given.len = len; /* the rest of the file is none of it */
	unsigned n = 0;
	int rc = next(s, given.len, -1);
	for (off_t at = 0; !rc && at < given.len; at += step, n++)
		rc = next(s, given.len, at) || next(s, at, -1);
	for (unsigned i = 0; i < AT_ONCE; i++)
		if (images[i].pid && end(s, &images[i]))
			rc = -1;
	if (!rc)
		printf("  state of %lld bytes: %u of them changed, cut off at as many: "
		       "each refused by a new image alone\n",
		       (long long)given.len, n);
	return rc;
}
