/* SPDX-License-Identifier: MIT */
#include "tests/unit/unit.h"

#include <stdio.h>

#include "vmm/base/json.h"

static char buf[4096];

static void a_record(void **state)
{
	struct json j;
	json_begin(&j, buf, sizeof(buf));
	json_open(&j, NULL, '{');
	json_string(&j, "text", "a \"b\" \\ \n\x01");
	json_number(&j, "n", UINT64_MAX);
	json_bool(&j, "yes", true);
	json_open(&j, "none", '[');
	json_close(&j, ']');
	json_open(&j, "list", '[');
	json_number(&j, NULL, 1);
	json_open(&j, NULL, '{');
	json_raw(&j, "x", "%.2f", 1.5);
	json_close(&j, '}');
	json_close(&j, ']');
	json_close(&j, '}');
	assert_true(json_end(&j));
	assert_string_equal(
		buf, "{\"text\":\"a \\\"b\\\" \\\\ \\u000a\\u0001\",\"n\":18446744073709551615,"
		     "\"yes\":true,\"none\":[],\"list\":[1,{\"x\":1.50}]}\n");
	assert_int_equal(j.len, strlen(buf));
}

/* Every size that is too small is told, and nothing is written beyond it. */
static void what_does_not_fit(void **state)
{
	static const char whole[] = "{\"key\":\"va\\\"lue\",\"n\":12345}\n";
	for (size_t size = 1; size < sizeof(whole) + 2; size++) {
		struct json j;
		memset(buf, '#', sizeof(buf));
		json_begin(&j, buf, size);
		json_open(&j, NULL, '{');
		json_string(&j, "key", "va\"lue");
		json_number(&j, "n", 12345);
		json_close(&j, '}');
		assert_int_equal(json_end(&j), size >= sizeof(whole));
		assert_true(strlen(buf) < size);
		assert_int_equal(buf[size], '#');
		if (size >= sizeof(whole))
			assert_string_equal(buf, whole);
	}
}

static const char *text_of(const char *object, const char *key)
{
	static char text[256];
	return json_text(json_get(object, key), text, sizeof(text));
}

static void reading(void **state)
{
	static const char object[] = " { \"a\" : \"x\\\"y\\u000a\\u0041\\u00e9\\u001b\\n\\\\\" , "
				     "\"b\":{\"c\":[1,{\"d\":\"}]\"}]},"
				     "\"c\":-3, \"d\":12.5,\"\":\"empty\", \"e\":[ \"one\" , "
				     "{\"f\":2},[3] ] , \"z\":null}";
	assert_string_equal(text_of(object, "a"), "x\"y\nA??\n\\");
	assert_string_equal(text_of(object, "b"), "{\"c\":[1,{\"d\":\"}]\"}]}");
	assert_string_equal(text_of(object, "c"), "-3"); /* not the one inside b */
	assert_string_equal(text_of(object, "d"), "12.5");
	assert_int_equal(json_u64(json_get(object, "d")), 12);
	assert_int_equal(json_u64(json_get(object, "a")), 0);
	assert_string_equal(text_of(object, ""), "empty");
	assert_string_equal(text_of(object, "z"), "null");
	assert_null(json_get(object, "f"));
	assert_null(json_get(NULL, "f"));

	char text[32];
	const char *e = json_first(json_get(object, "e"));
	assert_string_equal(json_text(e, text, sizeof(text)), "one");
	e = json_next(e);
	assert_int_equal(json_u64(json_get(e, "f")), 2);
	e = json_next(e);
	assert_string_equal(json_text(e, text, sizeof(text)), "[3]");
	assert_null(json_next(e));
	assert_null(json_first("[ ]"));
	assert_null(json_first(json_get(object, "a")));
	assert_string_equal(json_text(json_get(object, "b"), text, 4), "{\"c");
}

/* Cut anywhere, or with any byte changed, a text gives some answer and is never read beyond its end
 * (AddressSanitizer watches). */
static void damaged_texts(void **state)
{
	static const char whole[] =
		"{\"a\":\"x\\\"\\u00\",\"b\":[1,{\"c\":\"]\"},[[2]]],\"d\":true}";
	static const char bytes[] = "\"\\{}[],:u x";
	char text[64];
	for (size_t at = 0; at < sizeof(whole); at++)
		for (size_t k = 0; k < sizeof(bytes); k++) {
			char *copy = malloc(sizeof(whole));
			memcpy(copy, whole, sizeof(whole));
			copy[at] = bytes[k];
			copy[sizeof(whole) - 1] = 0;
			json_text(json_get(copy, "d"), text, sizeof(text));
			json_text(json_get(copy, "a"), text, sizeof(text));
			unsigned n = 0;
			for (const char *e = json_first(json_get(copy, "b")); e; e = json_next(e))
				assert_true(++n < sizeof(whole));
			free(copy);
		}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_record),
		cmocka_unit_test(what_does_not_fit),
		cmocka_unit_test(reading),
		cmocka_unit_test(damaged_texts),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
