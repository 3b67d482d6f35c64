/* SPDX-License-Identifier: MIT */
/* Prints a state for people to read: nodes and fields, with the names that their classes give them. */
#include "cpr/state/dump.h"

#include <ctype.h>
#include <libfdt.h>

#include "cpr/state/schema.h"

/* How much of one value the text shows. */
#define TEXT_ELEMENTS 8
#define TEXT_BYTES    24

/* A property and how it is to be read. */
struct value {
	const char *name, *data;
	uint32_t len;
	const struct schema_field *field; /* NULL: nobody knows */
};

void dump_json_string(FILE *out, const char *s, size_t len)
{
	fputc('"', out);
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)s[i];
		if (c == '"' || c == '\\')
			fprintf(out, "\\%c", c);
		else if (c < 0x20 || c > 0x7e)
			fprintf(out, "\\u%04x", c);
		else
			fputc(c, out);
	}
	fputc('"', out);
}

static bool is_uint(const struct value *v)
{
	return v->field && v->field->type == FIELD_UINT &&
	       v->len % (v->field->size == 8 ? 8 : 4) == 0;
}

static bool is_string(const struct value *v)
{
	return v->field && v->field->type == FIELD_STRING && v->len && !v->data[v->len - 1];
}

static uint64_t element(const struct value *v, uint32_t i)
{
	return v->field->size == 8 ? fdt64_ld((const void *)(v->data + (size_t)i * 8))
				   : fdt32_ld((const void *)(v->data + (size_t)i * 4));
}

static uint32_t elements(const struct value *v)
{
	return v->len / (v->field->size == 8 ? 8 : 4);
}

/* What no name may contain becomes '?': dtc would refuse the rest. */
static void print_name(const char *name, FILE *out)
{
	for (; *name; name++)
		fputc(isalnum((unsigned char)*name) || strchr(",._+*#@-", *name) ? *name : '?',
		      out);
}

static void print_bytes(const struct value *v, uint32_t max, FILE *out)
{
	for (uint32_t i = 0; i < v->len && i < max; i++)
		fprintf(out, "%02x", (uint8_t)v->data[i]);
	if (v->len > max)
		fprintf(out, "... (%u bytes)", v->len);
}

/* Calls @print for each field of @node. */
static void each_value(const struct state_blob *blob, int node, const struct schema *known,
		       void (*print)(const struct value *v, unsigned i, FILE *out), FILE *out)
{
	const char *cls = state_string(blob->fdt, node, "class");
	const struct schema_class *c = cls ? schema_find(known, cls) : NULL;
	unsigned i = 0;
	int prop, len;
	fdt_for_each_property_offset(prop, blob->fdt, node) {
		struct value v;
		v.data = fdt_getprop_by_offset(blob->fdt, prop, &v.name, &len);
		if (state_is_header(v.name))
			continue;
		v.len = (uint32_t)len;
		v.field = c ? schema_field_find(c, v.name) : NULL;
		print(&v, i++, out);
	}
}

/* The next name of a list of strings, or NULL at its end. */
static const char *next_name(const char **at, int *left)
{
	const char *name = *at, *end = *left > 0 ? memchr(name, 0, (size_t)*left) : NULL;
	if (!end)
		return NULL;
	*left -= (int)(end + 1 - name);
	*at = end + 1;
	return name;
}

/* Calls @print for each descriptor: its name, its number in the program that saved it. */
static void each_fd(const struct state_blob *blob, int node,
		    void (*print)(const char *name, uint32_t fd, unsigned i, FILE *out), FILE *out)
{
	int left, len;
	const char *name, *at = fdt_getprop(blob->fdt, node, "names", &left);
	const char *numbers = fdt_getprop(blob->fdt, node, "numbers", &len);
	for (unsigned i = 0; at && numbers && (name = next_name(&at, &left)); i++)
		if (range_fits((uint64_t)i * 8, 4, (uint64_t)len))
			print(name, fdt32_ld((const void *)(numbers + i * 8)), i, out);
}

/* ---- text ---- */

static void text_value(const struct value *v, unsigned i, FILE *out)
{
	fprintf(out, "  ");
	print_name(v->name, out);
	if (is_uint(v)) {
		for (uint32_t k = 0; k < elements(v) && k < TEXT_ELEMENTS; k++)
			fprintf(out, " 0x%lx", element(v, k));
		if (elements(v) > TEXT_ELEMENTS)
			fprintf(out, " ... (%u)", elements(v));
	} else if (is_string(v)) {
		fputc(' ', out);
		dump_json_string(out, v->data, v->len - 1);
	} else {
		fputs(v->len ? " " : " (none)", out);
		print_bytes(v, TEXT_BYTES, out);
		if (!v->field)
			fprintf(out, " (unknown to this program)");
	}
	fputc('\n', out);
}

static void text_fd(const char *name, uint32_t fd, unsigned i, FILE *out)
{
	fprintf(out, "  ");
	dump_json_string(out, name, strlen(name));
	fprintf(out, " %u\n", fd);
}

void dump_text(const struct state_blob *blob, const struct schema *known, FILE *out)
{
	fprintf(out, "state %s of molt ", STATE_COMPATIBLE);
	print_name(blob->header.version, out);
	fprintf(out, ", build ");
	print_name(blob->header.build_id, out);
	fprintf(out, ", %zu bytes\n", blob->len);
	for (unsigned i = 0; i < blob->n; i++) {
		int node = blob->nodes[i].node;
		if (!strcmp(blob->nodes[i].name, "fds")) {
			fprintf(out, "fds: kept descriptors\n");
			each_fd(blob, node, text_fd, out);
			continue;
		}
		const char *cls = state_string(blob->fdt, node, "class");
		print_name(blob->nodes[i].name, out);
		fprintf(out, ": class ");
		print_name(cls ? cls : "?", out);
		fprintf(out, " version %u", state_number(blob->fdt, node, "version"));
		if (state_number(blob->fdt, node, "needs"))
			fprintf(out, " needs %u", state_number(blob->fdt, node, "needs"));
		fprintf(out, "%s\n",
			fdt_getprop(blob->fdt, node, "optional", NULL) ? " optional" : "");
		each_value(blob, node, known, text_value, out);
	}
}

