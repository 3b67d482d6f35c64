/* SPDX-License-Identifier: MIT */
#include "cpr/preflight_verdict.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#include "vmm/base/error.h"
#include "vmm/base/num.h"
#include "vmm/base/reasons.h"

#define HEADER "molt-preflight 1"
#define REASON "reason "

static bool printable(char c)
{
	return c >= 0x20 && c <= 0x7e;
}

size_t preflight_write(char *buf, size_t size, const struct reasons *reasons)
{
	size_t n = (size_t)snprintf(buf, size, HEADER "\n");
	for (unsigned i = 0; i < reasons->n; i++) {
		size_t at = n + strlen(REASON);
		n += (size_t)snprintf(buf + n, size - n, REASON "%s", reasons->text[i]);
		for (; at < n; at++)
			buf[at] = printable(buf[at]) ? buf[at] : '?';
		buf[n++] = '\n';
	}
	return n + (size_t)snprintf(buf + n, size - n, "%s\n", reasons->n ? "no" : "yes");
}
_Static_assert(PREFLIGHT_TEXT_MAX > REASONS_MAX * (REASON_LEN + sizeof(REASON)) + 64,
	       "an answer fits");

/* Cuts the next whole line out of [*at, end) into @line. False: there is none, or it is no text. */
static bool next_line(const char **at, const char *end, char *line, size_t size)
{
	const char *stop = memchr(*at, '\n', (size_t)(end - *at));
	size_t n = stop ? (size_t)(stop - *at) : size;
	if (n >= size)
		return false;
	for (size_t i = 0; i < n; i++)
		if (!printable((*at)[i]))
			return false;
	memcpy(line, *at, n);
	line[n] = 0;
	*at = stop + 1;
	return true;
}

enum verdict { VERDICT_GARBAGE, VERDICT_YES, VERDICT_NO };

static enum verdict parse(const struct preflight_end *e, struct reasons *reasons)
{
	const char *at = e->text, *end = e->text + e->len;
	char line[REASON_LEN + sizeof(REASON)];
	struct reasons found = {0};
	bool yes = false, no = false;

	if (e->len == PREFLIGHT_TEXT_MAX || !next_line(&at, end, line, sizeof(line)) ||
	    strcmp(line, HEADER))
		return VERDICT_GARBAGE;
	while (at < end) {
		if (yes || no || !next_line(&at, end, line, sizeof(line)))
			return VERDICT_GARBAGE;
		yes = !strcmp(line, "yes");
		no = !strcmp(line, "no");
		if (!strncmp(line, REASON, strlen(REASON)))
			reasons_add(&found, line + strlen(REASON));
	}
	if (yes == no || (yes && found.n) || (no && !found.n))
		return VERDICT_GARBAGE;
	if (no)
		*reasons = found;
	return yes ? VERDICT_YES : VERDICT_NO;
}

static int by_hand(const char *path, struct error *err)
{
	return error_hint(err, "try it by hand: %.400s --version", path);
}

static int short_of_memory(struct error *err)
{
	return error_hint(err,
			  "the kernel does that where memory is short: free some on this host, or "
			  "let molt's memory cgroup have some more MiB");
}

static int no_answer(const char *path, struct error *err)
{
	error_set(err, EPROTO, "%.300s answered the preflight with what is no answer", path);
	return error_hint(err, "it is no molt, or a much newer one");
}

/* It ran to its end, and its status is what exit was given. */
static int judge_answer(const struct preflight_end *end, const char *path, struct reasons *reasons,
			struct error *err)
{
	int status = WEXITSTATUS(end->status);
	if (!end->len) {
		error_set(err, EPROTO,
			  "%.300s ended (status %d) without an answer to the preflight", path,
			  status);
		return error_hint(err, "it is no molt, or one of before 0.1.0, which knows no "
				       "preflight: install a newer one at that path");
	}
	enum verdict verdict = parse(end, reasons);
	if (verdict == VERDICT_GARBAGE || status)
		return no_answer(path, err);
	if (verdict == VERDICT_YES)
		return 0;
	char more[32] = "";
	if (reasons->n > 1)
		snprintf(more, sizeof(more), " (and %u more)", reasons->n - 1);
	error_set(err, EOPNOTSUPP, "%.200s cannot take over: %.360s%s", path, reasons->text[0],
		  more);
	return error_hint(err, "install a version that can, or give it what it misses");
}

int preflight_judge(const struct preflight_end *end, const char *path, struct reasons *reasons,
		    struct error *err)
{
	if (end->step) {
		error_errno(err, end->step_error, "preflight of %.300s: %s", path, end->step);
		return by_hand(path, err);
	}
	if (end->len == PREFLIGHT_TEXT_MAX)
		return no_answer(path, err);
	if (end->timed_out) {
		error_set(err, ETIMEDOUT, "%.300s did not answer the preflight in time (%u ms)",
			  path, end->timeout_ms);
		return error_hint(
			err, "the time is --preflight-timeout; a busy host may need another try");
	}
	if (WIFSIGNALED(end->status)) {
		error_set(err, EPROTO, "%.300s was ended by signal %d in the preflight", path,
			  WTERMSIG(end->status));
		return WTERMSIG(end->status) == SIGKILL ? short_of_memory(err) : by_hand(path, err);
	}
	return judge_answer(end, path, reasons, err);
}
