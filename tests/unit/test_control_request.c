/* SPDX-License-Identifier: MIT */
#include "tests/unit/unit.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include "vmm/base/error.h"
#include "vmm/control/request.h"

static struct control_request req;
static struct error err;

static int parse(const char *line)
{
	/* Just as long as it says: reading beyond it is found. */
	size_t len = strlen(line);
	char *copy = malloc(len ?: 1);
	memcpy(copy, line, len);
	memset(&err, 0, sizeof(err));
	int rc = control_request_parse(&req, copy, len, &err);
	free(copy);
	return rc;
}

static void what_is_understood(void **state)
{
	static const struct {
		const char *line;
		enum control_word word;
		bool check;
		const char *exe;
	} cases[] = {
		{"status", CONTROL_STATUS, false, ""},
		{"  status  ", CONTROL_STATUS, false, ""},
		{"stop", CONTROL_STOP, false, ""},
		{"events", CONTROL_EVENTS, false, ""},
		{"version", CONTROL_VERSION, false, ""},
		{"pause", CONTROL_PAUSE, false, ""},
		{"resume", CONTROL_RESUME, false, ""},
		{"rescan", CONTROL_RESCAN, false, ""},
		{"metrics", CONTROL_METRICS, false, ""},
		{"console", CONTROL_CONSOLE, false, ""},
		{"update", CONTROL_UPDATE, false, ""},
		{"update check", CONTROL_UPDATE, true, ""},
		{"update   check  check ", CONTROL_UPDATE, true, ""},
		{"update exe=/a/b", CONTROL_UPDATE, false, "/a/b"},
		{"update check exe=/a b/c check ", CONTROL_UPDATE, true, "/a b/c check "},
	};
	for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
		if (parse(cases[i].line))
			fail_msg("'%s': %s", cases[i].line, err.text);
		assert_int_equal(req.word, cases[i].word);
		assert_int_equal(req.check, cases[i].check);
		assert_string_equal(req.exe, cases[i].exe);
	}
}

static void what_is_refused(void **state)
{
	static const struct {
		const char *line, *text, *hint;
	} cases[] = {
		{"", "unknown request ''", "status, update"},
		{"   ", "unknown request ''", "status, update"},
		{"", "unknown request ''", "take, config, pause, resume, metrics, console"},
		{"statu", "unknown request 'statu'", "status, update"},
		{"STATUS", "unknown request 'STATUS'", "status, update"},
		{"status\tx", "control character at byte 6", ""},
		{"status\r", "control character at byte 6", ""},
		{"status now", "status takes nothing more: 'now'", ""},
		{"stop check", "stop takes nothing more: 'check'", ""},
		{"update chek", "'chek'", "[check]"},
		{"update exe", "'exe'", "[exe=FILE]"},
		{"update exe=", "not an absolute path", "exe=/path"},
		{"update exe=molt", "not an absolute path", "exe=/path"},
		{"update EXE=/molt", "'EXE=/molt'", "[exe=FILE]"},
	};
	for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
		int rc = parse(cases[i].line);
		if (rc != -EINVAL || !strstr(err.text, cases[i].text) ||
		    !strstr(err.hint, cases[i].hint))
			fail_msg("'%s': %d, %s (%s)", cases[i].line, rc, err.text, err.hint);
	}
}

static void lengths(void **state)
{
	static char line[CONTROL_LINE_LEN + 2];
	memset(line, 'a', sizeof(line) - 1);
	memcpy(line, "update exe=/", 12);
	line[11 + CONTROL_EXE_LEN - 1] = 0;
	assert_int_equal(parse(line), 0);
	assert_int_equal(strlen(req.exe), CONTROL_EXE_LEN - 1);
	line[11 + CONTROL_EXE_LEN - 1] = 'a';
	line[11 + CONTROL_EXE_LEN] = 0;
	assert_int_equal(parse(line), -EINVAL);
	memset(line, ' ', sizeof(line) - 1);
	assert_int_equal(parse(line), -EINVAL);
	assert_non_null(strstr(err.text, "bytes"));
	assert_int_equal(control_request_parse(&req, "st\0atus", 7, &err), -EINVAL);
}

static void where_sockets_are(void **state)
{
	char path[CONTROL_PATH_LEN], want[64], name[200];
	setenv("XDG_RUNTIME_DIR", "/run/user/7", 1);
	snprintf(want, sizeof(want), "%s/molt/web.sock", geteuid() ? "/run/user/7" : "/run");
	assert_int_equal(control_socket_path("web", path, &err), 0);
	assert_string_equal(path, want);
	assert_int_equal(control_socket_path("./web", path, &err), 0);
	assert_string_equal(path, "./web");
	memset(name, 'n', sizeof(name) - 1);
	name[sizeof(name) - 1] = 0;
	assert_int_equal(control_socket_path(name, path, &err), -ENAMETOOLONG);
	name[0] = '/';
	assert_int_equal(control_socket_path(name, path, &err), -ENAMETOOLONG);
	name[CONTROL_PATH_LEN - 1] = 0;
	assert_int_equal(control_socket_path(name, path, &err), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_understood),
		cmocka_unit_test(what_is_refused),
		cmocka_unit_test(lengths),
		cmocka_unit_test(where_sockets_are),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
