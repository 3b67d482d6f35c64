/* SPDX-License-Identifier: MIT */
/* What a preflight's answer and end amount to: only one way leads to yes. */
#include "tests/unit/unit.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>

#include "cpr/preflight_verdict.h"
#include "vmm/base/error.h"
#include "vmm/base/reasons.h"

#define PATH "/usr/bin/molt"
#define YES  "molt-preflight 1\nyes\n"
#define EXIT(status)                                                                               \
	((status) << 8) /* as waitpid gives it (POSIX leaves it open, Linux does not) */

static struct preflight_end end;
static struct reasons reasons;
static struct error err;

static int judge(const char *text, size_t len, int status)
{
	memset(&reasons, 0, sizeof(reasons));
	memset(&err, 0, sizeof(err));
	memset(&end, 0, sizeof(end));
	memcpy(end.text, text, len);
	end.len = len;
	end.status = status;
	int rc = preflight_judge(&end, PATH, &reasons, &err);
	assert_int_equal(rc, -err.code);
	if (rc) {
		assert_non_null(strstr(err.text, PATH));
		assert_true(err.hint[0]);
	}
	return rc;
}

static int judge_text(const char *text)
{
	return judge(text, strlen(text), 0);
}

static void assert_said(const char *words)
{
	if (!strstr(err.text, words))
		fail_msg("'%s', expected '%s'", err.text, words);
}

static void yes(void **state)
{
	assert_int_equal(judge_text(YES), 0);
	/* Words of later versions are passed over. */
	assert_int_equal(judge_text("molt-preflight 1\nprogram 7.0\n\nyes\n"), 0);
	assert_int_equal(reasons.n, 0);
}

static void no(void **state)
{
	assert_int_equal(judge_text("molt-preflight 1\nreason first\nreason second\nno\n"),
			 -EOPNOTSUPP);
	assert_int_equal(reasons.n, 2);
	assert_string_equal(reasons.text[1], "second");
	assert_said("cannot take over: first (and 1 more)");
}

static void garbage(void **state)
{
	static const char *const texts[] = {
		"yes\n",
		"\n",
		"molt-preflight 2\nyes\n",
		"molt-preflight 1\n",
		"molt-preflight 1\nyes",
		"molt-preflight 1\nyes\nyes\n",
		"molt-preflight 1\nyes\nreason late\n",
		"molt-preflight 1\nno\n",
		"molt-preflight 1\nreason but\nyes\n",
		"molt-preflight 1\nreason \033[2J\nno\n",
		"molt-preflight 1\nreason \xc3\xa4\nno\n",
		"molt-preflight 1\r\nyes\r\n",
		" molt-preflight 1\nyes\n",
	};
	for (unsigned i = 0; i < ARRAY_LEN(texts); i++) {
		if (judge_text(texts[i]) != -EPROTO)
			fail_msg("'%s' was believed", texts[i]);
		assert_said("what is no answer");
		assert_int_equal(reasons.n, 0);
	}
	assert_int_equal(judge(YES "\0", sizeof(YES), 0), -EPROTO);
}

static void too_long(void **state)
{
	static char text[PREFLIGHT_TEXT_MAX];
	memset(text, 'x', sizeof(text));
	assert_int_equal(judge(text, sizeof(text), 0), -EPROTO);
	for (size_t i = 0; i < sizeof(text); i++)
		text[i] = "molt-preflight 1\n"[i % 17];
	assert_int_equal(judge(text, sizeof(text), 0), -EPROTO);
	/* A line that is longer than any reason. */
	size_t n =
		(size_t)snprintf(text, sizeof(text), "molt-preflight 1\nreason %*d\nno\n", 600, 1);
	assert_int_equal(judge(text, n, 0), -EPROTO);
}

/* The end counts as much as the answer. */
static void bad_ends(void **state)
{
	assert_int_equal(judge("", 0, EXIT(2)), -EPROTO);
	assert_said("ended (status 2) without an answer");
	assert_non_null(strstr(err.hint, "0.1.0"));
	assert_int_equal(judge(YES, strlen(YES), EXIT(1)), -EPROTO);
	assert_int_equal(judge(YES, strlen(YES), SIGSEGV), -EPROTO);
	assert_said("signal 11");
	memset(&end, 0, sizeof(end));
	end = (struct preflight_end){.timed_out = true, .timeout_ms = 1234};
	memcpy(end.text, YES, end.len = strlen(YES));
	assert_int_equal(preflight_judge(&end, PATH, &reasons, &err), -ETIMEDOUT);
	assert_said("in time (1234 ms)");
	end = (struct preflight_end){.step = "exec", .step_error = ENOEXEC};
	assert_int_equal(preflight_judge(&end, PATH, &reasons, &err), -ENOEXEC);
	assert_said("exec: Exec format error");
}

static void round_trip(void **state)
{
	static char text[PREFLIGHT_TEXT_MAX];
	static struct reasons said;
	char line[REASON_LEN + 8];

	size_t n = preflight_write(text, sizeof(text), &said);
	assert_int_equal(judge(text, n, 0), 0);
	for (unsigned i = 0; i < REASONS_MAX + 3; i++) {
		memset(line, 'a' + (int)i, sizeof(line) - 1);
		line[sizeof(line) - 1] = 0;
		line[3] = i % 2 ? '\n' : '\xff';
		reasons_add(&said, line);
	}
	n = preflight_write(text, sizeof(text), &said);
	assert_int_equal(judge(text, n, 0), -EOPNOTSUPP);
	assert_int_equal(reasons.n, REASONS_MAX);
	assert_string_equal(reasons.text[REASONS_MAX - 1], "and 4 more");
	assert_int_equal(reasons.text[0][3], '?');
	assert_int_equal(strlen(reasons.text[0]), REASON_LEN - 1);
	/* Cut off anywhere it is nothing. */
	for (size_t cut = 1; cut < n; cut++)
		assert_int_equal(judge(text, cut, 0), -EPROTO);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(yes),	    cmocka_unit_test(no),
		cmocka_unit_test(garbage),  cmocka_unit_test(too_long),
		cmocka_unit_test(bad_ends), cmocka_unit_test(round_trip),
	};
	return cmocka_run_group_tests_name("preflight verdict", tests, NULL, NULL);
}