/* ---- JSON ---- */

static void json_value(const struct value *v, unsigned i, FILE *out)
{
	bool single = v->field && v->field->count == 1 && !v->field->counted;
	fputs(i ? "," : "", out);
	dump_json_string(out, v->name, strlen(v->name));
	fputc(':', out);
	if (is_uint(v)) {
		fputs(single ? "" : "[", out);
		for (uint32_t k = 0; k < elements(v); k++)
			fprintf(out, "%s%lu", k ? "," : "", element(v, k));
		fputs(single ? "" : "]", out);
	} else if (is_string(v)) {
		dump_json_string(out, v->data, v->len - 1);
	} else {
		fputc('"', out);
		print_bytes(v, UINT32_MAX, out);
		fputc('"', out);
	}
}

static void json_fd(const char *name, uint32_t fd, unsigned i, FILE *out)
{
	fputs(i ? "," : "", out);
	dump_json_string(out, name, strlen(name));
	fprintf(out, ":%u", fd);
}

static void json_pair(const char *key, const char *value, FILE *out)
{
	fprintf(out, "\"%s\":", key);
	dump_json_string(out, value, strlen(value));
	fputc(',', out);
}

void dump_json(const struct state_blob *blob, const struct schema *known, FILE *out)
{
	fputc('{', out);
	json_pair("format", STATE_COMPATIBLE, out);
	json_pair("version", blob->header.version, out);
	json_pair("build", blob->header.build_id, out);
	fprintf(out, "\"nodes\":[");
	for (unsigned i = 0; i < blob->n; i++) {
		int node = blob->nodes[i].node;
		const char *cls = state_string(blob->fdt, node, "class");
		bool fds = !strcmp(blob->nodes[i].name, "fds");
		fputs(i ? ",{" : "{", out);
		json_pair("node", blob->nodes[i].name, out);
		json_pair("class", cls ? cls : "", out);
		fprintf(out, "\"version\":%u,\"needs\":%u,\"optional\":%s,\"%s\":{",
			state_number(blob->fdt, node, "version"),
			state_number(blob->fdt, node, "needs"),
			fdt_getprop(blob->fdt, node, "optional", NULL) ? "true" : "false",
			fds ? "descriptors" : "fields");
		if (fds)
			each_fd(blob, node, json_fd, out);
		else
			each_value(blob, node, known, json_value, out);
		fprintf(out, "}}");
	}
	fprintf(out, "]}\n");
}

/* ---- device tree source (Devicetree Specification 0.4, chapter 6) ---- */

#define CELLS_PER_LINE 8
#define BYTES_PER_LINE 32

/* Strings, one after the other, each with its NUL and none empty? */
static bool is_strings(const char *p, int len)
{
	if (len < 2 || p[len - 1])
		return false;
	for (int i = 0; i < len; i++)
		if (p[i] ? p[i] < 0x20 || p[i] > 0x7e : !i || !p[i - 1])
			return false;
	return true;
}

static void dts_strings(const char *p, int len, FILE *out)
{
	fprintf(out, " = \"");
	for (int i = 0; i < len - 1; i++) {
		if (!p[i])
			fprintf(out, "\", \"");
		else
			fprintf(out, p[i] == '"' || p[i] == '\\' ? "\\%c" : "%c", p[i]);
	}
	fprintf(out, "\"");
}

static void new_line(FILE *out, int depth)
{
	fputc('\n', out);
	for (int i = 0; i < depth; i++)
		fputc('\t', out);
}

static void dts_cells(const char *p, int cells, int depth, FILE *out)
{
	fprintf(out, " = <");
	for (int i = 0; i < cells; i++) {
		if (i && i % CELLS_PER_LINE == 0)
			new_line(out, depth);
		else if (i)
			fputc(' ', out);
		fprintf(out, "0x%x", fdt32_ld((const void *)(p + i * 4)));
	}
	fputc('>', out);
}

static void dts_bytes(const char *p, int len, int depth, FILE *out)
{
	fprintf(out, " = [");
	for (int i = 0; i < len; i++) {
		if (i && i % BYTES_PER_LINE == 0)
			new_line(out, depth);
		fprintf(out, "%02x", (uint8_t)p[i]);
	}
	fputc(']', out);
}

static void print_node(const void *fdt, int node, int depth, FILE *out)
{
	int prop, child, len;
	fdt_for_each_property_offset(prop, fdt, node) {
		const char *name, *p = fdt_getprop_by_offset(fdt, prop, &name, &len);
		new_line(out, depth);
		print_name(name, out);
		if (is_strings(p, len))
			dts_strings(p, len, out);
		else if (len && len % 4 == 0)
			dts_cells(p, len / 4, depth + 1, out);
		else if (len)
			dts_bytes(p, len, depth + 1, out);
		fputc(';', out);
	}
	fdt_for_each_subnode(child, fdt, node) {
		new_line(out, depth);
		print_name(fdt_get_name(fdt, child, NULL), out);
		fprintf(out, " {");
		print_node(fdt, child, depth + 1, out);
		new_line(out, depth);
		fprintf(out, "};");
	}
}

void dump_dts(const void *fdt, FILE *out)
{
	fprintf(out, "/dts-v1/;\n\n/ {");
	print_node(fdt, 0, 1, out);
	fprintf(out, "\n};\n");
}
