/* SPDX-License-Identifier: MIT */
/* The words that shells complete, from what --help says. */
#include "vmm/completion.h"

#include <ctype.h>

#include "vmm/options.h"

#define CONTEXT_LEN 128

static bool separates(char c)
{
	return c == ' ' || c == '[' || c == ']' || c == '|';
}

/* One usage, from behind "molt" to its end. @context: its leading words; more of the same usage may follow. */
static void usage_words(FILE *out, char *context, const char *p, const char *end)
{
	bool leading = true;
	while (p < end) {
		int n = 0;
		while (p < end && separates(*p))
			p++;
		while (p + n < end && !separates(p[n]))
			n++;
		if (!n)
			break;
		fprintf(out, "%s|%.*s\n", context, n, p);
		leading = leading && islower((unsigned char)*p);
		size_t len = strlen(context);
		if (leading)
			snprintf(context + len, CONTEXT_LEN - len, " %.*s", n, p);
		/* "--exe FILE": no bracket in between. */
		if (*p == '-' && end - p > n + 1 && isupper((unsigned char)p[n + 1])) {
			const char *arg = p + n + 1;
			int arg_len = 0;
			while (arg + arg_len < end && !separates(arg[arg_len]))
				arg_len++;
			fprintf(out, "%s %.*s|%.*s\n", context, n, p, arg_len, arg);
			n += 1 + arg_len;
		}
		p += n;
	}
}

void completion_usage(FILE *out, const char *text)
{
	static const char first[] = "usage: ", program[] = "molt ";
	char context[CONTEXT_LEN] = "";

	for (const char *next; *text; text = next + (*next == '\n')) {
		next = text + strcspn(text, "\n");
		text += strspn(text, " ");
		if (!strncmp(text, first, strlen(first)))
			text += strlen(first);
		/* What a usage does is said behind it, three blanks away. */
		const char *says = strstr(text, "   "), *end = says && says < next ? says : next;
		if (!strncmp(text, program, strlen(program))) {
			strcpy(context, "molt");
			usage_words(out, context, text + strlen(program), end);
			if (strcmp(context, "molt"))
				fprintf(out, "%s|--help\n", context);
		} else if (*text == '[' && *context) {
			usage_words(out, context, text, end);
		} else {
			*context = 0;
		}
	}
}

/* "stdio|pty[:LINK]|file:PATH|fd=N" are stdio, pty, file: and fd= - what is in brackets does not count. */
static void argument_words(FILE *out, const char *option, const char *arg)
{
	while (*arg) {
		int n = (int)strcspn(arg, "|[:=,"), depth = 0;
		n += arg[n] == ':' || arg[n] == '=';
		fprintf(out, "molt run %s|%.*s\n", option, n, arg);
		for (arg += n; *arg && (*arg != '|' || depth); arg++)
			depth += (*arg == '[') - (*arg == ']');
		arg += *arg == '|';
	}
}

void completion_options(FILE *out)
{
	for (unsigned i = 0; i < options_table_len; i++) {
		const struct option_entry *o = &options_table[i];
		const char letter[] = {'-', o->letter, 0};
		char name[64];
		snprintf(name, sizeof(name), "--%s", o->name);
		fprintf(out, "molt run|%s|%.*s\n", name, (int)strcspn(o->help, ".:,;|"), o->help);
		if (o->arg)
			argument_words(out, name, o->arg);
		if (o->arg && o->letter)
			argument_words(out, letter, o->arg);
	}
}
