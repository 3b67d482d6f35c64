/* SPDX-License-Identifier: MIT */
/* Path and arguments of the program, as a state that travels with the guest. */
#include "cpr/program.h"

#include <sys/auxv.h>

#include "vmm/options.h"

#define S struct program
static const struct field program_fields[] = {
	FIELD_STR(S, path),
	FIELD_STR_SINCE(S, folder, 3),
	FIELD_U(S, updates),
	FIELD_U_SINCE(S, reboots, 3, 0),
	FIELD_U(S, started_s),
	FIELD_OPAQUE_LEN(S, args, args_len),
	SCHED_PROGRAM_FIELDS(S, sched),
};
#undef S

STATE_CLASS(program_state_class, "program", 3, struct program, program_fields);

int program_path(char path[PROGRAM_PATH_LEN], const char *argv0, struct error *err)
{
	const char *execfn = (const char *)getauxval(AT_EXECFN);
	if (!execfn || !execfn[0])
		execfn = argv0;
	int rc = file_absolute(execfn, path, PROGRAM_PATH_LEN);
	return rc ? error_errno(err, -rc, "the program's path %.300s", execfn) : 0;
}

static int take_args(struct program *p, int argc, char *const argv[], struct error *err)
{
	for (int i = 0; i < argc; i++) {
		size_t len = strlen(argv[i]) + 1;
		if (argc > PROGRAM_MAX_ARGS || len > sizeof(p->args) - p->args_len) {
			error_end(err, EXIT_USAGE, E2BIG,
				  "command line: more than %d arguments or %d bytes of them",
				  PROGRAM_MAX_ARGS, PROGRAM_ARGS_LEN);
			return error_hint(err, "shorten it: an update has to keep it");
		}
		memcpy(p->args + p->args_len, argv[i], len);
		p->args_len += (uint32_t)len;
	}
	return 0;
}

int program_init(struct program *p, int argc, char *const argv[], struct error *err)
{
	const char *path = getenv(PROGRAM_PATH_ENV);
	memset(p, 0, sizeof(*p));
	p->started_s = boot_s();
	if (!getcwd(p->folder, sizeof(p->folder)))
		p->folder[0] = 0;
	int rc = 0;
	if (path && strlen(path) < sizeof(p->path))
		snprintf(p->path, sizeof(p->path), "%s", path);
	else
		rc = program_path(p->path, argv[0], err);
	unsetenv(PROGRAM_PATH_ENV);
	return rc ? rc : take_args(p, argc, argv, err);
}

void program_go_to_folder(const struct program *p)
{
	if (!p->folder[0] || !chdir(p->folder))
		return;
	log_warn("%.400s, where the guest was started: %m: relative paths of its options are "
		 "looked for elsewhere",
		 p->folder);
	log_info("  remedy: make the folder, then update; or start the guest with absolute paths");
}

int program_argv(struct program *p, char *argv[], struct error *err)
{
	int argc = 0;
	if (!p->args_len || p->args[p->args_len - 1])
		return error_set(err, EBADMSG, "state program.args: not terminated");
	for (char *s = p->args; s < p->args + p->args_len; s += strlen(s) + 1) {
		if (argc == PROGRAM_MAX_ARGS)
			return error_set(err, EBADMSG, "state program.args: more than %d",
					 PROGRAM_MAX_ARGS);
		argv[argc++] = s;
	}
	argv[argc] = NULL;
	return argc;
}

int program_options(struct program *p, struct options *opt, struct error *err)
{
	static char *argv[PROGRAM_MAX_ARGS + 1];
	int argc = program_argv(p, argv, err);
	if (argc >= 0 && argc < 2)
		return error_set(err, EBADMSG, "state program.args: %d arguments", argc);
	return argc < 0 ? argc : options_parse(opt, argc - 2, argv + 2, err);
}
