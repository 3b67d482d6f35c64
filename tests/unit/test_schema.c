/* SPDX-License-Identifier: MIT */
/* What a program says of its state, and what another makes of it: every rule, by its line of output. */
#include "tests/unit/unit.h"

#include <errno.h>
#include <stdio.h>

#include "cpr/inspect.h"
#include "vmm/base/error.h"

static struct schema a, b;

/* What @print writes of @s; the caller frees it. */
static char *printed(const struct schema *s, void (*print)(const struct schema *s, FILE *out))
{
	char *text;
	size_t len;
	FILE *out = open_memstream(&text, &len);
	print(s, out);
	fclose(out);
	return text;
}

static void parse(struct schema *s, const char *lines)
{
	char text[2048];
	struct error err = {0};
	snprintf(text, sizeof(text), "schema " STATE_COMPATIBLE " 1.0 ab\n%s", lines);
	if (schema_parse(s, text, &err))
		fail_msg("%s", err.text);
}

static void own_text_is_read_back(void **state)
{
	struct error err = {0};
	schema_own(&a);
	char *text = printed(&a, schema_print), *again;
	char *copy = strdup(text);
	assert_int_equal(schema_parse(&b, copy, &err), 0);
	again = printed(&b, schema_print);
	assert_string_equal(again, text);
	free(copy);
	free(again);
	free(text);
}

/* A field by the name of a property of the format would be read as that. */
static void own_names(void **state)
{
	char clean[SCHEMA_NAME_LEN];
	schema_own(&a);
	assert_true(a.n >= 10);
	for (unsigned i = 0; i < a.n; i++) {
		const struct schema_class *c = &a.classes[i];
		schema_name(clean, sizeof(clean), c->name);
		assert_string_equal(clean, c->name);
		assert_ptr_equal(schema_find(&a, c->name), c);
		assert_true(c->nfields && c->nfields < SCHEMA_MAX_FIELDS);
		assert_true(c->needs <= c->version);
		for (unsigned k = 0; k < c->nfields; k++) {
			const struct schema_field *f = &c->fields[k];
			schema_name(clean, sizeof(clean), f->name);
			assert_string_equal(clean, f->name);
			assert_false(state_is_header(f->name));
			assert_ptr_equal(schema_field_find(c, f->name), f);
			assert_true(f->since >= 1 && f->since <= c->version);
		}
	}
}

static void damaged_text(void **state)
{
	static const struct {
		const char *text;
		int code;
	} rows[] = {
		{"", EBADMSG},
		{"nonsense", EBADMSG},
		{"schema molt,state-1 1.0 ab\n", EBADMSG},
		{"schema molt,state-2 1.0 ab\nclass x version 1 needs 0\n", EPROTO},
		{"schema molt,state-1 1.0 ab\n  f u8 1 since 1 required\n", EBADMSG},
		{"schema molt,state-1 1.0 ab\nclass x version 1\n", EBADMSG},
		{"schema molt,state-1 1.0 ab\nclass x version 1 needs 0\n  f u9 1 since 1 "
		 "required\n",
		 EBADMSG},
		{"schema molt,state-1 1.0 ab\nclass x version 1 needs 0\n  f u8 1 since 1\n",
		 EBADMSG},
		{"schema molt,state-1 1.0 ab\nclass x version 1 needs 0\n  f u8 n since 1 "
		 "required\n",
		 EBADMSG},
		{"schema molt,state-1 1.0 ab\nclass x version 1 needs 0\n  f u8 1 since 1 maybe\n",
		 EBADMSG},
		{"schema molt,state-1 1.0 ab\nclass x version 1 needs 0\n  f u8 1 since 1 "
		 "default\n",
		 EBADMSG},
		{"schema molt,state-1 1.0 ab\nclass x version 1 needs 0\n"
		 "  f bytes:99999999 1 since 1 required\n",
		 EBADMSG},
	};
	for (unsigned i = 0; i < ARRAY_LEN(rows); i++) {
		struct error err = {0};
		char text[256];
		strcpy(text, rows[i].text);
		assert_int_equal(schema_parse(&a, text, &err), -rows[i].code);
		assert_int_not_equal(err.text[0], 0);
	}
}

/* More classes and fields than there is room for; names of any length. */
static void too_much_text(void **state)
{
	struct error err;
	char *text;
	size_t len;
	FILE *out = open_memstream(&text, &len);
	fprintf(out, "schema molt,state-1 1.0 ab\n");
	for (int i = 0; i <= SCHEMA_MAX_CLASSES; i++)
		fprintf(out, "class c%d version 1 needs 0\n", i);
	fclose(out);
	assert_int_equal(schema_parse(&a, text, &err), -EBADMSG);
	free(text);
	out = open_memstream(&text, &len);
	fprintf(out, "schema molt,state-1 1.0 ab\nclass c version 1 needs 0\n");
	for (int i = 0; i <= SCHEMA_MAX_FIELDS; i++)
		fprintf(out, "  f%d u8 1 since 1 required\n", i);
	fclose(out);
	assert_int_equal(schema_parse(&a, text, &err), -EBADMSG);
	free(text);
	out = open_memstream(&text, &len);
	fprintf(out, "schema molt,state-1 1.0 ab\nclass \033[31m%0*d version 1 needs 0\n", 300, 7);
	fclose(out);
	assert_int_equal(schema_parse(&a, text, &err), -EBADMSG);
	free(text);
	parse(&a, "class \033]0;x version 1 needs 0\n");
	assert_string_equal(a.classes[0].name, "??0?x");
}

