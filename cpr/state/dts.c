/* SPDX-License-Identifier: MIT */
/* A flattened tree as device tree source (Devicetree Specification 0.4, chapter 6). */
#include <ctype.h>
#include <libfdt.h>

#include "cpr/state/dump.h"

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

static void print_strings(const char *p, int len, FILE *out)
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

static void print_cells(const char *p, int cells, int depth, FILE *out)
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

static void print_bytes(const char *p, int len, int depth, FILE *out)
{
	fprintf(out, " = [");
	for (int i = 0; i < len; i++) {
		if (i && i % BYTES_PER_LINE == 0)
			new_line(out, depth);
		fprintf(out, "%02x", (uint8_t)p[i]);
	}
	fputc(']', out);
}

/* What no name may contain becomes '?': dtc would refuse the rest. */
static void print_name(const char *name, FILE *out)
{
	for (; *name; name++)
		fputc(isalnum((unsigned char)*name) || strchr(",._+*#@-", *name) ? *name : '?',
		      out);
}

static void print_node(const void *fdt, int node, int depth, FILE *out)
{
	int prop, child, len;
	fdt_for_each_property_offset(prop, fdt, node)
	{
		const char *name, *p = fdt_getprop_by_offset(fdt, prop, &name, &len);
		new_line(out, depth);
		print_name(name, out);
		if (is_strings(p, len))
			print_strings(p, len, out);
		else if (len && len % 4 == 0)
			print_cells(p, len / 4, depth + 1, out);
		else if (len)
			print_bytes(p, len, depth + 1, out);
		fputc(';', out);
	}
	fdt_for_each_subnode(child, fdt, node)
	{
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
