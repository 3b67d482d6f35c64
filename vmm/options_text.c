/* SPDX-License-Identifier: MIT */
/* The texts generated from the table of options: help, man page. */
#include "vmm/options.h"

#define HELP_INDENT 8
#define HELP_COLUMN 80

/* Prints @text in lines of at most HELP_COLUMN columns, each indented. */
static void print_wrapped(FILE *out, const char *text)
{
	int column = 0;
	while (*text) {
		int n = (int)strcspn(text, " ");
		if (column && column + 1 + n > HELP_COLUMN) {
			fputc('\n', out);
			column = 0;
		}
		column += column ? fprintf(out, " %.*s", n, text)
				 : fprintf(out, "%*s%.*s", HELP_INDENT, "", n, text);
		text += n;
		text += strspn(text, " ");
	}
	fputc('\n', out);
}

/* Prints the options group by group. */
static void each_option(FILE *out, const char *heading,
			void (*print)(FILE *out, const struct option_entry *o))
{
	for (unsigned g = 0; g < GROUP_COUNT; g++) {
		fprintf(out, heading, options_groups[g]);
		for (unsigned i = 0; i < options_table_len; i++)
			if (options_table[i].group == g)
				print(out, &options_table[i]);
	}
}

static void help_option(FILE *out, const struct option_entry *o)
{
	if (o->letter)
		fprintf(out, "  -%c, --%s", o->letter, o->name);
	else
		fprintf(out, "      --%s", o->name);
	if (o->arg)
		fprintf(out, " %s", o->arg);
	if (o->def && *o->def)
		fprintf(out, "  (default %s)", o->def);
	fputc('\n', out);
	print_wrapped(out, o->help);
}

void options_help(FILE *out)
{
	fprintf(out, "usage: molt run --kernel FILE [OPTION]...\n");
	each_option(out, "\n%s:\n", help_option);
}

/* scdoc gives a meaning to these (scdoc(5)). */
static void print_escaped(FILE *out, const char *text)
{
	for (; *text; text++) {
		if (strchr("\\_*#~<[|", *text))
			fputc('\\', out);
		fputc(*text, out);
	}
}

static void man_option(FILE *out, const struct option_entry *o)
{
	if (o->letter)
		fprintf(out, "*-%c*, ", o->letter);
	fprintf(out, "*--%s*", o->name);
	if (o->arg) {
		fputc(' ', out);
		print_escaped(out, o->arg);
	}
	fprintf(out, "\n\t");
	print_escaped(out, o->help);
	if (o->def && *o->def) {
		fprintf(out, " Default: ");
		print_escaped(out, o->def);
		fputc('.', out);
	}
	fprintf(out, "\n\n");
}

void options_man(FILE *out)
{
	each_option(out, "## %s\n\n", man_option);
}
