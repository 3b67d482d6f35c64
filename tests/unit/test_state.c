/* SPDX-License-Identifier: MIT */
/* The blob: round trip, every truncation, every changed byte, nodes too many and too few. */
#include "tests/unit/unit.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include "tests/unit/blob.h"
#include "vmm/base/pool.h"

struct gadget {
	uint32_t number;
	uint32_t n;
	uint64_t list[4];
	uint8_t page[64];
	char text[16];
};

static const struct field gadget_fields[] = {
	FIELD_U(struct gadget, number),
	FIELD_ARRAY_LEN(struct gadget, list, n),
	FIELD_RAW(struct gadget, page),
	FIELD_STR(struct gadget, text),
};
static STATE_CLASS(gadget_class, "gadget", 1, struct gadget, gadget_fields);
static STATE_CLASS(other_class, "other", 1, struct gadget, gadget_fields);
static STATE_CLASS(optional_class, "gadget", 1, struct gadget, gadget_fields, .optional = true);
static STATE_CLASS(newer_class, "gadget", 3, struct gadget, gadget_fields, .needs = 2);

/* Nothing of it is required. */
struct trinket {
	uint32_t shine;
	uint32_t weight;
};

static const struct field trinket_fields[] = {
	FIELD_U_SINCE(struct trinket, shine, 1, 7),
	FIELD_U_SINCE(struct trinket, weight, 1, 0),
};
static STATE_CLASS(trinket_class, "trinket", 1, struct trinket, trinket_fields);

static struct gadget one = {1, 3, {10, 20, 30}, {1, 2, 3}, "first"};
static struct gadget two = {2, 0, {0}, {9}, "second"};
static const struct state_header header = {"1.2.3", "abcdef"};
static uint64_t buf[1024];
static size_t len;
static struct fdset fds;
static struct state_tree tree;

static int add(struct state_tree *t, const char *node, const struct state_class *cls, void *data)
{
	struct state_section s = {.cls = cls, .state = data};
	strcpy(s.node, node);
	return state_register(t, &s, NULL);
}

static int setup(void **state)
{
	tree.n = 0;
	add(&tree, "gadget@1", &gadget_class, &one);
	add(&tree, "gadget@2", &gadget_class, &two);
	if (!fds.n)
		fdset_keep(&fds, "something", dup(STDERR_FILENO), NULL);
	return state_save(&tree, &fds, &header, buf, sizeof(buf), &len, NULL);
}

static int open_and_load(const void *data, size_t n, struct error *err)
{
	static struct gadget a, b;
	struct state_blob blob;
	struct state_tree t = {.n = 0};
	add(&t, "gadget@1", &gadget_class, &a);
	add(&t, "gadget@2", &gadget_class, &b);
	int rc = state_open(&blob, data, n, err);
	if (!rc)
		rc = state_claim(&blob, "fds") < 0 ? -ENOENT : 0;
	return rc ? rc : state_load(&blob, &t, err);
}

static void round_trip(void **state)
{
	struct gadget a = {0}, b = {0}; /* what is beyond a list's end is not written */
	struct state_blob blob;
	struct state_tree t = {.n = 0};
	struct error err;
	assert_true(len <= state_size_bound(&tree, &fds));
	add(&t, "gadget@1", &gadget_class, &a);
	add(&t, "gadget@2", &gadget_class, &b);
	assert_int_equal(state_open(&blob, buf, len, &err), 0);
	assert_string_equal(blob.header.version, "1.2.3");
	assert_string_equal(blob.header.build_id, "abcdef");
	assert_true(state_claim(&blob, "fds") > 0);
	assert_int_equal(state_load(&blob, &t, &err), 0);
	assert_memory_equal(&a, &one, sizeof(a));
	assert_memory_equal(&b, &two, sizeof(b));
	/* More after the trailer is nobody's business: a memfd comes in pages. */
	assert_int_equal(open_and_load(buf, sizeof(buf), &err), 0);
}

