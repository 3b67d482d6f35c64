/* SPDX-License-Identifier: MIT */
/* Parsers for options_table: each takes the text of one option into struct options. For the files of options only. */
#pragma once

#include "vmm/options.h"

int option_value_string(struct options *opt, const struct option_entry *o, const char *text,
			struct error *err);
/* Not empty. */
int option_value_file(struct options *opt, const struct option_entry *o, const char *text,
		      struct error *err);
/* From o->min to o->max. */
int option_value_number(struct options *opt, const struct option_entry *o, const char *text,
			struct error *err);
int option_value_flag(struct options *opt, const struct option_entry *o, const char *text,
		      struct error *err);
/* One of the words of o->arg. The enum's value is its place there. */
int option_value_choice(struct options *opt, const struct option_entry *o, const char *text,
			struct error *err);
int option_value_name(struct options *opt, const struct option_entry *o, const char *text,
		      struct error *err);
/* A path has a slash: clients take what has none for a guest's name. */
int option_value_control(struct options *opt, const struct option_entry *o, const char *text,
			 struct error *err);
int option_value_console(struct options *opt, const struct option_entry *o, const char *text,
			 struct error *err);
int option_value_mem(struct options *opt, const struct option_entry *o, const char *text,
		     struct error *err);
int option_value_cpus(struct options *opt, const struct option_entry *o, const char *text,
		      struct error *err);
/* The option's name is the device class's; its text is the class's business. */
int option_value_device(struct options *opt, const struct option_entry *o, const char *text,
			struct error *err);
/* Always an error: config_file.h has replaced --config FILE by the options in the file. */
int option_value_config(struct options *opt, const struct option_entry *o, const char *text,
			struct error *err);

/* "option --NAME: 'TEXT' is not valid", with what is. Returns the error. */
int option_usage(struct error *err, const struct option_entry *o, const char *text,
		 const char *expected);
