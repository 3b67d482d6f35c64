/* SPDX-License-Identifier: MIT */
/* What a program would make of another's state, or of one blob: the rules of state.h and fields.h,
 * applied to what is known without running anything. */

#include "cpr/state/schema.h"

/* Bytes of one element in the tree. */
static uint64_t unit_len(const struct schema_field *f)
{
	return f->type == FIELD_UINT && f->size < 4 ? 4 : f->size;
}

/* Would a property of @len bytes be read as @f? (fields.c, read_field) */
static bool fits(const struct schema_field *f, uint64_t len)
{
	uint64_t unit = unit_len(f);
	if (f->type == FIELD_STRING)
		return len >= 1 && len <= unit;
	return f->counted ? len % unit == 0 && len <= f->count * unit : len == f->count * unit;
}

/* Whatever @from may save: its shortest and its longest, in elements of the same kind. */
static bool all_fit(const struct schema *s, const struct schema_field *from,
		    const struct schema_field *to)
{
	uint64_t longest = from->count * unit_len(from);
	if (s->is_blob || from->type == FIELD_STRING)
		return fits(to, longest);
	if (from->type == FIELD_UINT && to->type == FIELD_UINT && from->size > to->size)
		return false;
	return fits(to, longest) && unit_len(from) == unit_len(to) &&
	       (!from->counted || fits(to, 0));
}

static void diff_field(const struct schema *s, const struct schema_field *from,
		       const struct schema_field *to, struct schema_verdict *v, FILE *out)
{
	char a[SCHEMA_TYPE_LEN], b[SCHEMA_TYPE_LEN];
	schema_type_text(from, a);
	schema_type_text(to, b);
	if (all_fit(s, from, to)) {
		v->taken++;
		fprintf(out, "  %-24s taken as is%s%s\n", to->name,
			s->is_blob || !strcmp(a, b) ? "" : ", now of type ",
			s->is_blob || !strcmp(a, b) ? "" : b);
		return;
	}
	v->refused++;
	fprintf(out, "  %-24s REFUSED: %s %s%u does not fit %s %s%u\n", to->name, a,
		from->counted ? "0.." : "", from->count, b, to->counted ? "0.." : "", to->count);
}

static void missing_field(const struct schema_field *to, struct schema_verdict *v, FILE *out)
{
	if (to->required) {
		v->refused++;
		fprintf(out, "  %-24s REFUSED: missing, and required since version %u\n", to->name,
			to->since);
	} else {
		v->defaults++;
		fprintf(out, "  %-24s default 0x%lx\n", to->name, to->def);
	}
}

/* A node or class of both. */
static void diff_class(const struct schema *s, const struct schema_class *from,
		       const struct schema_class *to, struct schema_verdict *v, FILE *out)
{
	fprintf(out, "%s: version %u -> %u%s\n", from->node, from->version, to->version,
		from->always ? "" : ", of machines that have one");
	if (from->needs > to->version) {
		v->refused++;
		fprintf(out, "  REFUSED: needs version %u\n", from->needs);
		return;
	}
	for (unsigned i = 0; i < to->nfields; i++) {
		const struct schema_field *f = schema_field_find(from, to->fields[i].name);
		if (f)
			diff_field(s, f, &to->fields[i], v, out);
		else
			missing_field(&to->fields[i], v, out);
	}
	for (unsigned i = 0; i < from->nfields; i++) {
		if (schema_field_find(to, from->fields[i].name))
			continue;
		v->ignored++;
		fprintf(out, "  %-24s ignored\n", from->fields[i].name);
	}
}

static void unknown_class(const struct schema_class *from, struct schema_verdict *v, FILE *out)
{
	fprintf(out, "%s: ", from->node);
	if (from->optional) {
		v->ignored++;
		fprintf(out, "ignored: unknown and optional\n");
		return;
	}
	v->refused++;
	fprintf(out, "REFUSED: unknown%s\n",
		from->always ? "" : ", so machines that have one cannot be updated");
}

/* Every machine of @to has one; those of @from have none. */
static void new_class(const struct schema_class *to, struct schema_verdict *v, FILE *out)
{
	unsigned required = 0;
	for (unsigned i = 0; i < to->nfields; i++)
		required += to->fields[i].required;
	if (required) {
		v->refused++;
		fprintf(out, "%s: REFUSED: missing\n", to->node);
		return;
	}
	fprintf(out, "%s: new\n", to->node);
	for (unsigned i = 0; i < to->nfields; i++)
		missing_field(&to->fields[i], v, out);
}

struct schema_verdict schema_diff(const struct schema *from, const struct schema *to, FILE *out)
{
	struct schema_verdict v = {0};
	for (unsigned i = 0; i < from->n; i++) {
		const struct schema_class *c = schema_find(to, from->classes[i].name);
		if (c)
			diff_class(from, &from->classes[i], c, &v, out);
		else
			unknown_class(&from->classes[i], &v, out);
	}
	for (unsigned i = 0; i < to->n; i++)
		if (to->classes[i].always && !schema_find(from, to->classes[i].name))
			new_class(&to->classes[i], &v, out);
	fprintf(out, "%s -> %s: %u taken, %u by default, %u ignored, %u refused\n", from->version,
		to->version, v.taken, v.defaults, v.ignored, v.refused);
	return v;
}
