/* SPDX-License-Identifier: MIT */
#include "tests/unit/unit.h"

#include <errno.h>
#include <stdio.h>

#include "vmm/base/error.h"
#include "vmm/completion.h"
#include "vmm/options.h"

static struct options opt;
static struct error err;

/* Parses one line, split at blanks; a text with blanks is not needed here. */
static int parse(const char *line)
{
	static char copy[512];
	char *words[128], *p = copy;
	int n = 0;
	snprintf(copy, sizeof(copy), "%s", line);
	for (char *w; (w = strsep(&p, " "));)
		if (*w)
			words[n++] = w;
	memset(&err, 0, sizeof(err));
	return options_parse(&opt, n, words, &err);
}

static void defaults(void **state)
{
	assert_int_equal(parse("-k vmlinuz"), 0);
	assert_string_equal(opt.kernel, "vmlinuz");
	assert_null(opt.initrd);
	assert_string_equal(opt.cmdline, "");
	assert_true(opt.mem.size == 256 * MIB);
	assert_int_equal(opt.mem.hugetlb, 0);
	assert_false(opt.mem.collapse);
	assert_string_equal(opt.mem.path, "");
	assert_int_equal(opt.cpus, 1);
	assert_string_equal(opt.console, "stdio");
	assert_null(opt.name);
	assert_null(opt.control);
	assert_null(opt.report);
	assert_int_equal(opt.stop_timeout_s, 30);
	assert_int_equal(opt.update_timeout_ms, 0);
	assert_int_equal(opt.prepare_timeout_ms, 10000);
	assert_false(opt.insecure_exe);
	assert_int_equal(opt.hold_ms, 0);
	assert_int_equal(opt.ndevices, 0);
}

static void everything(void **state)
{
	assert_int_equal(
		parse("--kernel=k --initrd i --cmdline console=ttyS0 --mem 1G,collapse "
		      "--cpus 8 --vfio 0000:00:05.0 --testdev x --vfio 0000:00:06.0,rom=on "
		      "--console pty:/run/tty --name a.b-c_9 --report r --stop-timeout 0 "
		      "--update-timeout 60000 --insecure-exe --prepare-timeout 7000 --debug-hold "
		      "5 --control /run/c.sock"),
		0);
	assert_string_equal(opt.kernel, "k");
	assert_string_equal(opt.initrd, "i");
	assert_string_equal(opt.cmdline, "console=ttyS0");
	assert_true(opt.mem.size == GIB && opt.mem.collapse);
	assert_int_equal(opt.cpus, 8);
	assert_int_equal(opt.ndevices, 3);
	assert_string_equal(opt.devices[0].cls, "vfio");
	assert_string_equal(opt.devices[0].arg, "0000:00:05.0");
	assert_string_equal(opt.devices[1].cls, "testdev");
	assert_string_equal(opt.devices[2].arg, "0000:00:06.0,rom=on");
	assert_string_equal(opt.console, "pty:/run/tty");
	assert_string_equal(opt.name, "a.b-c_9");
	assert_string_equal(opt.report, "r");
	assert_string_equal(opt.control, "/run/c.sock");
	assert_int_equal(opt.stop_timeout_s, 0);
	assert_int_equal(opt.update_timeout_ms, 60000);
	assert_int_equal(opt.prepare_timeout_ms, 7000);
	assert_true(opt.insecure_exe);
	assert_int_equal(opt.hold_ms, 5);
}

/* getopt keeps state of its own: parsing again must start over. */
static void short_ones_again_and_again(void **state)
{
	for (int i = 0; i < 3; i++) {
		assert_int_equal(parse("-kvmlinuz -i initrd -p quiet -m64 -c 2"), 0);
		assert_string_equal(opt.kernel, "vmlinuz");
		assert_string_equal(opt.initrd, "initrd");
		assert_string_equal(opt.cmdline, "quiet");
		assert_true(opt.mem.size == 64 * MIB);
		assert_int_equal(opt.cpus, 2);
		assert_int_not_equal(parse("-k k -z"), 0);
	}
}

