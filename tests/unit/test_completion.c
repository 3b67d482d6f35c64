/* SPDX-License-Identifier: MIT */
/* The words that shells complete, from lines of --help. */
#include "tests/unit/unit.h"

#include <stdio.h>

#include "vmm/completion.h"

static void what_a_usage_says(void **state)
{
	static const struct {
		const char *usage, *words;
	} rows[] = {
		{"", ""},
		{"no usage of molt\n", ""},
		{"usage: molt go\n", "molt|go\nmolt go|--help\n"},
		{"       molt --version", "molt|--version\n"},
		{"molt up GUEST|--all [--exe FILE]\n",
		 "molt|up\nmolt up|GUEST\nmolt up|--all\nmolt up|--exe\nmolt up --exe|FILE\n"
		 "molt up|--help\n"},
		{"molt up [--json]\n          [--parallel N] [--go]\nand so on [--not]\n[--nor]\n",
		 "molt|up\nmolt up|--json\nmolt up|--help\nmolt up|--parallel\n"
		 "molt up --parallel|N\nmolt up|--go\n"},
		{"molt see it A|B    what --it does\n",
		 "molt|see\nmolt see|it\nmolt see it|A\nmolt see it|B\nmolt see it|--help\n"},
	};
	for (unsigned i = 0; i < ARRAY_LEN(rows); i++) {
		char *words = NULL;
		size_t len;
		FILE *out = open_memstream(&words, &len);
		completion_usage(out, rows[i].usage);
		fclose(out);
		assert_string_equal(words, rows[i].words);
		free(words);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(what_a_usage_says)};
	return cmocka_run_group_tests_name("completion", tests, NULL, NULL);
}
