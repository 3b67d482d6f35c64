/* SPDX-License-Identifier: MIT */
/* A blob shown: as text, as JSON, and as source that dtc compiles to an equal tree. */
#include "tests/unit/unit.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include "cpr/state/dump.h"
#include "cpr/state/schema.h"
#include "tests/unit/blob.h"
#include "tests/unit/tree.h"

struct gadget {
	uint8_t small;
	uint8_t pad[3];
	uint32_t n;
	uint64_t list[12];
	uint8_t page[37];
	char text[24];
};

static const struct field gadget_fields[] = {
	FIELD_U(struct gadget, small),
	FIELD_ARRAY_LEN(struct gadget, list, n),
	FIELD_RAW(struct gadget, page),
	FIELD_STR(struct gadget, text),
};
static STATE_CLASS(gadget_class, "gadget", 4, struct gadget, gadget_fields, .needs = 2);
static STATE_CLASS(other_class, "other", 1, struct gadget, gadget_fields, .optional = true);

static struct gadget full = {
	.small = 200,
	.n = 10,
	.list = {1, UINT64_MAX, 3, 4, 5, 6, 7, 8, 9, 10},
	.page = {1, 2, 3, [36] = 0xff},
	.text = "a \"b\" \\ c",
};
static struct gadget empty = {.text = ""};

static uint64_t buf[1024];
static size_t len;
static struct state_blob blob;
static struct schema known;

static int setup(void **state)
{
	static const struct state_header header = {"1.2.3", "abcdef"};
	static struct state_tree tree;
	static struct fdset fds;
	struct state_section s[] = {
		{.node = "gadget@1,2.3", .cls = &gadget_class, .state = &full},
		{.node = "gadget@2", .cls = &gadget_class, .state = &empty},
		{.node = "other", .cls = &other_class, .state = &full},
	};
	struct error err = {0};
	tree.n = 0;
	for (unsigned i = 0; i < ARRAY_LEN(s); i++)
		state_register(&tree, &s[i], NULL);
	if (!fds.n)
		fdset_keep(&fds, "some:thing", dup(STDERR_FILENO), NULL);
	assert_int_equal(state_save(&tree, &fds, &header, buf, sizeof(buf), &len, &err), 0);
	assert_int_equal(state_open(&blob, buf, len, &err), 0);

	char text[] = "schema molt,state-1 1.2.3 ab\nclass gadget version 4 needs 2\n"
		      "  small u8 1 since 1 required\n  list u64 0..12 since 1 required\n"
		      "  page bytes:37 1 since 1 required\n  text string:24 1 since 1 required\n";
	assert_int_equal(schema_parse(&known, text, &err), 0);
	return 0;
}

static char *dumped(void (*dump)(const struct state_blob *b, const struct schema *known, FILE *out))
{
	char *text;
	size_t n;
	FILE *out = open_memstream(&text, &n);
	dump(&blob, &known, out);
	fclose(out);
	return text;
}

static void as_text(void **state)
{
	char *text = dumped(dump_text);
	static const char *const lines[] = {
		"state molt,state-1 of molt 1.2.3, build abcdef, ",
		"\n  \"some:thing\" ",
		("\ngadget@1,2.3: class gadget version 4 needs 2\n  small 0xc8\n"
		 "  list 0x1 0xffffffffffffffff 0x3 0x4 0x5 0x6 0x7 0x8 ... (10)\n"
		 "  page 010203000000000000000000000000000000000000000000... (37 bytes)\n"
		 "  text \"a \\\"b\\\" \\\\ c\"\n"),
		"\ngadget@2: class gadget version 4 needs 2\n  small 0x0\n  list\n",
		("\nother: class other version 1 optional\n"
		 "  small 000000c8 (unknown to this program)\n"),
	};
	for (unsigned i = 0; i < ARRAY_LEN(lines); i++)
		if (!strstr(text, lines[i]))
			fail_msg("no '%s' in %s", lines[i], text);
	free(text);
}

