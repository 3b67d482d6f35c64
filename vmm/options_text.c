/* SPDX-License-Identifier: MIT */
/* The texts generated from the table of options: help, man page, completion. */
#include <ctype.h>

#include "vmm/options.h"
#include "vmm/options_table.h"

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

void options_help(FILE *out)
{
	fprintf(out, "usage: molt run --kernel FILE [OPTION]...\n");
	for (int g = 0; g < GROUP_COUNT; g++) {
		fprintf(out, "\n%s:\n", options_groups[g]);
		for (unsigned i = 0; i < options_table_len; i++) {
			const struct option_entry *o = &options_table[i];
			if ((int)o->group != g)
				continue;
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
	}
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

void options_man(FILE *out)
{
	for (int g = 0; g < GROUP_COUNT; g++) {
		fprintf(out, "## %s\n\n", options_groups[g]);
		for (unsigned i = 0; i < options_table_len; i++) {
			const struct option_entry *o = &options_table[i];
			if ((int)o->group != g)
				continue;
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
	}
}

/* "--name|-n|" of every option that completes in that way. */
static void print_case(FILE *out, enum option_complete complete, const char *action)
{
	const char *bar = "\t";
	for (unsigned i = 0; i < options_table_len; i++) {
		const struct option_entry *o = &options_table[i];
		if (o->complete != complete)
			continue;
		fprintf(out, "%s--%s", bar, o->name);
		if (o->letter)
			fprintf(out, "|-%c", o->letter);
		bar = "|";
	}
	fprintf(out, ")\n\t\t%s\n\t\treturn ;;\n", action);
}

void options_completion(FILE *out)
{
	/* A device's colons are word breaks to readline: bash-completion's helpers undo that. */
	fprintf(out,
		"# bash completion for molt(1), loaded by bash-completion\n"
		"_molt_verb() { # status, update, stop, events: names of guests, and options\n"
		"\tlocal dir=${XDG_RUNTIME_DIR:-/run}/molt options='--json --help' guests=() s\n"
		"\t((EUID)) || dir=/run/molt\n"
		"\t[[ ${words[1]} != update ]] || options+=' --check --exe'\n"
		"\tif [[ $prev == --exe || $cur == */* ]]; then\n"
		"\t\tmapfile -t COMPREPLY < <(compgen -f -- \"$cur\")\n"
		"\t\treturn\n"
		"\tfi\n"
		"\tfor s in \"$dir\"/*.sock; do\n"
		"\t\t[[ -S $s ]] && s=${s##*/} && guests+=(\"${s%%.sock}\")\n"
		"\tdone\n"
		"\tmapfile -t COMPREPLY < <(compgen -W \"$options ${guests[*]}\" -- \"$cur\")\n"
		"}\n"
		"_molt() {\n"
		"\t# shellcheck disable=SC2034 # words: set by _init_completion\n"
		"\tlocal cur prev words cword\n"
		"\t_init_completion -n : || return\n"
		"\tif ((cword == 1)); then\n"
		"\t\tmapfile -t COMPREPLY < <(compgen -W 'run status update stop events state "
		"--help --version' -- \"$cur\")\n"
		"\t\treturn\n"
		"\tfi\n"
		"\tif [[ ${words[1]} == state ]]; then\n"
		"\t\tlocal words_of_state='--json --dts'\n"
		"\t\t((cword > 2)) || words_of_state='dump schema diff'\n"
		"\t\tmapfile -t COMPREPLY < <(compgen -W \"$words_of_state\" -- \"$cur\")\n"
		"\t\t((cword == 2)) || mapfile -t -O ${#COMPREPLY[@]} COMPREPLY < <(compgen -f "
		"-- \"$cur\")\n"
		"\t\treturn\n"
		"\tfi\n"
		"\tif [[ ${words[1]} != run ]]; then\n"
		"\t\t_molt_verb\n"
		"\t\treturn\n"
		"\tfi\n"
		"\tcase $prev in\n");
	print_case(out, COMPLETE_FILE, "mapfile -t COMPREPLY < <(compgen -f -- \"$cur\")");
	print_case(out, COMPLETE_BDF,
		   "mapfile -t COMPREPLY < <(cd /sys/bus/pci/drivers/vfio-pci 2>/dev/null &&\n"
		   "\t\t\tcompgen -G \"$cur*:*.?\")\n"
		   "\t\t__ltrim_colon_completions \"$cur\"");
	print_case(out, COMPLETE_CONSOLE,
		   "mapfile -t COMPREPLY < <(compgen -W 'stdio pty pty: file: unix: none' -- "
		   "\"$cur\")\n"
		   "\t\t__ltrim_colon_completions \"$cur\"");
	print_case(out, COMPLETE_SANDBOX,
		   "mapfile -t COMPREPLY < <(compgen -W 'kill log off' -- \"$cur\")");
	fprintf(out, "\tesac\n\tmapfile -t COMPREPLY < <(compgen -W '");
	for (unsigned i = 0; i < options_table_len; i++)
		fprintf(out, "--%s ", options_table[i].name);
	fprintf(out, "--help' -- \"$cur\")\n"
		     "}\n"
		     "complete -o filenames -F _molt molt\n");
}
