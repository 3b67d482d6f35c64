/* SPDX-License-Identifier: MIT */
/* The values of the options of `molt run`: one parser for each kind of text. */
#include "vmm/options_values.h"

#include <ctype.h>

#include "vmm/base/base.h"

#define MEM_MIN (32 * MIB)

int option_usage(struct error *err, const struct option_entry *o, const char *text,
		 const char *expected)
{
	error_end(err, EXIT_USAGE, EINVAL, "option --%s: '%.200s' is not valid", o->name, text);
	return error_hint(err, "expected %s", expected);
}

int option_value_string(struct options *opt, const struct option_entry *o, const char *text,
			struct error *err)
{
	memcpy((char *)opt + o->offset, &text, sizeof(text));
	return 0;
}

int option_value_file(struct options *opt, const struct option_entry *o, const char *text,
		      struct error *err)
{
	return *text ? option_value_string(opt, o, text, err)
		     : option_usage(err, o, text, "a file name");
}

/* Decimal digits and nothing else, from @min to @max. */
static bool number_of(const char *text, uint32_t min, uint32_t max, uint32_t *out)
{
	char *end;
	errno = 0;
	unsigned long long v = strtoull(text, &end, 10);
	if (!isdigit((unsigned char)*text) || *end || errno || v < min || v > max)
		return false;
	*out = (uint32_t)v;
	return true;
}

int option_value_number(struct options *opt, const struct option_entry *o, const char *text,
			struct error *err)
{
	uint32_t n;
	if (!number_of(text, o->min, o->max, &n)) {
		char expected[64];
		snprintf(expected, sizeof(expected), "a number from %u to %u", o->min, o->max);
		return option_usage(err, o, text, expected);
	}
	memcpy((char *)opt + o->offset, &n, sizeof(n));
	return 0;
}

int option_value_flag(struct options *opt, const struct option_entry *o, const char *text,
		      struct error *err)
{
	const bool on = true;
	memcpy((char *)opt + o->offset, &on, sizeof(on));
	return 0;
}

int options_parse_size(const char *text, uint64_t *out)
{
	static const char units[] = "BKMGT";
	unsigned shift = 20;
	char *end;

	if (!isdigit((unsigned char)*text))
		return -EINVAL;
	errno = 0;
	unsigned long long v = strtoull(text, &end, 10);
	if (errno)
		return -ERANGE;
	if (*end) {
		const char *unit = strchr(units, toupper((unsigned char)*end));
		if (!unit || end[1])
			return -EINVAL;
		shift = 10 * (unsigned)(unit - units);
	}
	if (v > UINT64_MAX >> shift)
		return -ERANGE;
	*out = (uint64_t)v << shift;
	return 0;
}

/* One word of --mem after the size. */
static int mem_word(struct ram_options *mem, const struct option_entry *o, const char *word,
		    struct error *err)
{
	if (!strcmp(word, "hugetlb=2M")) {
		mem->hugetlb = 2;
	} else if (!strcmp(word, "hugetlb=1G")) {
		mem->hugetlb = 1024;
	} else if (!strcmp(word, "collapse")) {
		mem->collapse = true;
	} else if (!strncmp(word, "path=", 5) && word[5]) {
		if (strlen(word + 5) >= sizeof(mem->path))
			return option_usage(err, o, word, "a shorter path");
		strcpy(mem->path, word + 5);
	} else if (!strncmp(word, "node=", 5)) {
		if (!number_of(word + 5, 0, RAM_MAX_NODES - 1, &mem->node))
			return option_usage(err, o, word, "the number of a NUMA node of the host");
		mem->bind = true;
	} else {
		return option_usage(err, o, word,
				    "hugetlb=2M, hugetlb=1G, collapse, node=N or path=FILE");
	}
	return 0;
}

int option_value_mem(struct options *opt, const struct option_entry *o, const char *text,
		     struct error *err)
{
	struct ram_options *mem = &opt->mem;
	char copy[sizeof(mem->path) + 128], *rest = copy;

