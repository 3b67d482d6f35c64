/* SPDX-License-Identifier: MIT */
/* Options from a file, in the place of --config. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "tests/unit/unit.h"
#include "vmm/base/config_file.h"
#include "vmm/options.h"

static char path[] = "/tmp/molt-config.XXXXXX";

static void content(const char *text)
{
	FILE *f = fopen(path, "w");
	assert_non_null(f);
	fputs(text, f);
	fclose(f);
}

/* The words after "molt run", joined by "|"; NULL: refused with @err. */
static const char *expand(struct error *err, ...)
{
	static char joined[4096];
	static char *words[16];
	char **argv = words;
	int argc = 0;
	va_list list;
	va_start(list, err);
	for (char *w; (w = va_arg(list, char *));)
		words[argc++] = w;
	va_end(list);
	words[argc] = NULL;
	if (config_file_expand(&argc, &argv, err))
		return NULL;
	assert_null(argv[argc]);
	joined[0] = 0;
	for (int i = 0; i < argc; i++)
		snprintf(joined + strlen(joined), sizeof(joined) - strlen(joined), "%s%s",
			 i ? "|" : "", argv[i]);
	return joined;
}

static void in_its_place(void **state)
{
	struct error err = {0};
	content("# a guest\n"
		"kernel = /boot/vmlinuz\n"
		"\n"
		"  cmdline=console=ttyS0 root=/dev/sda\t \n"
		"vfio = 00:05.0,rom=off\n"
		"vfio = 00:06.0\n"
		"insecure-exe\n"
		"name =\n"
		"report = --odd");
	assert_string_equal(
		expand(&err, "run", "--mem", "1G", "--config", path, "--cpus", "2", NULL),
		"run|--mem|1G|--kernel=/boot/vmlinuz|--cmdline=console=ttyS0 "
		"root=/dev/sda|--vfio=00:05.0,rom=off|--vfio=00:06.0|--insecure-exe|"
		"--name=|--report=--odd|--cpus|2");
	char word[64];
	snprintf(word, sizeof(word), "--config=%s", path);
	content("mem = 64M\n");
	assert_string_equal(expand(&err, "run", word, word, NULL), "run|--mem=64M|--mem=64M");
	assert_string_equal(expand(&err, "run", "--mem", "64M", NULL), "run|--mem|64M");
	assert_string_equal(expand(&err, "run", "--config", NULL), "run|--config");
	content("cmdline = \" a b \"\ninitrd=\"\"\nkernel = \"x\nlog = \"\n");
	assert_string_equal(expand(&err, "run", word, NULL),
			    "run|--cmdline= a b |--initrd=|--kernel=\"x|--log=\"");
	content("");
	assert_string_equal(expand(&err, "run", word, NULL), "run");
}

static void refused(void **state)
{
	static const struct {
		const char *text, *says;
	} cases[] = {
		{"kernel = a\n= b\n", "line 2"},	{"--kernel = a\n", "line 1: no name"},
		{"two words = a\n", "line 1: no name"}, {"\n\nconfig = other\n", "line 3"},
		{"Kernel = a\n", "line 1: no name"},
	};
	struct error err;
	for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
		content(cases[i].text);
		err = (struct error){0};
		assert_null(expand(&err, "run", "--config", path, NULL));
		if (!strstr(err.text, cases[i].says) || !strstr(err.text, path))
			fail_msg("%s: %s", cases[i].text, err.text);
		assert_int_equal(err.exit, EXIT_CONFIG);
		assert_true(err.hint[0]);
	}
	assert_null(expand(&err, "run", "--config", "/nonexistent/file", NULL));
	assert_int_equal(err.code, ENOENT);
	assert_int_equal(err.exit, EXIT_CONFIG);
	assert_null(expand(&err, "run", "--config", "/dev/zero", NULL));
	assert_true(err.hint[0]);
}

