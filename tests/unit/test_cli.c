/* SPDX-License-Identifier: MIT */
/* What is typed: each wrong word is named, each help is found, and an answer that cannot be written is no success. */
#include "tests/unit/unit.h"

#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#undef fail /* cmocka's */
int molt_main(int argc, char *argv[]);
#define main molt_main
#include "vmm/main.c" /* NOLINT: its main is called */
#undef main

#define WORDS 5
#define LONG                                                                                       \
	"0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567" \
	"890123456789012345678901234567890123456789"

static char said[65536]; /* to standard output, then to standard error */

/* Runs molt with @words. @out: where its standard output goes, NULL: to said. Returns its exit status. */
static int molt(const char *const *words, const char *out)
{
	char *argv[WORDS + 2] = {"molt"};
	int argc = 1, ends[2], status;
	size_t n = 0;
	while (argc <= WORDS && words[argc - 1]) {
		argv[argc] = (char *)words[argc - 1];
		argc++;
	}
	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	fflush(NULL);
	pid_t pid = fork();
	if (!pid) {
		dup2(out ? open(out, O_WRONLY | O_CLOEXEC) : ends[1], STDOUT_FILENO);
		dup2(ends[1], STDERR_FILENO);
		_exit(molt_main(argc, argv));
	}
	close(ends[1]);
	for (ssize_t k; (k = read(ends[0], said + n, sizeof(said) - 1 - n)) > 0;)
		n += (size_t)k;
	said[n] = 0;
	close(ends[0]);
	waitpid(pid, &status, 0);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static bool miss(unsigned row, int status)
{
	print_error("row %u: exit status %d: %s\n", row, status, said);
	return true;
}

static void what_is_typed(void **state)
{
	static const struct {
		const char *words[WORDS];
		int status;
		const char *text;
	} rows[] = {
		{{NULL}, 2, "usage: molt run"},
		{{"foo"}, 2, "'foo'"},
		{{"--foo"}, 2, "'--foo'"},
		{{"--version", "now"}, 2, "'now'"},
		{{"--version"}, 0, "(build "},
		{{"--help"}, 0, "usage: molt run"},
		{{"run", "--help"}, 0, "--kernel FILE"},
		{{"run", "-h"}, 0, "--kernel FILE"},
		{{"run", "-k", "k", "-h"}, 0, "--kernel FILE"},
		{{"state", "--help"}, 0, "usage: molt state dump"},
		{{"state", "diff", "-h"}, 0, "usage: molt state dump"},
		{{"state"}, 2, "dump, schema or diff"},
		{{"state", "foo"}, 2, "'foo'"},
		{{"state", "schema", "--foo"}, 2, "'--foo'"},
		{{"state", "diff", "a", "b", "foo"}, 2, "'foo'"},
		{{"status", "-h"}, 0, "usage: molt status"},
		{{"status"}, 2, "GUEST is missing"},
		{{"status", ""}, 2, "GUEST is empty"},
		{{"status", "web", "foo"}, 2, "'foo'"},
		{{"status", "web", "--foo"}, 2, "'--foo'"},
		{{"status", "web", "-x"}, 2, "'-x'"},
		{{"status", "web", "--check"}, 2, "'--check'"},
		{{"status", "web", "--exe", "x"}, 2, "'--exe'"},
		{{"pause"}, 2, "GUEST is missing"},
		{{"pause", "web", "--check"}, 2, "'--check'"},
		{{"host-check", "-h"}, 0, "usage: molt host-check"},
		{{"host-check", "foo"}, 2, "--vfio foo"},
		{{"host-check", "--mem"}, 2, "'--mem'"},
		{{"host-check", "--foo"}, 2, "'--foo'"},
		{{"host-check", "--mem", "1K"}, 2, "--mem"},
		{{"run", "--dry-run"}, 2, "--kernel is missing"},
		{{"console", "-h"}, 0, "usage: molt console"},
		{{"metrics"}, 2, "GUEST is missing"},
		{{"rescan"}, 2, "GUEST is missing"},
		{{"resume", "-h"}, 0, "usage: molt resume"},
		{{"update", "web", "--json=1"}, 2, "'--json=1'"},
		{{"update", "web", "--exe"}, 2, "--exe"},
		{{"update", "web", "--exe", ""}, 2, "--exe"},
		{{"update", "--exe=", "web"}, 2, "--exe"},
		/* What is wrong is the configuration, not molt. */
		{{"run", "-kk", "--report", "/nowhere/r"}, 4, "--report /nowhere/r: No such"},
		{{"run", "-kk", "--report", "/"}, 4, "--report /: Is a directory"},
		{{"run", "-kk", "--control", "/nowhere/c"}, 4, "/nowhere/c.lock: No such"},
		{{"run", "-kk", "--control", "/proc/c"}, 4, "/proc/c.lock: "},
		{{"run", "-kk", "--control", "/dev/null"}, 4, "/dev/null exists and is no socket"},
		{{"run", "-kk", "--control", "/" LONG}, 4, "too long"},
		{{"run", "--take", "/nowhere/c"}, 4, "/nowhere/c: No such"},
		{{"status", "/nowhere/c"}, 4, "/nowhere/c: No such"},
		{{"state", "dump", "/nowhere/s"}, 4, "/nowhere/s: No such"},
		{{"status", "/proc"}, 4, "/proc is not a socket"},
		{{"run", "--take", "web", "--name", "db"}, 2, "--take stands alone"},
		{{"state", "dump", "/proc"}, 4, "/proc: no regular file"},
		{{"state", "dump", "99999999"}, 4, "molt list shows the process ids"},
		{{"state", "dump", "/etc/passwd"}, 4, "/etc/passwd: "},
		{{"state", "diff", "/etc/passwd", "/etc/passwd"}, 4, "/etc/passwd: "},
	};
	bool missed = false;
	for (unsigned i = 0; i < ARRAY_LEN(rows); i++) {
		int status = molt(rows[i].words, NULL);
		if (status != rows[i].status || !strstr(said, rows[i].text))
			missed = miss(i, status);
		if (status && i && (!strstr(said, "error: ") || !strstr(said, "remedy: ")))
			missed = miss(i, status);
	}
	assert_false(missed);
}

static void an_answer_that_cannot_be_written(void **state)
{
	static const char *const words[][WORDS] = {{"--version"},	   {"--help"},
						   {"--completion-words"}, {"run", "--help"},
						   {"status", "--help"},   {"state", "schema"}};
	for (unsigned i = 0; i < ARRAY_LEN(words); i++) {
		assert_int_equal(molt(words[i], "/dev/full"), EXIT_INTERNAL);
		assert_non_null(strstr(said, "standard output (/dev/full): the answer could not"));
	}
}

/* As one whose process is stopped: its socket takes connections, and nobody reads there. */
static void a_guest_that_says_nothing(void **state)
{
	static const char *const asking[] = {"status",	"config", "update", "stop",   "console",
					     "metrics", "pause",  "resume", "rescan", "events"};
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), status;
	pid_t pids[ARRAY_LEN(asking)];
	bool missed = false;

	snprintf(addr.sun_path, sizeof(addr.sun_path), "/tmp/molt-cli.%d", (int)getpid());
	assert_int_equal(bind(fd, (const struct sockaddr *)&addr, sizeof(addr)), 0);
	assert_int_equal(listen(fd, ARRAY_LEN(asking)), 0);
	fflush(NULL);
	for (unsigned i = 0; i < ARRAY_LEN(asking); i++) {
		const char *const words[WORDS] = {asking[i], addr.sun_path, "--timeout", "1"};
		pids[i] = fork();
		if (pids[i])
			continue;
		alarm(60);
		status = molt(words, NULL);
		_exit(status == EXIT_REFUSED && strstr(said, "no answer within 1 s") ? 0 : 1);
	}
	for (unsigned i = 0; i < ARRAY_LEN(asking); i++) {
		assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
		if (status)
			print_error("%s: does not say so, or waits for ever\n", asking[i]);
		missed |= status;
	}
	unlink(addr.sun_path);
	close(fd);
	assert_false(missed);
}

int main(int argc, char *argv[])
{
	if (getenv(ROLE_ENV)) /* the worker of one of the above */
		return molt_main(argc, argv);
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_typed),
		cmocka_unit_test(an_answer_that_cannot_be_written),
		cmocka_unit_test(a_guest_that_says_nothing),
	};
	return cmocka_run_group_tests_name("cli", tests, NULL, NULL);
}
