/* SPDX-License-Identifier: MIT */
/*
 * Every class of state with fields of any value: a blob that is well-formed, and means anything. What
 * is not refused then has a guest that does anything.
 */
#include "tests/fuzz/machine.h"

#define MAX_EDITS 8

/* The element of @size bytes at @at becomes what the input says. */
static void value_edit(struct input *in, uint8_t *at, uint32_t size)
{
	static const uint64_t edges[] = {0,	     1,		 2,	      0x7f,
					 0xff,	     0xffff,	 0x7fffffff,  ~0u,
					 1ull << 32, ~0ull >> 1, ~0ull,	      0xfee00000,
					 FAKE_ECAM,  4 * GIB,	 ~0ull << 12, FAKE_MMIO64};
	unsigned kind = input_u8(in);
	if (kind < 128)
		store_le(at, edges[kind % ARRAY_LEN(edges)], size);
	else if (kind < 192)
		at[input_below(in, size)] ^= (uint8_t)(1u << (kind & 7));
	else
		input_bytes(in, at, size < 64 ? size : 64);
}

static void field_edit(struct input *in, const struct field *f, uint8_t *state)
{
	uint32_t count = f->count;
	if (f->len_offset != FIELD_FIXED) {
		memcpy(&count, state + f->len_offset, sizeof(count));
		if (input_u8(in) & 1) {
			count = input_below(in, f->count + 1);
			memcpy(state + f->len_offset, &count, sizeof(count));
		}
	}
	if (f->type == FIELD_STRING) {
		value_edit(in, state + f->offset, 8);
		state[f->offset + f->size - 1] = 0;
		return;
	}
	/* Large raw fields (config space, an interrupt controller) are edited byte by byte. */
	bool raw = f->type == FIELD_OPAQUE && f->size > 8;
	if (!count)
		return;
	uint8_t *at = state + f->offset + (size_t)f->size * input_below(in, count);
	value_edit(in, raw ? at + input_below(in, f->size - 7) : at, raw ? 8 : f->size);
}

/* The blob of @m with edited fields; the states of @m stay as they were. */
static struct fake_blob edited(struct machine *m, struct input *in)
{
	static struct state_tree tree;
	static const struct state_header header = {"fuzz", "00"};
	static uint8_t *before[STATE_MAX_SECTIONS];
	struct fake_blob b = {.data = aligned_alloc(8, 256 * KIB)};
	struct error err = {0};
	tree = m->tree;
	for (unsigned i = 0; i < tree.n; i++) {
		struct state_section *s = &tree.sections[i];
		s->pre_save = NULL; /* would put the live values back */
		if (!before[i])
			before[i] = malloc(s->cls->size);
		memcpy(before[i], s->state, s->cls->size);
	}
	unsigned edits = input_u8(in) % MAX_EDITS;
	for (unsigned i = 0; i < edits; i++) {
		const struct state_section *s = &tree.sections[input_below(in, tree.n)];
		field_edit(in, &s->cls->fields[input_below(in, s->cls->nfields)], s->state);
	}
	int rc = state_save(&tree, &m->fds, &header, b.data, 256 * KIB, &b.len, &err);
	fuzz_expect(!rc, "%s", err.text);
	for (unsigned i = 0; i < tree.n; i++)
		memcpy(tree.sections[i].state, before[i], tree.sections[i].cls->size);
	return b;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct input in = {data, len};
	struct error err;
	int rc;
	const struct paused *p = fuzz_paused(input_u8(&in));
	static struct program pristine;
	if (!pristine.args_len)
		pristine = fuzz_program;
	fuzz_program = pristine; /* one for all machines: the last one's */
	struct fake_blob blob = edited(p->m, &in);
	struct machine *m = fuzz_take_over(blob.data, blob.len, &rc, &err);
	if (!rc) {
		m = fuzz_guest(m, &in);
		m = fuzz_update(m);
	}
	fuzz_end(m, p);
	free(blob.data);
	return 0;
}
