/* SPDX-License-Identifier: MIT */
/* Schemas: of a blob, as text to and fro, as JSON, and what an update would make of one. */
#include "cpr/state/schema.h"

#include <ctype.h>
#include <inttypes.h>
#include <libfdt.h>

#include "cpr/state/dump.h"

void schema_name(char *to, size_t size, const char *from)
{
	size_t n = 0;
	for (; *from && n + 1 < size; from++)
		to[n++] = (char)(isalnum((unsigned char)*from) || strchr(",._+*#@-", *from) ? *from
											    : '?');
	to[n] = 0;
}

static int add_node(struct schema *s, const void *fdt, int node, const char *name,
		    struct error *err)
{
	if (s->n == SCHEMA_MAX_CLASSES)
		return error_set(err, E2BIG, "state: more than %d nodes", SCHEMA_MAX_CLASSES);
	struct schema_class *c = &s->classes[s->n];
	int prop, len;
	const char *cls = state_string(fdt, node, "class");

	*c = (struct schema_class){.version = state_number(fdt, node, "version"),
				   .needs = state_number(fdt, node, "needs"),
				   .optional = fdt_getprop(fdt, node, "optional", NULL),
				   .always = true};
	schema_name(c->node, sizeof(c->node), name);
	if (!cls)
		return error_set(err, EBADMSG, "state %s: a node without a class", c->node);
	schema_name(c->name, sizeof(c->name), cls);
	fdt_for_each_property_offset(prop, fdt, node) {
		const char *field;
		fdt_getprop_by_offset(fdt, prop, &field, &len);
		if (state_is_header(field))
			continue;
		if (c->nfields == SCHEMA_MAX_FIELDS)
			return error_set(err, E2BIG, "state %s: more than %d fields", c->node,
					 SCHEMA_MAX_FIELDS);
		struct schema_field *f = &c->fields[c->nfields++];
		*f = (struct schema_field){.type = FIELD_OPAQUE, .size = (uint32_t)len, .count = 1};
		schema_name(f->name, sizeof(f->name), field);
	}
	s->n++;
	return 0;
}

int schema_of_blob(struct schema *s, const struct state_blob *blob, struct error *err)
{
	memset(s, 0, sizeof(*s));
	s->is_blob = true;
	memcpy(s->version, blob->header.version, sizeof(s->version));
	memcpy(s->build_id, blob->header.build_id, sizeof(s->build_id));
	for (unsigned i = 0; i < blob->n; i++) {
		if (!strcmp(blob->nodes[i].name, "fds"))
			continue;
		int rc = add_node(s, blob->fdt, blob->nodes[i].node, blob->nodes[i].name, err);
		if (rc)
			return rc;
	}
	return 0;
}

const struct schema_class *schema_find(const struct schema *s, const char *class_name)
{
	for (unsigned i = 0; i < s->n; i++)
		if (!strcmp(s->classes[i].name, class_name))
			return &s->classes[i];
	return NULL;
}

const struct schema_field *schema_field_find(const struct schema_class *c, const char *name)
{
	for (unsigned i = 0; i < c->nfields; i++)
		if (!strcmp(c->fields[i].name, name))
			return &c->fields[i];
	return NULL;
}

/* ---- text and JSON ---- */

const char *schema_type_text(const struct schema_field *f, char *buf)
{
	static const char *const names[] = {
		[FIELD_UINT] = "u", [FIELD_OPAQUE] = "bytes:", [FIELD_STRING] = "string:"};
	snprintf(buf, SCHEMA_TYPE_LEN, "%s%u", names[f->type],
		 f->type == FIELD_UINT ? f->size * 8 : f->size);
	return buf;
}

void schema_print(const struct schema *s, FILE *out)
{
	char type[SCHEMA_TYPE_LEN];
	fprintf(out, "schema %s %s %s\n", STATE_COMPATIBLE, s->version,
		s->build_id[0] ? s->build_id : "-");
	for (unsigned i = 0; i < s->n; i++) {
		const struct schema_class *c = &s->classes[i];
		fprintf(out, "class %s version %u needs %u%s%s\n", c->name, c->version, c->needs,
			c->always ? " always" : "", c->optional ? " optional" : "");
		for (unsigned k = 0; k < c->nfields; k++) {
			const struct schema_field *f = &c->fields[k];
			fprintf(out, "  %s %s %s%u since %u ", f->name, schema_type_text(f, type),
				f->counted ? "0.." : "", f->count, f->since);
			if (f->required)
				fprintf(out, "required\n");
			else
				fprintf(out, "default 0x%lx\n", f->def);
		}
	}
}

