/* SPDX-License-Identifier: MIT */
/* The declared table of options: shared by parsing (options.c) and texts (options_text.c) only. */
#pragma once

#include "vmm/base/base.h"

struct options;

enum option_group { GROUP_GUEST, GROUP_DEVICES, GROUP_RUN, GROUP_DEBUG, GROUP_COUNT };

struct option_entry {
	const char *name; /* long name, without the dashes */
	char letter;	  /* short one, or 0 */
	const char *arg;  /* how the argument is called; NULL: none, parse gets NULL for it */
	const char *help; /* sentences, in plain text */
	const char *def;  /* parsed before the command line, and shown; NULL: none */
	enum option_group group;
	int (*parse)(struct options *opt, const struct option_entry *o, const char *text,
		     struct error *err);
	size_t offset;	   /* of the member in struct options, for generic parsers */
	uint32_t min, max; /* of numbers */
};

extern const struct option_entry options_table[];
extern const unsigned options_table_len;
extern const char *const options_groups[GROUP_COUNT];