/* Room is found by the bound, whatever the contents. */
static void size_bound_is_enough(void **state)
{
	size_t bound = state_size_bound(&tree, &fds), n;
	struct gadget most = {UINT32_MAX, 4, {1, 2, 3, 4}, {0}, "fifteen letters"};
	struct state_tree t = {.n = 0};
	char node[STATE_NODE_LEN];
	for (int i = 0; i < 100; i++) {
		snprintf(node, sizeof(node), "gadget@a-rather-long-name-of-a-node-%08d", i);
		add(&t, node, &optional_class, &most);
	}
	bound = state_size_bound(&t, &fds);
	void *p = malloc(bound);
	assert_int_equal(state_save(&t, &fds, &header, p, bound, &n, NULL), 0);
	free(p);
}

/* A copy of exactly @n bytes, so that ASan sees a read beyond it. */
static int load_exact(const void *data, size_t n, struct error *err)
{
	void *p = malloc(n ? n : 1);
	memcpy(p, data, n);
	int rc = open_and_load(p, n, err);
	free(p);
	return rc;
}

static int hook_calls, hook_rc;
static int counting_hook(void *opaque, struct error *err)
{
	hook_calls++;
	return 0;
}

static void truncated_at_every_byte(void **state)
{
	for (size_t n = 0; n < len; n++) {
		struct error err = {0};
		assert_int_equal(load_exact(buf, n, &err), -EBADMSG);
		assert_int_not_equal(err.text[0], 0);
	}
}

static void every_byte_changed_is_seen(void **state)
{
	for (size_t i = 0; i < len; i++) {
		for (int bit = 0; bit < 8; bit++) {
			struct error err;
			((uint8_t *)buf)[i] ^= 1 << bit;
			assert_int_not_equal(load_exact(buf, len, &err), 0);
			((uint8_t *)buf)[i] ^= 1 << bit;
		}
	}
}

/* Changed by somebody who can compute the checksum: taken or refused, and never out of bounds. */
static void every_byte_changed_and_signed(void **state)
{
	static const uint8_t masks[] = {0x01, 0x80, 0xff, 0x10};
	unsigned taken = 0, refused = 0;
	for (size_t i = 0; i < len - BLOB_TRAILER_LEN; i++) {
		for (unsigned k = 0; k < ARRAY_LEN(masks); k++) {
			struct error err;
			((uint8_t *)buf)[i] ^= masks[k];
			blob_sign(buf, len);
			if (load_exact(buf, len, &err))
				refused++;
			else
				taken++;
			((uint8_t *)buf)[i] ^= masks[k];
		}
	}
	/* Both happen: payload bytes are free, structure is not. */
	assert_true(taken > 100 && refused > 100);
}

static void nodes_too_many_and_too_few(void **state)
{
	struct error err;
	struct gadget g;
	struct state_tree extra = tree, less = {.n = 0};

	add(&extra, "gadget@3", &gadget_class, &one);
	assert_int_equal(state_save(&extra, &fds, &header, buf, sizeof(buf), &len, &err), 0);
	assert_int_equal(open_and_load(buf, len, &err), -EPROTO);
	assert_non_null(strstr(err.text, "gadget@3"));

	extra.sections[2].cls = &optional_class;
	assert_int_equal(state_save(&extra, &fds, &header, buf, sizeof(buf), &len, &err), 0);
	assert_int_equal(open_and_load(buf, len, &err), 0);

	add(&less, "gadget@1", &gadget_class, &one);
	assert_int_equal(state_save(&less, &fds, &header, buf, sizeof(buf), &len, &err), 0);
	assert_int_equal(open_and_load(buf, len, &err), -ENOENT);
	assert_non_null(strstr(err.text, "gadget@2"));

	/* Nobody asked for the descriptors: not optional either. */
	struct state_blob blob;
	assert_int_equal(state_open(&blob, buf, len, &err), 0);
	less.sections[0].state = &g;
	assert_int_equal(state_load(&blob, &less, &err), -EPROTO);
}