void schema_print_json(const struct schema *s, FILE *out)
{
	char type[SCHEMA_TYPE_LEN];
	fprintf(out, "{\"format\":\"%s\",\"version\":", STATE_COMPATIBLE);
	dump_json_string(out, s->version, strlen(s->version));
	fprintf(out, ",\"build\":");
	dump_json_string(out, s->build_id, strlen(s->build_id));
	fprintf(out, ",\"classes\":[");
	for (unsigned i = 0; i < s->n; i++) {
		const struct schema_class *c = &s->classes[i];
		fprintf(out, "%s{\"class\":", i ? "," : "");
		dump_json_string(out, c->name, strlen(c->name));
		fprintf(out,
			",\"version\":%u,\"needs\":%u,\"always\":%s,\"optional\":%s,\"fields\":[",
			c->version, c->needs, c->always ? "true" : "false",
			c->optional ? "true" : "false");
		for (unsigned k = 0; k < c->nfields; k++) {
			const struct schema_field *f = &c->fields[k];
			fprintf(out, "%s{\"name\":", k ? "," : "");
			dump_json_string(out, f->name, strlen(f->name));
			fprintf(out,
				",\"type\":\"%s\",\"count\":%u,\"counted\":%s,\"since\":%u,"
				"\"required\":%s",
				schema_type_text(f, type), f->count, f->counted ? "true" : "false",
				f->since, f->required ? "true" : "false");
			if (!f->required)
				fprintf(out, ",\"default\":%lu", f->def);
			fprintf(out, "}");
		}
		fprintf(out, "]}");
	}
	fprintf(out, "]}\n");
}

/* ---- reading: a line is refused unless it is exactly what schema_print writes ---- */

static bool parse_type(struct schema_field *f, const char *text)
{
	char again[SCHEMA_TYPE_LEN];
	unsigned n;
	if (sscanf(text, "u%u", &n) == 1 && (n == 8 || n == 16 || n == 32 || n == 64))
		*f = (struct schema_field){.type = FIELD_UINT, .size = n / 8};
	else if (sscanf(text, "bytes:%u", &n) == 1)
		*f = (struct schema_field){.type = FIELD_OPAQUE, .size = n};
	else if (sscanf(text, "string:%u", &n) == 1)
		*f = (struct schema_field){.type = FIELD_STRING, .size = n};
	else
		return false;
	return n && n < 1u << 24 && !strcmp(schema_type_text(f, again), text);
}

static bool parse_field(struct schema_class *c, const char *line)
{
	char name[SCHEMA_NAME_LEN], type[SCHEMA_TYPE_LEN], count[16], rule[16];
	struct schema_field *f = &c->fields[c->nfields];
	unsigned since;
	int end = 0;

	if (c->nfields == SCHEMA_MAX_FIELDS ||
	    sscanf(line, " %47s %23s %15s since %u %15s%n", name, type, count, &since, rule,
		   &end) != 5 ||
	    !parse_type(f, type))
		return false;
	f->counted = !strncmp(count, "0..", 3);
	if (sscanf(count + (f->counted ? 3 : 0), "%u", &f->count) != 1 || f->count >= 1u << 24)
		return false;
	f->required = !strcmp(rule, "required");
	if (!f->required &&
	    (strcmp(rule, "default") || sscanf(line + end, "%" SCNx64, &f->def) != 1))
		return false;
	f->since = since;
	schema_name(f->name, sizeof(f->name), name);
	c->nfields++;
	return true;
}

static bool parse_class(struct schema *s, const char *line)
{
	struct schema_class *c = &s->classes[s->n];
	int end = 0;
	if (s->n == SCHEMA_MAX_CLASSES)
		return false;
	char name[SCHEMA_NAME_LEN];
	*c = (struct schema_class){0};
	if (sscanf(line, "class %47s version %u needs %u%n", name, &c->version, &c->needs, &end) !=
	    3)
		return false;
	schema_name(c->name, sizeof(c->name), name);
	schema_name(c->node, sizeof(c->node), name);
	c->always = strstr(line + end, " always");
	c->optional = strstr(line + end, " optional");
	s->n++;
	return true;
}

int schema_parse(struct schema *s, char *text, struct error *err)
{
	unsigned number = 0;
	char format[48], version[64], build[48];

	memset(s, 0, sizeof(*s));
	for (char *line; (line = strsep(&text, "\n"));) {
		bool good = true;
		if (!number++) {
			good = sscanf(line, "schema %47s %63s %47s", format, version, build) == 3;
			if (good && strcmp(format, STATE_COMPATIBLE))
				return error_set(err, EPROTO, "format %s, this program reads %s",
						 format, STATE_COMPATIBLE);
			schema_name(s->version, sizeof(s->version), good ? version : "");
			schema_name(s->build_id, sizeof(s->build_id), good ? build : "");
		} else if (line[0] == ' ') {
			good = s->n && parse_field(&s->classes[s->n - 1], line);
		} else if (line[0]) {
			good = parse_class(s, line);
		}
		if (!good)
			return error_set(err, EBADMSG, "line %u is no line of a schema: '%.60s'",
					 number, line);
	}
	if (!s->n)
		return error_set(err, EBADMSG, "a schema without classes");
	return 0;
}

/* ---- what a program would make of a state: the rules of ARCHITECTURE.md, without running anything
 * ---- */

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

/* Checks the shortest and the longest that @from may save, in elements of the same kind. */
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

/* A node or class that both have. */
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
