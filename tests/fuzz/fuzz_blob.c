/* SPDX-License-Identifier: MIT */
/*
 * The blob's structure: the input is a list of edits to the tree of a real blob (nodes and properties
 * inserted, removed, renamed, resized, cells and raw bytes changed), after which the checksum is made
 * right. What is not refused then has a guest that does anything.
 */
#include "tests/fuzz/machine.h"
#include "tests/unit/blob.h"

#define ROOM	  (128 * KIB)
#define MAX_EDITS 16
#define MAX_POKES 8

#define NODE_VFIO "vfio@" BDF

static const char *const names[] = {
	"fds",	"names",   "numbers",	"identities", "class",	 "version",    "optional",
	"ram",	"cpu@0",   "cpu@1",	"pci-host",   "program", "compatible", "build-id",
	"args", "pci-x@0", "testdev@0", "a",	      "console", NODE_VFIO,    "ring",
	"in",	"gpa",	   "m.gsi",	"msix.table", "msi.gsi", "pci.config", "program-version",
};

static int any_node(const void *fdt, struct input *in)
{
	unsigned left = input_u8(in) % 20;
	int node = 0, at = 0;
	for (int next = 0; left && (next = fdt_next_node(fdt, at, NULL)) >= 0; left--)
		node = at = next;
	return node;
}

static const char *any_property(const void *fdt, int node, struct input *in, int *len)
{
	unsigned left = input_u8(in) % 24;
	const char *name = NULL;
	int at;
	*len = 0;
	fdt_for_each_property_offset(at, fdt, node) {
		const struct fdt_property *p = fdt_get_property_by_offset(fdt, at, len);
		name = p ? fdt_string(fdt, (int)fdt32_ld(&p->nameoff)) : NULL;
		if (!left--)
			break;
	}
	return name;
}

static const char *any_name(struct input *in)
{
	return names[input_below(in, ARRAY_LEN(names))];
}

/* Another value: a cell, a new length, a whole new value. */
static void edit_value(void *fdt, int node, struct input *in)
{
	int len;
	static uint8_t value[4096];
	const char *name = any_property(fdt, node, in, &len);
	if (!name)
		return;
	char copy[64]; /* the tree moves under its own strings */
	snprintf(copy, sizeof(copy), "%s", name);
	uint8_t *p = fdt_getprop_w(fdt, node, copy, &len);
	unsigned kind = input_u8(in);
	if (kind < 128 && p && len >= 4) {
		unsigned at = input_below(in, (unsigned)len / 4) * 4;
		fdt32_st(p + at, (uint32_t)input_num(in, 1 + kind % 4));
	} else if (kind < 200) {
		int now = (int)input_below(in, (unsigned)len + 17);
		int keep = now < len ? now : len;
		if (!p || now > (int)sizeof(value))
			return;
		memset(value, (int)kind, sizeof(value));
		memcpy(value, p, (size_t)keep);
		fdt_setprop(fdt, node, copy, value, now);
	} else {
		unsigned n = input_below(in, 64);
		input_bytes(in, value, n);
		fdt_setprop(fdt, node, copy, value, (int)n);
	}
}

static void edit_tree(void *fdt, struct input *in)
{
	int node = any_node(fdt, in), len;
	const char *name;
	char copy[64];
	switch (input_below(in, 9)) {
	default:
		edit_value(fdt, node, in);
		break;
	case 3:
		name = any_property(fdt, node, in, &len);
		snprintf(copy, sizeof(copy), "%s", name ? name : "");
		fdt_delprop(fdt, node, copy);
		break;
	case 4:
		if (input_u8(in) & 1)
			fdt_del_node(fdt, node);
		else
			fdt_nop_node(fdt, node);
		break;
	case 5:
		node = fdt_add_subnode(fdt, node, any_name(in));
		if (node >= 0 && input_u8(in) & 1)
			fdt_setprop(fdt, node, "optional", NULL, 0);
		break;
	case 6:
		fdt_set_name(fdt, node, any_name(in));
		break;
	case 7:
		fdt_setprop(fdt, node, any_name(in), "some value", (int)input_below(in, 11));
		break;
	case 8: /* the same name twice, as no writer of trees makes it */
		name = fdt_get_name(fdt, node, &len);
		snprintf(copy, sizeof(copy), "%s", name ? name : "");
		fdt_add_subnode_namelen(fdt, 0, copy, (int)strlen(copy) - (len > 1));
		break;
	}
}

/* Trees before version 16 are laid out otherwise, and libfdt reads them. */
static void age(uint8_t *blob, size_t len, struct input *in)
{
	fdt_set_version(blob, input_below(in, 18));
	fdt_set_last_comp_version(blob, 2);
	if (input_u8(in) & 1 && fdt_off_dt_struct(blob) < len - BLOB_TRAILER_LEN - 4)
		blob[fdt_off_dt_struct(blob) + 4] = '/'; /* the root's name */
}

/* Bytes of the header and of the structure, as no writer of trees makes them. */
static void poke(uint8_t *blob, size_t len, struct input *in)
{
	unsigned kind = input_u8(in);
	size_t at = kind < 96 ? kind % 10 * 4
			      : fdt_off_dt_struct(blob) + input_below(in, fdt_size_dt_struct(blob));
	if (at > len - BLOB_TRAILER_LEN - 4)
		return;
	if (kind & 1)
		fdt32_st(blob + at, (uint32_t)input_num(in, 2));
	else
		blob[at + (kind >> 1) % 4] = (uint8_t)input_u8(in);
}

static size_t edited(const struct fake_blob *base, struct input *in, uint8_t *out)
{
	fuzz_expect(!fdt_open_into(base->data, out, ROOM - 64), "no room");
	unsigned edits = input_u8(in) % MAX_EDITS, pokes = input_u8(in) % MAX_POKES;
	for (unsigned i = 0; i < edits; i++)
		edit_tree(out, in);
	fdt_pack(out);
	size_t len = blob_seal(out);
	for (unsigned i = 0; i < pokes; i++)
		poke(out, len, in);
	if (input_u8(in) == 0xff)
		age(out, len, in);
	blob_sign(out, len);
	return len;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint64_t room[ROOM / 8];
	struct input in = {data, size};
	struct error err;
	int rc;
	const struct paused *p = fuzz_paused(input_u8(&in));
	size_t len = edited(&p->blob, &in, (uint8_t *)room);
	if (input_u8(&in) == 0xff)
		len = input_below(&in, (unsigned)len);
	uint8_t *exact = malloc(len + 1); /* so that a read beyond its end is seen */
	memcpy(exact, room, len);
	struct machine *m = fuzz_take_over(exact, len, &rc, &err);
	free(exact); /* nothing may point into it any more */
	if (!rc)
		m = fuzz_update(fuzz_guest(m, &in));
	fuzz_end(m, p);
	return 0;
}
