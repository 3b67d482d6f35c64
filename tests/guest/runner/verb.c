/* SPDX-License-Identifier: MIT */
#include "tests/guest/runner/verb.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/guest/runner/session.h"

int verb_start(struct session *s, struct verb *v, const char *word, const char *target,
	       const char *const more[])
{
	char socket[96];
	const char *argv[16] = {s->set->molt, word, target ?: socket};
	int out[2];

	snprintf(socket, sizeof(socket), "%s/ctl", s->dir);
	for (unsigned i = 0; more && more[i] && i < 12; i++)
		argv[3 + i] = more[i];
	*v = (struct verb){.out = -1};
	if (pipe2(out, O_CLOEXEC))
		return session_fail(s, "pipe: %s", strerror(errno));
	v->pid = fork();
	if (!v->pid) {
		dup2(out[1], 1);
		dup2(out[1], 2);
		execv(argv[0], (char **)argv);
		_exit(126);
	}
	close(out[1]);
	v->out = out[0];
	return v->pid < 0 ? session_fail(s, "fork: %s", strerror(errno)) : 0;
}

const char *verb_line(struct verb *v)
{
	static char line[VERB_OUTPUT];
	for (;;) {
		char *end = memchr(v->text + v->seen, '\n', v->len - v->seen);
		if (end) {
			size_t n = (size_t)(end - v->text) - v->seen;
			memcpy(line, v->text + v->seen, n);
			line[n] = 0;
			v->seen += n + 1;
			return line;
		}
		if (v->len == sizeof(v->text) - 1) { /* a long story: what was read is forgotten */
			v->len -= v->seen;
			memmove(v->text, v->text + v->seen, v->len);
			v->seen = 0;
		}
		ssize_t n = read(v->out, v->text + v->len, sizeof(v->text) - 1 - v->len);
		if (n <= 0)
			return NULL;
		v->len += (size_t)n;
	}
}

int verb_end(struct verb *v)
{
	int status = 0;
	while (verb_line(v))
		;
	close(v->out);
	waitpid(v->pid, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

int verb_run(struct session *s, struct verb *v, int status, const char *part, const char *word,
	     const char *const more[])
{
	if (verb_start(s, v, word, NULL, more))
		return -1;
	int rc = verb_end(v);
	if (rc != status)
		return session_fail(s, "molt %s: exit status %d, not %d: %.400s", word, rc, status,
				    v->text);
	if (!strstr(v->text, part))
		return session_fail(s, "molt %s: expected '%s' in: %.400s", word, part, v->text);
	return 0;
}
