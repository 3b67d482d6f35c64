/* SPDX-License-Identifier: MIT */
#include "cpr/program.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "vmm/base/error.h"

extern char **environ;

#define S struct program
static const struct field program_fields[] = {
	FIELD_STR(S, path),
	FIELD_U(S, updates),
	FIELD_OPAQUE_LEN(S, args, args_len),
};
#undef S

STATE_CLASS(program_state_class, "program", 1, struct program, program_fields);

int program_init(struct program *p, int argc, char *const argv[], struct error *err)
{
	const char *execfn = (const char *)getauxval(AT_EXECFN);
	char cwd[PROGRAM_PATH_LEN] = "";
	memset(p, 0, sizeof(*p));
	if (!execfn || !execfn[0])
		execfn = argv[0];
	if (execfn[0] != '/' && !getcwd(cwd, sizeof(cwd)))
		return error_errno(err, errno, "working directory");
	int n = snprintf(p->path, sizeof(p->path), "%s%s%s", cwd, cwd[0] ? "/" : "", execfn);
	if (n < 0 || (size_t)n >= sizeof(p->path))
		return error_set(err, ENAMETOOLONG, "the program's path is too long: %s", execfn);
	for (int i = 0; i < argc; i++) {
		size_t len = strlen(argv[i]) + 1;
		if (argc > PROGRAM_MAX_ARGS || len > sizeof(p->args) - p->args_len)
			return error_set(err, E2BIG, "more than %d arguments or %d bytes of them",
					 PROGRAM_MAX_ARGS, PROGRAM_ARGS_LEN);
		memcpy(p->args + p->args_len, argv[i], len);
		p->args_len += (uint32_t)len;
	}
	return 0;
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

int program_incoming(void)
{
	const char *text = getenv(PROGRAM_ENV);
	if (!text)
		return -1;
	char *end;
	long fd = strtol(text, &end, 10);
	bool good = end != text && !*end && fd > STDERR_FILENO && fd < 1 << 20;
	unsetenv(PROGRAM_ENV);
	return good ? (int)fd : -2;
}

int program_exec(struct program *p, int exe_fd, int blob_fd, struct error *err)
{
	static char *argv[PROGRAM_MAX_ARGS + 1];
	char variable[32];
	int rc = program_argv(p, argv, err);
	if (rc < 0)
		return rc;
	snprintf(variable, sizeof(variable), "%d", blob_fd);
	if (setenv(PROGRAM_ENV, variable, 1) < 0)
		return error_errno(err, errno, "environment");
	syscall(SYS_execveat, exe_fd, "", argv, environ, AT_EMPTY_PATH);
	rc = error_errno(err, errno, "exec of %s", p->path);
	unsetenv(PROGRAM_ENV);
	return rc;
}
