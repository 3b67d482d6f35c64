/* SPDX-License-Identifier: MIT */
/* The --report file: appended to, opened anew after it was rotated, kept where that fails. */
#include "tests/unit/unit.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cpr/handover/report.h"
#include "vmm/base/reasons.h"
#include "vmm/machine.h"

static struct machine m;
static struct error err;
static char folder[32] = "/tmp/molt-report.XXXXXX", path[64], old[64];

static void refuse(const char *why)
{
	static const struct reasons none;
	error_set(&err, EINVAL, "%s", why);
	report_refused(&m, &err, &none, 0);
}

/* How many records the file has. */
static unsigned records(const char *file)
{
	char line[4096];
	unsigned n = 0;
	FILE *f = fopen(file, "r");
	assert_non_null(f);
	while (fgets(line, sizeof(line), f))
		n++;
	fclose(f);
	return n;
}

static void rotated(void **state)
{
	assert_int_equal(report_open(&m, &err), 0);
	refuse("one");
	assert_int_equal(rename(path, old), 0);
	refuse("two");
	assert_int_equal(report_reopen(&m, &err), 0);
	refuse("three");
	assert_int_equal(records(old), 2);
	assert_int_equal(records(path), 1);
	assert_int_equal(m.fds.n, 1);
}

static void a_file_that_cannot_be_opened(void **state)
{
	assert_int_equal(rename(path, old), 0);
	assert_int_equal(mkdir(path, 0700), 0);
	assert_int_equal(report_reopen(&m, &err), -EISDIR);
	assert_non_null(strstr(err.text, path));
	refuse("four");
	assert_int_equal(records(old), 2);
	assert_int_equal(rmdir(path), 0);
	assert_int_equal(report_reopen(&m, &err), 0);
	refuse("five");
	assert_int_equal(records(path), 1);
}

/* A reader takes the file line by line: one record of which a part is there would spoil the next one too. */
static void no_room_for_a_whole_record(void **state)
{
	struct rlimit before, low;
	struct stat st;
	refuse("six");
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
	low = (struct rlimit){(rlim_t)st.st_size + 10, before.rlim_max};
	signal(SIGXFSZ, SIG_IGN);
	unsigned there = records(path);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &low), 0);
	refuse("there is no room for this one");
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
	assert_int_equal(records(path), there);
	refuse("seven");
	assert_int_equal(records(path), there + 1);
}

static void nobody_reads_it(void **state)
{
	char fifo[64];
	static struct machine piped;
	snprintf(fifo, sizeof(fifo), "%s/fifo", folder);
	piped.opt.report = fifo;
	assert_int_equal(mkfifo(fifo, 0600), 0);
	assert_int_equal(report_open(&piped, &err), -ENXIO);
	assert_non_null(strstr(err.hint, "FIFO"));
	assert_int_equal(unlink(fifo), 0);
}

static void none(void **state)
{
	static struct machine quiet;
	assert_int_equal(report_reopen(&quiet, &err), 0);
	assert_int_equal(quiet.fds.n, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rotated),
		cmocka_unit_test(nobody_reads_it),
		cmocka_unit_test(a_file_that_cannot_be_opened),
		cmocka_unit_test(no_room_for_a_whole_record),
		cmocka_unit_test(none),
	};
	if (!mkdtemp(folder))
		return 1;
	snprintf(path, sizeof(path), "%s/report", folder);
	snprintf(old, sizeof(old), "%s/old", folder);
	m.opt.report = path;
	pthread_mutex_init(&m.lock, NULL);
	int failed = cmocka_run_group_tests_name("report", tests, NULL, NULL);
	while (m.fds.n)
		fdset_close(&m.fds, m.fds.e[0].name);
	pool_free(m.fds.e);
	unlink(path);
	unlink(old);
	rmdir(folder);
	return failed;
}