#define C1 "class c version 1 needs 0 always\n"
#define C2 "class c version 2 needs 0 always\n"
#define F  "  f u8 1 since 1 required\n"

static const struct {
	const char *what, *from, *to;
	const char *line; /* of the output */
	struct schema_verdict verdict;
} rules[] = {
	{"the same", C1 F, C1 F, "  f                        taken as is\n", {1, 0, 0, 0}},
	{"a field with a default",
	 C1 F,
	 C2 F "  g u32 1 since 2 default 0x7\n",
	 "  g                        default 0x7\n",
	 {1, 1, 0, 0}},
	{"a field without one",
	 C1 F,
	 C2 F "  g u32 1 since 2 required\n",
	 "  g                        REFUSED: missing, and required since version 2\n",
	 {1, 0, 0, 1}},
	{"an unknown field",
	 C2 F "  g u32 1 since 2 default 0x7\n",
	 C1 F,
	 "  g                        ignored\n",
	 {1, 0, 1, 0}},
	{"a newer version that needs nothing", C2 F, C1 F, "c: version 2 -> 1\n", {1, 0, 0, 0}},
	{"a newer version that is needed",
	 "class c version 3 needs 2\n" F,
	 C1 F,
	 "  REFUSED: needs version 2\n",
	 {0, 0, 0, 1}},
	{"the version that is needed",
	 "class c version 3 needs 2\n" F,
	 C2 F,
	 "c: version 3 -> 2",
	 {1, 0, 0, 0}},
	{"an unknown class",
	 C1 F "class d version 1 needs 0 always\n" F,
	 C1 F,
	 "d: REFUSED: unknown\n",
	 {1, 0, 0, 1}},
	{"an unknown class that not all have",
	 C1 F "class d version 1 needs 0\n" F,
	 C1 F,
	 "d: REFUSED: unknown, so machines that have one cannot be updated\n",
	 {1, 0, 0, 1}},
	{"an unknown class that is optional",
	 C1 F "class d version 1 needs 0 optional\n" F,
	 C1 F,
	 "d: ignored: unknown and optional\n",
	 {1, 0, 1, 0}},
	{"a new class with defaults",
	 C1 F,
	 C1 F "class d version 1 needs 0 always\n  g u8 1 since 1 default 0x0\n",
	 "d: new\n",
	 {1, 1, 0, 0}},
	{"a new class without",
	 C1 F,
	 C1 F "class d version 1 needs 0 always\n" F,
	 "d: REFUSED: missing\n",
	 {1, 0, 0, 1}},
	{"a new class that no machine has yet",
	 C1 F,
	 C1 F "class d version 1 needs 0\n" F,
	 "1.0 -> 1.0: 1 taken",
	 {1, 0, 0, 0}},
	{"a renamed class",
	 C1 F,
	 "class d version 1 needs 0 always\n" F,
	 "c: REFUSED: unknown\n",
	 {0, 0, 0, 2}},
	{"wider",
	 C1 F,
	 C1 "  f u32 1 since 1 required\n",
	 "  f                        taken as is, now of type u32\n",
	 {1, 0, 0, 0}},
	{"wider than a cell",
	 C1 F,
	 C1 "  f u64 1 since 1 required\n",
	 "REFUSED: u8 1 does not fit u64 1\n",
	 {0, 0, 0, 1}},
	{"narrower",
	 C1 "  f u32 1 since 1 required\n",
	 C1 F,
	 "REFUSED: u32 1 does not fit u8 1\n",
	 {0, 0, 0, 1}},
	{"longer",
	 C1 "  f u32 0..8 since 1 required\n",
	 C1 "  f u32 0..16 since 1 required\n",
	 "taken as is\n",
	 {1, 0, 0, 0}},
	{"shorter",
	 C1 "  f u32 0..16 since 1 required\n",
	 C1 "  f u32 0..8 since 1 required\n",
	 "REFUSED: u32 0..16 does not fit u32 0..8\n",
	 {0, 0, 0, 1}},
	{"a list of another kind",
	 C1 "  f bytes:1 0..16 since 1 required\n",
	 C1 "  f bytes:8 0..16 since 1 required\n",
	 "REFUSED",
	 {0, 0, 0, 1}},
	{"a list where there is one",
	 C1 F,
	 C1 "  f u8 0..4 since 1 required\n",
	 "taken as is",
	 {1, 0, 0, 0}},
	{"one where there is a list",
	 C1 "  f u8 0..4 since 1 required\n",
	 C1 F,
	 "REFUSED",
	 {0, 0, 0, 1}},
	{"a longer string",
	 C1 "  f string:8 1 since 1 required\n",
	 C1 "  f string:16 1 since 1 required\n",
	 "taken as is",
	 {1, 0, 0, 0}},
	{"a shorter string",
	 C1 "  f string:16 1 since 1 required\n",
	 C1 "  f string:8 1 since 1 required\n",
	 "REFUSED",
	 {0, 0, 0, 1}},
};

static void each_rule(void **state)
{
	for (unsigned i = 0; i < ARRAY_LEN(rules); i++) {
		char *text;
		size_t len;
		parse(&a, rules[i].from);
		parse(&b, rules[i].to);
		FILE *out = open_memstream(&text, &len);
		struct schema_verdict v = schema_diff(&a, &b, out);
		fclose(out);
		if (!strstr(text, rules[i].line) || memcmp(&v, &rules[i].verdict, sizeof(v)))
			fail_msg("%s: %s", rules[i].what, text);
		free(text);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(own_text_is_read_back),
		cmocka_unit_test(own_names),
		cmocka_unit_test(damaged_text),
		cmocka_unit_test(too_much_text),
		cmocka_unit_test(each_rule),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
