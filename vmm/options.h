/* SPDX-License-Identifier: MIT */
/* The options of `molt run`: one table, from which parsing, --help, completion and man page
 * come. */
#pragma once

#include "vmm/base/log.h"
#include "vmm/cpu_options.h"
#include "vmm/ram.h"
#include "vmm/seccomp/seccomp.h"

#define OPTIONS_MAX_DEVICES 32
#define OPTIONS_MAX_CPUS    1024 /* what KVM has where nobody has configured more */
#define OPTIONS_MAX	    48	 /* entries of options_table */

enum on_reset { ON_RESET_REBOOT, ON_RESET_EXIT };
enum on_crash { ON_CRASH_REBOOT, ON_CRASH_EXIT, ON_CRASH_PAUSE };

struct options {
	const char *kernel;	/* -k */
	const char *initrd;	/* -i, NULL: none */
	const char *cmdline;	/* -p, "" by default */
	struct ram_options mem; /* -m, 256 MiB by default; at least 32 MiB */
	uint32_t cpus;		/* -c, 1 */
	struct cpu_options cpu;
	const char *console; /* --console, "stdio" */
	const char *name;    /* --name, NULL: none; [A-Za-z0-9_][A-Za-z0-9._-]{0,31} */
	const char
		*control;   /* --control: path with a slash, or "none"; NULL: by the name, if any */
	const char *take;   /* --take GUEST: a running guest, instead of a new one; NULL */
	const char *report; /* --report FILE: one JSON record per update is appended; NULL */
	enum on_reset on_reset;	     /* --on-reset, ON_RESET_EXIT */
	enum on_crash on_crash;	     /* --on-crash, ON_CRASH_EXIT */
	const char *log;	     /* --log FILE: log lines are appended; NULL: stderr */
	enum log_level log_level;    /* --log-level, LOG_LEVEL_INFO */
	uint32_t stop_timeout_s;     /* --stop-timeout, 30: SIGTERM to forced end */
	uint32_t update_timeout_ms;  /* --update-timeout, 0 (chosen): from STATE to commit */
	uint32_t prepare_timeout_ms; /* --prepare-timeout, 10000 */
	uint32_t warm_budget_ms;     /* --warm-budget, 30000; 0: off */
	bool dry_run;		     /* --dry-run: only say whether this host can run the guest */
	bool insecure_exe; /* --insecure-exe: an update may run a file that others can write */
	enum seccomp_mode sandbox; /* --sandbox, SECCOMP_KILL; SECCOMP_LOG in sanitized builds */
	uint32_t hold_ms;	   /* --debug-hold MS, for tests: STATE is sent so much later */
	struct {
		const char *cls;	/* device class: "vfio", "testdev" */
		const char *arg;	/* "0000:00:05.0" */
	} devices[OPTIONS_MAX_DEVICES]; /* in command line order */
	unsigned ndevices;
	/* The text that counts of each entry of options_table, given or by default; "" where it takes none; NULL:
	 * neither. Devices' texts are above. */
	const char *texts[OPTIONS_MAX];
};

/* Parses the words after `molt run`. Strings point into @argv. Exit code of errors: EXIT_USAGE. */
int options_parse(struct options *opt, int argc, char *const argv[], struct error *err);

/* One at a time what was in effect: options of the table in its order, then devices in the command line's. *@text: NULL
 * for an option without argument. False: there is none of that index. */
bool options_effective(const struct options *opt, unsigned index, const char **name,
		       const char **text);

/* "256M", "4G", "512B"; a number alone means MiB. Returns 0, -EINVAL or -ERANGE. */
int options_parse_size(const char *text, uint64_t *out);

/* `molt run --help`, and the same table as man page source (scdoc). */
void options_help(FILE *out);
void options_man(FILE *out);

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
