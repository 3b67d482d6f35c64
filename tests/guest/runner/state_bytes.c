/* SPDX-License-Identifier: MIT */
#include "tests/guest/runner/state_bytes.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/guest/runner/message.h"
#include "tests/guest/runner/session.h"

#define MAX_WORDS   256
#define SEALS	    (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL)
#define AT_ONCE	    2 /* images */
#define EXIT_STATUS 70
#define PAGE	    4096
/* Numbers in the successor. */
#define LINK_FD 3
#define PEER_FD 4
#define ROLE	"MOLT_ROLE="

/* What the successor was given; words end with a NUL each. */
static struct {
	char args[65536], env[65536], *argv[MAX_WORDS + 1], *envp[MAX_WORDS + 1];
	unsigned char state[4 << 20];
	off_t len;
} given;

static struct image {
	pid_t pid;
	int peer;
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
		return session_fail(s, "the successor's %s cannot be read", name);
	for (char *p = text; p < text + len && n < MAX_WORDS; p += strlen(p) + 1)
		words[n++] = p;
	words[n] = NULL;
	return n == MAX_WORDS ? session_fail(s, "the successor's %s is too long", name) : 0;
}

int state_bytes_take_words(struct session *s, pid_t pid)
{
	static char role[] = ROLE "successor,3,4,0";
	if (take_words(s, pid, "cmdline", given.args, sizeof(given.args), given.argv) ||
	    take_words(s, pid, "environ", given.env, sizeof(given.env), given.envp))
		return -1;
	for (char **word = given.envp; *word; word++)
		if (!strncmp(*word, ROLE, strlen(ROLE))) {
			*word = role;
			return 0;
		}
	return session_fail(s, "the successor has no role");
}

int state_bytes_take_state(struct session *s, pid_t pid, int fd)
{
	char name[32];
	snprintf(name, sizeof(name), "fd/%d", fd);
	given.len = read_file(pid, name, given.state, sizeof(given.state));
	return given.len <= 0 || given.len == (off_t)sizeof(given.state)
		       ? session_fail(s, "the state that is offered cannot be read")
		       : 0;
}

/* With the first @len bytes of the state, the one at @flip changed (-1: none). */
static int make_state(off_t len, off_t flip)
{
	int state = memfd_create("molt-state", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	unsigned char byte = flip < 0 ? 0 : given.state[flip] ^ 0xff;
	if (state < 0 || write(state, given.state, (size_t)len) != len ||
	    (flip >= 0 && pwrite(state, &byte, 1, flip) != 1) || fcntl(state, F_ADD_SEALS, SEALS))
		return -1;
	return state;
}

/* What goes with an offer, and would be used later. */
static int make_room(const char *name, off_t len)
{
	int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
	return fd < 0 || ftruncate(fd, len) || fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW)
		       ? -1
		       : fd;
}

/* The successor greets; whether that has come is seen with its answer. */
static int offer(int peer, off_t len, off_t flip)
{
	int fds[] = {make_state(len, flip), make_room("molt-state", given.len),
		     make_room("molt-handover", PAGE)};
	int rc = fds[0] < 0 || fds[1] < 0 || fds[2] < 0 ||
		 message_send(peer, MESSAGE_OFFER, 1, fds, 3) ||
		 message_send(peer, MESSAGE_BUILD, 0, NULL, 0);
	for (unsigned i = 0; i < 3; i++)
		close(fds[i]);
	return rc;
}

static int start(struct session *s, struct image *im, off_t len, off_t flip)
{
	posix_spawn_file_actions_t actions;
	int ends[2];

	im->good = flip < 0 && len == given.len;
	snprintf(im->name, sizeof(im->name),
		 im->good    ? "state unchanged"
		 : flip >= 0 ? "byte %lld changed"
			     : "cut off at %lld",
		 (long long)(flip >= 0 ? flip : len));
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends))
		return session_fail(s, "socketpair: %s", strerror(errno));
	im->peer = ends[0];
	posix_spawn_file_actions_init(&actions);
	/* It tells its parent nothing before it has the guest: that may be this as well. */
	posix_spawn_file_actions_adddup2(&actions, ends[1], LINK_FD);
	posix_spawn_file_actions_adddup2(&actions, ends[1], PEER_FD);
	int rc = offer(im->peer, len, flip) ? errno
					    : posix_spawn(&im->pid, s->set->molt, &actions, NULL,
							  given.argv, given.envp);
	posix_spawn_file_actions_destroy(&actions);
	close(ends[1]);
	return rc ? session_fail(s, "%s: %s", im->name, strerror(rc)) : 0;
}

/* A good state lets it come to the first descriptor, which it has not. */
static bool told(const struct image *im, const char *text)
{
	bool state = strstr(text, "state blob: ");
	return im->good ? !state && strstr(text, "no descriptor ram0 was kept") : state;
}

static int end(struct session *s, struct image *im)
{
	struct message_head head = {0};
	char text[4096];
	int status;
	bool greeted = !message_recv(im->peer, &head, text) && head.kind == MESSAGE_HELLO;
	bool answered = !message_recv(im->peer, &head, text) && head.kind == MESSAGE_NO;

	close(im->peer);
	if (waitpid(im->pid, &status, 0) != im->pid)
		return session_fail(s, "waitpid: %s", strerror(errno));
	im->pid = 0;
	return greeted && answered && WIFEXITED(status) && WEXITSTATUS(status) == EXIT_STATUS &&
			       told(im, text)
		       ? 0
		       : session_fail(s,
				      "state, %s: a successor says %u '%.500s' and ends with "
				      "status 0x%x",
				      im->name, head.kind, text, status);
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
		       "each refused by a successor alone\n",
		       (long long)given.len, n);
	return rc;
}