static void sizes(void **state)
{
	static const struct {
		const char *text;
		int rc;
		uint64_t size;
	} cases[] = {
		{"256M", 0, 256 * MIB},
		{"4g", 0, 4 * GIB},
		{"4194304K", 0, 4 * GIB},
		{"1T", 0, 1024 * GIB},
		{"512B", 0, 512},
		{"256", 0, 256 * MIB},
		{"0", 0, 0},
		{"", -EINVAL, 0},
		{"M", -EINVAL, 0},
		{"-1M", -EINVAL, 0},
		{"+1M", -EINVAL, 0},
		{" 1M", -EINVAL, 0},
		{"1MB", -EINVAL, 0},
		{"1.5G", -EINVAL, 0},
		{"0x10M", -EINVAL, 0},
		{"16777215T", 0, 16777215ull << 40},
		{"16777216T", -ERANGE, 0},
		{"18446744073709551615B", 0, UINT64_MAX},
		{"18446744073709551616B", -ERANGE, 0},
		{"17592186044416", -ERANGE, 0},
	};
	for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
		uint64_t size = 0;
		int rc = options_parse_size(cases[i].text, &size);
		if (rc != cases[i].rc || size != cases[i].size)
			print_error("size '%s': %d\n", cases[i].text, rc);
		assert_int_equal(rc, cases[i].rc);
		assert_true(size == cases[i].size);
	}
}

static void memory(void **state)
{
	assert_int_equal(parse("-k k -m 512M,hugetlb=2M"), 0);
	assert_int_equal(opt.mem.hugetlb, 2);
	assert_false(opt.mem.bind);
	assert_int_equal(parse("-k k -m 2G,hugetlb=1G,node=3"), 0);
	assert_int_equal(opt.mem.hugetlb, 1024);
	assert_true(opt.mem.bind);
	assert_int_equal(opt.mem.node, 3);
	assert_int_equal(parse("-k k -m 512M,path=/dev/shm,collapse"), 0);
	assert_string_equal(opt.mem.path, "/dev/shm");
	assert_true(opt.mem.collapse);
	/* The last one counts, as a whole. */
	assert_int_equal(parse("-k k -m 512M,collapse -m 64M"), 0);
	assert_true(opt.mem.size == 64 * MIB && !opt.mem.collapse);
	assert_int_equal(parse("-k k -m 32M"), 0);
}

static void processors(void **state)
{
	static const struct {
		const char *text;
		uint32_t sockets, cores, threads;
	} cases[] = {
		{"1", 1, 1, 1},
		{"6", 1, 6, 1},
		{"8,sockets=2", 2, 4, 1},
		{"8,cores=2", 4, 2, 1},
		{"8,threads=2", 1, 4, 2},
		{"8,cores=2,threads=2", 2, 2, 2},
		{"12,sockets=3,threads=2,cores=2", 3, 2, 2},
		{"6,sockets=1,cores=3,threads=2", 1, 3, 2},
		{"3,threads=3", 1, 1, 3},
	};
	char line[64];
	for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
		snprintf(line, sizeof(line), "-k k -c %s", cases[i].text);
		assert_int_equal(parse(line), 0);
		assert_int_equal(opt.cpu.sockets, cases[i].sockets);
		assert_int_equal(opt.cpu.cores, cases[i].cores);
		assert_int_equal(opt.cpu.threads, cases[i].threads);
		assert_int_equal(opt.cpus, cases[i].sockets * cases[i].cores * cases[i].threads);
		assert_null(opt.cpu.affinity);
	}
}

static void on_request(void **state)
{
	static const struct {
		const char *text;
		bool nested, pmu;
	} cases[] = {
		{"1", false, false},
		{"1,nested=on", true, false},
		{"4,nested=on,cores=2", true, false},
		{"2,threads=2,nested=off", false, false},
		{"2,pmu=on", false, true},
		{"2,pmu=off,nested=on", true, false},
		{"2,nested=on,pmu=on", true, true},
	};
	char line[64];
	for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
		snprintf(line, sizeof(line), "-k k -c %s", cases[i].text);
		assert_int_equal(parse(line), 0);
		assert_int_equal(opt.cpu.nested, cases[i].nested);
		assert_int_equal(opt.cpu.pmu, cases[i].pmu);
	}
}

static void affinities(void **state)
{
	static const uint64_t expected[4][2] = {
		{1, 0}, {0xe | 1ull << 63, 1}, {1 << 5, 0}, {1 << 5, 0}};
	uint64_t mask[SCHED_AFFINITY_WORDS];
	assert_int_equal(parse("-k k -c 4,affinity=0:1-3+63-64:5,threads=2"), 0);
	assert_int_equal(opt.cpu.threads, 2);
	for (uint32_t i = 0; i < 4; i++) {
		cpu_options_affinity(&opt.cpu, i, mask);
		assert_memory_equal(mask, expected[i], sizeof(expected[i]));
		for (unsigned k = 2; k < SCHED_AFFINITY_WORDS; k++)
			assert_true(!mask[k]);
	}
	assert_int_equal(parse("-k k -c 1,affinity=1023"), 0);
	cpu_options_affinity(&opt.cpu, 0, mask);
	assert_true(mask[15] == 1ull << 63);
}