static void as_json(void **state)
{
	char *text = dumped(dump_json);
	static const char *const parts[] = {
		"{\"format\":\"molt,state-1\",\"version\":\"1.2.3\",\"build\":\"abcdef\",\"nodes\":"
		"[",
		"{\"node\":\"fds\",\"class\":\"\",\"version\":0,\"needs\":0,\"optional\":false,"
		"\"descriptors\":{\"some:thing\":",
		",{\"node\":\"gadget@1,2.3\",\"class\":\"gadget\",\"version\":4,\"needs\":2,"
		"\"optional\":false,\"fields\":{\"small\":200,\"list\":[1,18446744073709551615,3,4,"
		"5,6,7,8,9,10],\"page\":\"01020300",
		"00ff\",\"text\":\"a \\\"b\\\" \\\\ c\"}}",
		"\"fields\":{\"small\":0,\"list\":[],\"page\":\"00",
		"\"optional\":true,\"fields\":{\"small\":\"000000c8\",",
		"\"}}]}\n",
	};
	for (unsigned i = 0; i < ARRAY_LEN(parts); i++)
		if (!strstr(text, parts[i]))
			fail_msg("no '%s' in %s", parts[i], text);
	free(text);
}

/* Cells, bytes, strings and nothing, all as they were. */
static void source_compiles_to_an_equal_tree(void **state)
{
	char dir[] = "/tmp/molt-dump.XXXXXX", dts[64], dtb[64], command[256];
	static uint64_t again[2048];
	assert_non_null(mkdtemp(dir));
	snprintf(dts, sizeof(dts), "%s/a.dts", dir);
	snprintf(dtb, sizeof(dtb), "%s/a.dtb", dir);
	FILE *out = fopen(dts, "w");
	dump_dts(blob.fdt, out);
	fclose(out);
	snprintf(command, sizeof(command), "dtc -q -I dts -O dtb -o %s %s", dtb, dts);
	assert_int_equal(system(command), 0);
	FILE *in = fopen(dtb, "r");
	assert_non_null(in);
	size_t n = fread(again, 1, sizeof(again), in);
	fclose(in);
	unlink(dts);
	unlink(dtb);
	rmdir(dir);
	assert_int_equal(fdt_check_full(again, n), 0);
	tree_assert_equal(blob.fdt, again);
}

/* What a stranger's file holds may not reach the terminal as it is. */
static void hostile_names(void **state)
{
	struct error err;
	blob_begin(buf, sizeof(buf) - BLOB_TRAILER_LEN - 8);
	fdt_begin_node(buf, "\033]0;x\007");
	fdt_property(buf, "class", "no end", 6);
	fdt_property_string(buf, "\033c", "\033c");
	fdt_property(buf, "needs", "x", 1);
	fdt_end_node(buf);
	fdt_begin_node(buf, "fds");
	fdt_property(buf, "names", "a\0b\0c", 5);
	fdt_property(buf, "numbers", "12345678", 8);
	fdt_end_node(buf);
	assert_int_equal(state_open(&blob, buf, blob_end(buf), &err), 0);
	char *text;
	size_t n;
	FILE *out = open_memstream(&text, &n);
	dump_text(&blob, &known, out);
	dump_json(&blob, &known, out);
	dump_dts(blob.fdt, out);
	fclose(out);
	for (size_t i = 0; i < n; i++)
		assert_true((text[i] >= 0x20 && text[i] <= 0x7e) || strchr("\n\t", text[i]));
	assert_non_null(strstr(text, "??0?x?: class ? version 0\n"));
	free(text);
	assert_int_equal(schema_of_blob(&known, &blob, &err), -EBADMSG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(as_text, setup),
		cmocka_unit_test_setup(as_json, setup),
		cmocka_unit_test_setup(source_compiles_to_an_equal_tree, setup),
		cmocka_unit_test_setup(hostile_names, setup),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