static void a_node_of_another_class(void **state)
{
	struct error err;
	struct state_tree t = {.n = 0};
	add(&t, "gadget@1", &other_class, &one);
	add(&t, "gadget@2", &gadget_class, &two);
	assert_int_equal(state_save(&t, &fds, &header, buf, sizeof(buf), &len, &err), 0);
	assert_int_equal(open_and_load(buf, len, &err), -EPROTO);
}

static void a_missing_node_takes_defaults(void **state)
{
	struct error err;
	struct state_blob blob;
	struct trinket t = {1, 1};
	struct state_section s = {.node = "trinket", .cls = &trinket_class, .state = &t};
	s.post_load = counting_hook;
	hook_calls = 0;
	assert_int_equal(state_open(&blob, buf, len, &err), 0);
	assert_int_equal(state_load_section(&blob, &s, &err), 0);
	assert_int_equal(t.shine, 7);
	assert_int_equal(t.weight, 0);
	assert_int_equal(hook_calls, 1);
}

static void a_newer_class_says_what_it_needs(void **state)
{
	struct error err;
	struct state_blob blob;
	struct gadget g;
	struct state_class reader = newer_class;
	struct state_section s = {.node = "gadget@1", .cls = &reader, .state = &g};
	tree.sections[0].cls = &newer_class;
	assert_int_equal(state_save(&tree, &fds, &header, buf, sizeof(buf), &len, &err), 0);
	assert_int_equal(state_open(&blob, buf, len, &err), 0);
	for (reader.version = 1; reader.version <= 4; reader.version++) {
		int rc = state_load_section(&blob, &s, &err);
		assert_int_equal(rc, reader.version < 2 ? -EPROTO : 0);
	}
	reader.version = 1;
	state_load_section(&blob, &s, &err);
	assert_string_equal(err.text, "state gadget@1: needs version 2 of class gadget, this "
				      "program has 1");
	/* Newer, but it does not say that it needs anything: what is unknown is dropped. */
	reader.needs = 0;
	reader.version = 9;
	tree.sections[0].cls = &reader;
	assert_int_equal(state_save(&tree, &fds, &header, buf, sizeof(buf), &len, &err), 0);
	assert_int_equal(open_and_load(buf, len, &err), 0);
}

static void another_format(void **state)
{
	struct error err;
	blob_begin(buf, sizeof(buf) - BLOB_TRAILER_LEN - 8);
	size_t n = blob_end(buf);
	char *at = memmem(buf, n, STATE_COMPATIBLE, sizeof(STATE_COMPATIBLE));
	at[sizeof(STATE_COMPATIBLE) - 2] = '2';
	blob_sign(buf, n);
	assert_int_equal(open_and_load(buf, n, &err), -EPROTO);
	assert_non_null(strstr(err.text, "molt,state-2"));
}

/* The tree is checked as a whole, before anything is looked up in it. */
static void a_broken_end_of_the_tree(void **state)
{
	struct error err;
	uint32_t end = fdt_off_dt_struct(buf) + fdt_size_dt_struct(buf) - 4;
	fdt32_st((char *)buf + end, 7); /* instead of FDT_END */
	blob_sign(buf, len);
	assert_int_equal(open_and_load(buf, len, &err), -EBADMSG);
}

/* Before version 16 names were whole paths and values were aligned otherwise: libfdt reads such trees
 * too, and finds no name in ours. */
static void an_old_version_of_trees(void **state)
{
	struct error err;
	blob_begin(buf, sizeof(buf) - BLOB_TRAILER_LEN - 8);
	fdt_begin_node(buf, "gadget@1");
	fdt_end_node(buf);
	size_t n = blob_end(buf);
	uint8_t *root = (uint8_t *)buf + fdt_off_dt_struct(buf);
	root[4] = '/'; /* as version 15 names the root */
	fdt_set_version(buf, 15);
	fdt_set_last_comp_version(buf, 15);
	blob_sign(buf, n);
	assert_int_equal(open_and_load(buf, n, &err), -EBADMSG);
}