/* What is refused, and that the message names the option and shows the way. */
static void refusals(void **state)
{
	static const struct {
		const char *line, *text, *hint;
	} cases[] = {
		{"", "--kernel is missing", "--kernel FILE"},
		{"-k k --krenel x", "unknown option --krenel", "--kernel"},
		{"-k k --memm=5", "unknown option --memm", "--mem?"},
		{"-k k --zzzzzzzzz", "unknown option --zzzzzzzzz", "--help"},
		{"-k k -z", "unknown option -z", "--help"},
		{"-k k --cpus", "--cpus: its argument is missing", ""},
		{"-k", "-k: its argument is missing", ""},
		{"-k k stray", "unexpected argument 'stray'", "--kernel FILE"},
		{"stray -k k", "unexpected argument 'stray'", "--kernel FILE"},
		{"-k k -c 0", "--cpus: '0'", "from 1 to 1024"},
		{"-k k -c 1025", "--cpus: '1025'", "from 1 to 1024"},
		{"-k k -c -1", "--cpus: '-1'", "from 1 to 1024"},
		{"-k k -c 2x", "--cpus: '2x'", "from 1 to 1024"},
		{"-k k -c 99999999999999999999", "--cpus", "from 1 to 1024"},
		{"-k k -c 4,", "--cpus: '4,'", "affinity="},
		{"-k k -c 4,dies=2", "--cpus", "affinity="},
		{"-k k -c 4,cores=", "--cpus", "with a number"},
		{"-k k -c 4,cores=0", "--cpus", "with a number"},
		{"-k k -c 4,cores=2x", "--cpus", "with a number"},
		{"-k k -c 4,cores=1025", "--cpus", "with a number"},
		{"-k k -c 4,cores=4294967297", "--cpus", "with a number"},
		{"-k k -c 4,cores=3", "--cpus", "as many as there are vCPUs"},
		{"-k k -c 4,sockets=64,cores=64,threads=64", "--cpus", "as many"},
		{"-k k -c 4,cores=8", "--cpus", "as many"},
		{"-k k -c 6,sockets=2", "--cpus", "powers of two"},
		{"-k k -c 6,threads=3", "--cpus", "powers of two"},
		{"-k k -c 2,nested=", "--cpus", "nested= or pmu= with on or off"},
		{"-k k -c 2,nested=only", "--cpus", "nested= or pmu= with on or off"},
		{"-k k -c 2,nested=on4", "--cpus", "nested= or pmu= with on or off"},
		{"-k k -c 2,pmu=", "--cpus", "nested= or pmu= with on or off"},
		{"-k k -c 2,pmu=2", "--cpus", "nested= or pmu= with on or off"},
		{"-k k -c 2,pmu=o", "--cpus", "nested= or pmu= with on or off"},
		{"-k k -c 2,pmu=offf", "--cpus", "nested= or pmu= with on or off"},
		{"-k k -c 2,affinity=", "--cpus", "SET"},
		{"-k k -c 2,affinity=x", "--cpus", "SET"},
		{"-k k -c 2,affinity=1:", "--cpus", "SET"},
		{"-k k -c 2,affinity=1+", "--cpus", "SET"},
		{"-k k -c 2,affinity=3-2", "--cpus", "SET"},
		{"-k k -c 2,affinity=1024", "--cpus", "SET"},
		{"-k k -c 2,affinity=18446744073709551616", "--cpus", "SET"},
		{"-k k -c 2,affinity=0:1:2", "--cpus", "at most one for each vCPU"},
		{"-k k --log=", "--log", "file name"},
		{"-k k --log-level debug", "--log-level: 'debug'", "error|warning|info"},
		{"-k k --log-level warn", "--log-level", "error|warning|info"},
		{"-k k --sandbox=", "--sandbox", "kill|log|off"},
		{"-k k -m 31M", "--mem: '31M'", "at least 32M"},
		{"-k k -m 16", "--mem: '16'", "a number alone is MiB"},
		{"-k k -m 1GiB", "--mem: '1GiB'", "a number alone is MiB"},
		{"-k k -m 33554433B", "--mem", "whole pages"},
		{"-k k -m 64M,", "--mem: ''", "hugetlb=2M"},
		{"-k k -m 64M,huge", "--mem: 'huge'", "hugetlb=2M"},
		{"-k k -m 64M,hugetlb=4M", "--mem: 'hugetlb=4M'", "hugetlb=1G"},
		{"-k k -m 1025M,hugetlb=1G", "--mem", "multiple of 1G"},
		{"-k k -m 64M,node=", "--mem: 'node='", "NUMA node"},
		{"-k k -m 64M,node=x", "--mem: 'node=x'", "NUMA node"},
		{"-k k -m 64M,node=-1", "--mem", "NUMA node"},
		{"-k k -m 64M,node=1024", "--mem", "NUMA node"},
		{"-k k -m 64M,node=0,path=x", "--mem", "without path="},
		{"-k k -m 65M,hugetlb=2M", "--mem", "multiple of 2M"},
		{"-k k -m 64M,hugetlb=2M,collapse", "--mem", "without collapse"},
		{"-k k -m 64M,hugetlb=2M,path=x", "--mem", "without collapse"},
		{"-k k -m 64M,path=", "--mem", "path=FILE"},
		{"-k k --console tty", "--console: 'tty'", "unix:PATH"},
		{"-k k --console file:", "--console: 'file:'", "file:PATH"},
		{"-k k --console stdio:x", "--console", "stdio"},
		{"-k k --console pty:", "--console", "pty:LINK"},
		{"-k k --console=", "--console", "stdio"},
		{"-k k --name a/b", "--name", "letters"},
		{"-k k --name 123456789012345678901234567890123", "--name", "32"},
		{"-k k --name=", "--name", "32"},
		{"-k k --name .", "--name", "begins"},
		{"-k k --name ..", "--name", "begins"},
		{"-k k --name=-x", "--name", "begins"},
		{"-k k --name -x", "--name", "begins"},
		{"--kernel=", "--kernel", "file name"},
		{"-k k --control web", "--control: 'web'", "with a slash"},
		{"-k k --control=", "--control: ''", "none"},
		{"-k k --update-timeout 3600001", "--update-timeout", "from 0 to 3600000"},
		{"-k k --update-timeout=-1", "--update-timeout", "from 0"},
		{"-k k --prepare-timeout 99", "--prepare-timeout", "from 100"},
		{"-k k --preflight-timeout 1000", "--preflight-timeout", ""},
		{"-k k --insecure-exe=yes", "--insecure-exe", "no argument"},
	};
	for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
		int rc = parse(cases[i].line);
		if (rc != -EINVAL || !strstr(err.text, cases[i].text) ||
		    !strstr(err.hint, cases[i].hint))
			fail_msg("'%s': %d, %s (%s)", cases[i].line, rc, err.text, err.hint);
		assert_int_equal(err.exit, EXIT_USAGE);
	}
}

