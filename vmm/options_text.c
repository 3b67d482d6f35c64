/* SPDX-License-Identifier: MIT */
/* The texts generated from the table of options: help, man page, completion. */
#include <ctype.h>

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

/* The words that an argument is made of, as far as they stand in its name: "stdio|pty[:LINK]" has
 * stdio and pty. A file's name or another text has none. */
static void print_choices(FILE *out, const char *arg)
{
	for (; islower((unsigned char)*arg); arg += *arg == '|') {
		int n = (int)strcspn(arg, "|[:");
		fprintf(out, "%.*s%s ", n, arg, arg[n] == ':' ? ":" : "");
		arg += n + (int)strcspn(arg + n, "|");
	}
}

void options_completion(FILE *out)
{
	fprintf(out, "# bash completion for molt(1), loaded by bash-completion\n"
		     "_molt() {\n"
		     "\tlocal cur prev words cword dir=${XDG_RUNTIME_DIR:-/run}/molt list='' s\n"
		     "\t_init_completion -n : || return\n"
		     "\t((EUID)) || dir=/run/molt\n"
		     "\tif ((cword == 1)); then\n"
		     "\t\tlist='run list status config update stop events state --help --version'\n"
		     "\telif [[ ${words[1]} == state ]]; then\n"
		     "\t\tlist='dump schema diff --json --dts'\n"
		     "\telif [[ ${words[1]} != run ]]; then\n"
		     "\t\tlist='--check --exe --json --help'\n"
		     "\t\tfor s in \"$dir\"/*.sock; do\n"
		     "\t\t\t[[ -S $s ]] && s=${s##*/} && list+=\" ${s%%.sock}\"\n"
		     "\t\tdone\n"
		     "\telse\n"
		     "\t\tcase $prev in\n");
	for (const struct option_entry *o = options_table; o < options_table + options_table_len;
	     o++) {
		if (!o->arg)
			continue;
		fprintf(out, "\t\t--%s", o->name);
		if (o->letter)
			fprintf(out, "|-%c", o->letter);
		fprintf(out, ") list='");
		if (!strncmp(o->arg, "BDF", 3))
			fprintf(out, "$(cd /sys/bus/pci/drivers/vfio-pci 2>/dev/null && echo *:*)");
		print_choices(out, o->arg);
		fprintf(out, "' ;;\n");
	}
	fprintf(out, "\t\t*) list='");
	for (unsigned i = 0; i < options_table_len; i++)
		fprintf(out, "--%s ", options_table[i].name);
	/* A device's colons are word breaks to readline; what has no list is a file. */
	fprintf(out, "--help' ;;\n\t\tesac\n\tfi\n"
		     "\tmapfile -t COMPREPLY < <(compgen -W \"$list\" -- \"$cur\")\n"
		     "\t__ltrim_colon_completions \"$cur\"\n"
		     "}\n"
		     "complete -o bashdefault -o default -F _molt molt\n");
}
