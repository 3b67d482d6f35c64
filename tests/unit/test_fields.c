/* SPDX-License-Identifier: MIT */
/* The table of fields: every kind through the tree and back, and every rule for what does not fit.
 */
#include "tests/unit/unit.h"

#include <errno.h>
#include <libfdt.h>

#include "vmm/base/error.h"

struct sample {
	uint8_t u8;
	uint8_t later8;
	uint16_t u16;
	uint32_t u32;
	uint64_t u64;
	uint64_t later64;
	uint8_t bytes[4];
	uint32_t n;
	uint16_t list[6];
	uint32_t nraw;
	uint8_t raw[3][8];
	char text[16];
	uint64_t wide[2];
};

static const struct field sample_fields[] = {
	FIELD_U(struct sample, u8),
	FIELD_U_SINCE(struct sample, later8, 2, 7),
	FIELD_U(struct sample, u16),
	FIELD_U(struct sample, u32),
	FIELD_U(struct sample, u64),
	FIELD_U_SINCE(struct sample, later64, 2, 0x123456789abcdef0),
	FIELD_RAW(struct sample, bytes),
	FIELD_ARRAY_LEN(struct sample, list, n),
	FIELD_OPAQUE_LEN(struct sample, raw, nraw),
	FIELD_STR(struct sample, text),
	FIELD_ARRAY(struct sample, wide),
};
static STATE_CLASS(sample_class, "sample", 2, struct sample, sample_fields);

static const struct sample full = {
	.u8 = 0xfe,
	.later8 = 1,
	.u16 = 0xfedc,
	.u32 = 0xfedcba98,
	.u64 = 0xfedcba9876543210,
	.later64 = 5,
	.bytes = {9, 8, 7, 6},
	.n = 2,
	.list = {0x1111, 0xffff},
	.nraw = 3,
	.raw = {"aaaaaaa", "bbbbbbb", "ccccccc"},
	.text = "fifteen letters",
	.wide = {1, UINT64_MAX},
};

static char tree[4096];

/* A tree whose root holds @s, less the property @without (or all), and then @extra. */
static void build(const struct sample *s, const char *without, const char *extra, const void *value,
		  int len)
{
	struct field some[ARRAY_LEN(sample_fields)];
	struct state_class cls = sample_class;
	struct error err;
	cls.fields = some;
	cls.nfields = 0;
	for (unsigned i = 0; i < ARRAY_LEN(sample_fields); i++)
		if (!without || strcmp(sample_fields[i].name, without))
			some[cls.nfields++] = sample_fields[i];
	assert_int_equal(fdt_create(tree, sizeof(tree)), 0);
	assert_int_equal(fdt_finish_reservemap(tree), 0);
	assert_int_equal(fdt_begin_node(tree, ""), 0);
	assert_int_equal(fields_write(tree, &cls, s, &err), 0);
	if (extra)
		assert_int_equal(fdt_property(tree, extra, value, len), 0);
	assert_int_equal(fdt_end_node(tree), 0);
	assert_int_equal(fdt_finish(tree), 0);
	assert_int_equal(fdt_check_full(tree, fdt_totalsize(tree)), 0);
}

static int load(struct sample *s)
{
	struct error err;
	memset(s, 0xa5, sizeof(*s));
	return fields_read(tree, 0, &sample_class, s, &err);
}

/* Loads what must be equal to @want; elements beyond a list's end are nobody's. */
static void load_equal(const struct sample *want)
{
	struct sample s;
	assert_int_equal(load(&s), 0);
	memset(s.list + s.n, 0, sizeof(s.list) - s.n * sizeof(s.list[0]));
	memset(s.raw + s.nraw, 0, sizeof(s.raw) - s.nraw * sizeof(s.raw[0]));
	assert_memory_equal(&s, want, sizeof(s));
}

static void every_member_has_a_field(void **state)
{
	assert_int_equal(unit_uncovered(&sample_class), sizeof(struct sample));
	struct state_class shorter = sample_class;
	shorter.nfields--;
	assert_int_equal(unit_uncovered(&shorter), offsetof(struct sample, wide));
}

static void round_trip(void **state)
{
	build(&full, NULL, NULL, NULL, 0);
	load_equal(&full);
}

static void empty_lists_round_trip(void **state)
{
	struct sample in = full;
	in.n = in.nraw = 0;
	memset(in.list, 0, sizeof(in.list));
	memset(in.raw, 0, sizeof(in.raw));
	memset(in.text, 0, sizeof(in.text));
	build(&in, NULL, NULL, NULL, 0);
	load_equal(&in);
}