/* A mistake in an option is told with the file and the line. */
static void names_the_line(void **state)
{
	static const struct {
		const char *text, *says;
	} cases[] = {
		{"kernel = a\n\nbogus = 1\n", ", line 3: unknown option --bogus"},
		{"kernel\n", ", line 1: option --kernel: its argument is missing"},
		{"kernel\nmem = 64M\n", ", line 1: option --kernel: its argument is missing"},
		{"# none\nrng = yes\n", ", line 2: option --rng: "},
		{"cpus = 0\n", ", line 1: option --cpus: "},
	};
	struct options opt;
	struct error err;
	for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
		char *words[] = {"-k", "k", "--config", path, "-c", "1", NULL}, **argv = words;
		int n = 6;
		content(cases[i].text);
		assert_int_equal(config_file_expand(&n, &argv, &err), 0);
		assert_int_equal(options_parse(&opt, n, argv, &err), -EINVAL);
		if (!strstr(err.text, path) || !strstr(err.text, cases[i].says) || !err.hint[0])
			fail_msg("%s: %s", cases[i].text, err.text);
	}
	/* Not of what the command line says. */
	char *words[] = {"--config", path, "-c", "0", NULL}, **argv = words;
	int n = 4;
	content("kernel = a\n");
	assert_int_equal(config_file_expand(&n, &argv, &err), 0);
	assert_int_equal(options_parse(&opt, n, argv, &err), -EINVAL);
	assert_null(strstr(err.text, path));
}

/* What is in effect, a line each, as molt config prints it. */
static void listing(const struct options *opt, char *out, size_t size)
{
	const char *name, *text;
	FILE *f = fmemopen(out, size, "w");
	for (unsigned i = 0; options_effective(opt, i, &name, &text); i++)
		config_file_print(f, name, text);
	fclose(f);
}

static void printed_and_read_again(void **state)
{
	static char *lines[][16] = {
		{"-k", "vmlinuz"},
		{"-k", "a = b", "-p", "# quiet  \"x\" = y", "--initrd=--odd", "-m", "64", "-m",
		 "1G,collapse"},
		{"-k", "\"k\"", "-p", " a  b "},
		{"-k", "\"", "-p", "\"\""},
		{"-k", "a\"", "-p", "\"a"},
		{"-k", "\"\"\"", "-p", " "},
		{"-k", "k", "--vfio", "05:00.0,rom=off", "--testdev", "trigger=3", "--vfio",
		 "06:00.0", "--insecure-exe", "--sandbox", "off", "--name", "web", "--log", "/log"},
	};
	static char printed[4096], again[4096];
	struct options opt;
	struct error err = {0};
	for (unsigned i = 0; i < ARRAY_LEN(lines); i++) {
		char *words[] = {"--config", path, NULL}, **argv = words;
		int argc = 0, n = 2;
		while (lines[i][argc])
			argc++;
		assert_int_equal(options_parse(&opt, argc, lines[i], &err), 0);
		listing(&opt, printed, sizeof(printed));
		content(printed);
		assert_int_equal(config_file_expand(&n, &argv, &err), 0);
		assert_int_equal(options_parse(&opt, n, argv, &err), 0);
		listing(&opt, again, sizeof(again));
		assert_string_equal(printed, again);
	}
	/* The last one: devices in their order, of the others what counts, and defaults. */
	assert_non_null(
		strstr(printed, "vfio = 05:00.0,rom=off\ntestdev = trigger=3\nvfio = 06:00.0\n"));
	assert_non_null(strstr(printed, "\ninsecure-exe\n"));
	assert_non_null(strstr(printed, "\nmem = 256M\n"));
	assert_null(strstr(printed, "take"));
}

static void what_no_line_can_say(void **state)
{
	struct error err;
	assert_int_equal(config_file_check("cmdline", "", &err), 0);
	assert_int_equal(config_file_check("cmdline", "a  b", &err), 0);
	assert_int_equal(config_file_check("cmdline", "a\tb", &err), -EINVAL);
	assert_int_equal(config_file_check("cmdline", "a\nb", &err), -EINVAL);
	assert_non_null(strstr(err.text, "--cmdline"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(in_its_place),		cmocka_unit_test(refused),
		cmocka_unit_test(names_the_line),	cmocka_unit_test(printed_and_read_again),
		cmocka_unit_test(what_no_line_can_say),
	};
	close(mkstemp(path));
	int rc = cmocka_run_group_tests(tests, NULL, NULL);
	remove(path);
	return rc;
}