static void too_many_devices(void **state)
{
	char line[512] = "-k k";
	for (int i = 0; i < OPTIONS_MAX_DEVICES; i++)
		strcat(line, " --vfio x");
	assert_int_equal(parse(line), 0);
	assert_int_equal(opt.ndevices, OPTIONS_MAX_DEVICES);
	strcat(line, " --vfio x");
	assert_int_equal(parse(line), -E2BIG);
	assert_int_equal(err.exit, EXIT_USAGE);
}

/* Every option of the table is in every text that is generated from it. */
static void texts(void **state)
{
	void (*const makers[])(FILE *) = {options_help, options_man, completion_options};
	for (unsigned k = 0; k < ARRAY_LEN(makers); k++) {
		char *text = NULL, word[64];
		size_t len;
		FILE *f = open_memstream(&text, &len);
		makers[k](f);
		fclose(f);
		for (unsigned i = 0; i < options_table_len; i++) {
			snprintf(word, sizeof(word), "--%s", options_table[i].name);
			assert_non_null(strstr(text, word));
		}
		for (const char *line = text; k == 0 && *line; line += strcspn(line, "\n") + 1)
			assert_true(strcspn(line, "\n") <= 100);
		free(text);
	}
}

static void the_table_is_sound(void **state)
{
	for (unsigned i = 0; i < options_table_len; i++) {
		const struct option_entry *o = &options_table[i];
		assert_true(strlen(o->name) < 32);
		assert_true(o->arg || !o->def);
		assert_int_equal(o->help[strlen(o->help) - 1], '.');
		for (unsigned k = 0; k < i; k++) {
			assert_string_not_equal(o->name, options_table[k].name);
			assert_true(!o->letter || o->letter != options_table[k].letter);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(defaults),
		cmocka_unit_test(everything),
		cmocka_unit_test(short_ones_again_and_again),
		cmocka_unit_test(sizes),
		cmocka_unit_test(memory),
		cmocka_unit_test(processors),
		cmocka_unit_test(on_request),
		cmocka_unit_test(affinities),
		cmocka_unit_test(refusals),
		cmocka_unit_test(too_many_devices),
		cmocka_unit_test(texts),
		cmocka_unit_test(the_table_is_sound),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