static void cells_are_big_endian(void **state)
{
	int len;
	build(&full, NULL, NULL, NULL, 0);
	const uint8_t *p = fdt_getprop(tree, 0, "u16", &len);
	assert_int_equal(len, 4);
	assert_memory_equal(p, "\0\0\xfe\xdc", 4);
	p = fdt_getprop(tree, 0, "u64", &len);
	assert_int_equal(len, 8);
	assert_memory_equal(p, "\xfe\xdc\xba\x98\x76\x54\x32\x10", 8);
}

static void missing_fields(void **state)
{
	struct sample s;
	for (unsigned i = 0; i < ARRAY_LEN(sample_fields); i++) {
		build(&full, sample_fields[i].name, NULL, NULL, 0);
		int rc = load(&s);
		assert_int_equal(rc, sample_fields[i].required ? -EBADMSG : 0);
	}
	build(&full, "later8", NULL, NULL, 0);
	assert_int_equal(load(&s), 0);
	assert_int_equal(s.later8, 7);
	build(&full, "later64", NULL, NULL, 0);
	assert_int_equal(load(&s), 0);
	assert_true(s.later64 == 0x123456789abcdef0);
}

static void unknown_properties_are_ignored(void **state)
{
	build(&full, NULL, "from-the-future", "abc", 3);
	load_equal(&full);
}

/* No length but the right ones is taken, for any field; nothing is written beyond it (ASan). */
static void hostile_lengths(void **state)
{
	static const char bytes[256];
	struct sample *s = malloc(sizeof(*s)); /* on the heap: a guard page's worth of red zone */
	for (unsigned i = 0; i < ARRAY_LEN(sample_fields); i++) {
		const struct field *f = &sample_fields[i];
		for (int len = 0; len <= 255; len++) {
			int unit = f->type == FIELD_UINT ? (f->size == 8 ? 8 : 4) : (int)f->size;
			int most = unit * (int)f->count;
			bool fits = f->len_offset == FIELD_FIXED ? len == most
								 : len <= most && len % unit == 0;
			if (f->type == FIELD_STRING)
				fits = len == 1; /* all zeros: one NUL too many otherwise */
			build(&full, f->name, f->name, bytes, len);
			assert_int_equal(load(s), fits ? 0 : -EBADMSG);
		}
	}
	free(s);
}

static void hostile_values(void **state)
{
	struct sample s;
	build(&full, "u8", "u8", "\0\0\1\0", 4);
	assert_int_equal(load(&s), -EBADMSG);
	build(&full, "u16", "u16", "\0\1\0\0", 4);
	assert_int_equal(load(&s), -EBADMSG);
	build(&full, "text", "text", "no end", 6);
	assert_int_equal(load(&s), -EBADMSG);
	build(&full, "text", "text", "two\0of", 7);
	assert_int_equal(load(&s), -EBADMSG);
	build(&full, "text", "text", "sixteen letters!", 17);
	assert_int_equal(load(&s), -EBADMSG);
}

static void writing_checks_too(void **state)
{
	struct sample s = full;
	struct error err;
	char small[256];
	s.n = 7;
	fdt_create(tree, sizeof(tree));
	fdt_finish_reservemap(tree);
	fdt_begin_node(tree, "");
	assert_int_equal(fields_write(tree, &sample_class, &s, &err), -EINVAL);

	fdt_create(small, sizeof(small));
	fdt_finish_reservemap(small);
	fdt_begin_node(small, "");
	assert_int_equal(fields_write(small, &sample_class, &full, &err), -ENOSPC);

	s = full;
	memset(s.text, 'x', sizeof(s.text)); /* not terminated */
	fdt_create(tree, sizeof(tree));
	fdt_finish_reservemap(tree);
	fdt_begin_node(tree, "");
	assert_int_equal(fields_write(tree, &sample_class, &s, &err), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_member_has_a_field),
		cmocka_unit_test(round_trip),
		cmocka_unit_test(empty_lists_round_trip),
		cmocka_unit_test(cells_are_big_endian),
		cmocka_unit_test(missing_fields),
		cmocka_unit_test(unknown_properties_are_ignored),
		cmocka_unit_test(hostile_lengths),
		cmocka_unit_test(hostile_values),
		cmocka_unit_test(writing_checks_too),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