	if (strlen(text) >= sizeof(copy))
		return option_usage(err, o, text, "a shorter text");
	strcpy(copy, text);
	memset(mem, 0, sizeof(*mem));
	if (options_parse_size(strsep(&rest, ","), &mem->size))
		return option_usage(err, o, text,
				    "a size like 256M or 4G (a number alone is MiB), then "
				    "[,hugetlb=2M|1G][,collapse][,node=N][,path=FILE]");
	if (mem->size < MEM_MIN || mem->size % PAGE_LEN)
		return option_usage(
			err, o, text,
			"at least 32M (a number alone is MiB), in whole pages of 4 KiB");
	while (rest) {
		int rc = mem_word(mem, o, strsep(&rest, ","), err);
		if (rc)
			return rc;
	}
	if (mem->hugetlb && mem->size % (mem->hugetlb * MIB))
		return option_usage(err, o, text,
				    mem->hugetlb == 2 ? "a multiple of 2M with hugetlb=2M"
						      : "a multiple of 1G with hugetlb=1G");
	if (mem->hugetlb && (mem->collapse || mem->path[0]))
		return option_usage(
			err, o, text,
			"hugetlb= without collapse and path=: its pages are huge already, and it "
			"makes its own file (path= may name one on a hugetlbfs instead)");
	if (mem->bind && mem->path[0])
		return option_usage(
			err, o, text,
			"node= without path=: only a file that molt makes itself keeps its node");
	return 0;
}

int option_value_cpus(struct options *opt, const struct option_entry *o, const char *text,
		      struct error *err)
{
	char n[8], expected[64];
	const char *words = strchr(text, ',');
	snprintf(n, sizeof(n), "%.*s", (int)strcspn(text, ","), text);
	if (!number_of(n, 1, OPTIONS_MAX_CPUS, &opt->cpus)) {
		snprintf(expected, sizeof(expected), "a number from 1 to %d", OPTIONS_MAX_CPUS);
		return option_usage(err, o, text, expected);
	}
	const char *what = cpu_options_parse(&opt->cpu, opt->cpus, words ? words + 1 : NULL);
	return what ? option_usage(err, o, text, what) : 0;
}

int option_value_console(struct options *opt, const struct option_entry *o, const char *text,
			 struct error *err)
{
	/* A name that ends in ':' needs something after the colon. */
	static const char *const kinds[] = {"stdio", "pty", "none", "pty:", "file:", "unix:"};
	for (unsigned i = 0; i < ARRAY_LEN(kinds); i++) {
		size_t n = strlen(kinds[i]);
		if (kinds[i][n - 1] == ':' ? !strncmp(text, kinds[i], n) && text[n]
					   : !strcmp(text, kinds[i]))
			return option_value_string(opt, o, text, err);
	}
	return option_usage(err, o, text, "stdio, pty, pty:LINK, file:PATH, unix:PATH or none");
}

int option_value_choice(struct options *opt, const struct option_entry *o, const char *text,
			struct error *err)
{
	size_t len = strlen(text), n;
	uint32_t i = 0;
	for (const char *word = o->arg; *word; word += n + (word[n] == '|'), i++) {
		n = strcspn(word, "|");
		if (n != len || memcmp(word, text, n))
			continue;
		memcpy((char *)opt + o->offset, &i, sizeof(i));
		return 0;
	}
	return option_usage(err, o, text, o->arg);
}

int option_value_name(struct options *opt, const struct option_entry *o, const char *text,
		      struct error *err)
{
	size_t n = strlen(text);
	if (!n || n > 32)
		return option_usage(err, o, text, "1 to 32 characters");
	for (size_t i = 0; i < n; i++)
		if (!isalnum((unsigned char)text[i]) && !strchr("._-", text[i]))
			return option_usage(err, o, text, "letters, digits, '.', '_' and '-' only");
	/* Other commands take it as an argument: it must not look like an option ('-'), nor like a hidden file
	 * ('.'). */
	if (strchr(".-", text[0]))
		return option_usage(err, o, text,
				    "a name that begins with a letter, a digit or '_'");
	return option_value_string(opt, o, text, err);
}

int option_value_control(struct options *opt, const struct option_entry *o, const char *text,
			 struct error *err)
{
	if (strcmp(text, "none") && !strchr(text, '/'))
		return option_usage(err, o, text,
				    "none, or a path with a slash in it, such as ./molt.sock");
	return option_value_string(opt, o, text, err);
}

int option_value_device(struct options *opt, const struct option_entry *o, const char *text,
			struct error *err)
{
	if (opt->ndevices == OPTIONS_MAX_DEVICES)
		return error_end(err, EXIT_USAGE, E2BIG, "option --%s: more than %d devices",
				 o->name, OPTIONS_MAX_DEVICES);
	opt->devices[opt->ndevices].cls = o->name;
	opt->devices[opt->ndevices++].arg = text;
	return 0;
}

int option_value_config(struct options *opt, const struct option_entry *o, const char *text,
			struct error *err)
{
	return option_usage(err, o, text, "a file name, before the guest is started");
}

_Static_assert(sizeof(enum seccomp_mode) == sizeof(uint32_t) &&
		       sizeof(enum log_level) == sizeof(uint32_t),
	       "option_value_choice");