static void more_nodes_than_fit(void **state)
{
	static uint64_t big[16384];
	struct error err;
	char name[16];
	blob_begin(big, sizeof(big) - BLOB_TRAILER_LEN - 8);
	for (int i = 0; i < STATE_MAX_SECTIONS + 9; i++) {
		snprintf(name, sizeof(name), "n%d", i);
		fdt_begin_node(big, name);
		fdt_end_node(big);
	}
	size_t n = blob_end(big);
	assert_int_equal(open_and_load(big, n, &err), -EBADMSG);
}

static int hook(void *opaque, struct error *err)
{
	hook_calls++;
	assert_ptr_equal(opaque, &hook_calls);
	return hook_rc ? error_set(err, -hook_rc, "hook") : 0;
}

static void hooks_run_and_can_refuse(void **state)
{
	struct error err;
	struct state_blob blob;
	tree.sections[0].pre_save = tree.sections[0].post_load = hook;
	tree.sections[0].opaque = &hook_calls;
	hook_calls = hook_rc = 0;
	assert_int_equal(state_save(&tree, &fds, &header, buf, sizeof(buf), &len, &err), 0);
	assert_int_equal(hook_calls, 1);
	assert_int_equal(state_open(&blob, buf, len, &err), 0);
	state_claim(&blob, "fds");
	assert_int_equal(state_load(&blob, &tree, &err), 0);
	assert_int_equal(hook_calls, 2);
	/* What was loaded is not loaded again. */
	assert_int_equal(state_load(&blob, &tree, &err), 0);
	assert_int_equal(hook_calls, 2);
	hook_rc = -EUCLEAN;
	assert_int_equal(state_open(&blob, buf, len, &err), 0);
	assert_int_equal(state_load(&blob, &tree, &err), -EUCLEAN);
	assert_int_equal(state_save(&tree, &fds, &header, buf, sizeof(buf), &len, &err), -EUCLEAN);
}

static void registration(void **state)
{
	struct state_tree *t = calloc(1, sizeof(*t));
	char node[STATE_NODE_LEN];
	for (int i = 0; i < STATE_MAX_SECTIONS; i++) {
		snprintf(node, sizeof(node), "n%d", i);
		assert_int_equal(add(t, node, &gadget_class, &one), 0);
	}
	assert_int_equal(add(t, "n7", &gadget_class, &one), -EEXIST);
	assert_int_equal(add(t, "more", &gadget_class, &one), -ENOSPC);
	free(t);
}

static void a_buffer_that_is_too_small(void **state)
{
	for (size_t size = 0; size < len; size += 8) {
		struct error err;
		size_t n;
		void *p = malloc(size + 1);
		assert_int_equal(state_save(&tree, &fds, &header, p, size, &n, &err), -ENOSPC);
		free(p);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(round_trip, setup),
		cmocka_unit_test_setup(size_bound_is_enough, setup),
		cmocka_unit_test_setup(truncated_at_every_byte, setup),
		cmocka_unit_test_setup(every_byte_changed_is_seen, setup),
		cmocka_unit_test_setup(every_byte_changed_and_signed, setup),
		cmocka_unit_test_setup(nodes_too_many_and_too_few, setup),
		cmocka_unit_test_setup(a_node_of_another_class, setup),
		cmocka_unit_test_setup(a_missing_node_takes_defaults, setup),
		cmocka_unit_test_setup(a_newer_class_says_what_it_needs, setup),
		cmocka_unit_test_setup(another_format, setup),
		cmocka_unit_test_setup(a_broken_end_of_the_tree, setup),
		cmocka_unit_test_setup(an_old_version_of_trees, setup),
		cmocka_unit_test_setup(more_nodes_than_fit, setup),
		cmocka_unit_test_setup(hooks_run_and_can_refuse, setup),
		cmocka_unit_test_setup(registration, setup),
		cmocka_unit_test_setup(a_buffer_that_is_too_small, setup),
	};
	int rc = cmocka_run_group_tests(tests, NULL, NULL);
	pool_free(fds.e);
	return rc;
}
