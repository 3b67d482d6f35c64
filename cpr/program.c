/* SPDX-License-Identifier: MIT */
#include "cpr/program.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <time.h>
#include <unistd.h>

#include "cpr/fdset.h"
#include "vmm/base/error.h"
#include "vmm/base/pool.h"

extern char **environ;

#define S struct program
static const struct field program_fields[] = {
	FIELD_STR(S, path),
	FIELD_U(S, updates),
	FIELD_U(S, started_s),
	FIELD_OPAQUE_LEN(S, args, args_len),
};
#undef S

STATE_CLASS(program_state_class, "program", 1, struct program, program_fields);

int program_path(char path[PROGRAM_PATH_LEN], const char *argv0, struct error *err)
{
	const char *execfn = (const char *)getauxval(AT_EXECFN);
	char cwd[PROGRAM_PATH_LEN] = "";
	if (!execfn || !execfn[0])
		execfn = argv0;
	if (execfn[0] != '/' && !getcwd(cwd, sizeof(cwd)))
		return error_errno(err, errno, "working directory");
	int n = snprintf(path, PROGRAM_PATH_LEN, "%s%s%s", cwd, cwd[0] ? "/" : "", execfn);
	if (n < 0 || n >= PROGRAM_PATH_LEN)
		return error_set(err, ENAMETOOLONG, "the program's path is too long: %s", execfn);
	return 0;
}

static int take_args(struct program *p, int argc, char *const argv[], struct error *err)
{
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

int program_init(struct program *p, int argc, char *const argv[], struct error *err)
{
	const char *path = getenv(PROGRAM_PATH_ENV);
	struct timespec now;
	memset(p, 0, sizeof(*p));
	clock_gettime(CLOCK_BOOTTIME, &now);
	p->started_s = (uint64_t)now.tv_sec;
	int rc = 0;
	if (path && strlen(path) < sizeof(p->path))
		snprintf(p->path, sizeof(p->path), "%s", path);
	else
		rc = program_path(p->path, argv[0], err);
	unsetenv(PROGRAM_PATH_ENV);
	return rc ? rc : take_args(p, argc, argv, err);
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

struct program_incoming program_incoming(void)
{
	const char *text = getenv(PROGRAM_ENV);
	struct program_incoming in = {.mode = PROGRAM_FRESH, .blob_fd = -1, .old_fd = -1};
	int mode, end = 0;
	if (!text)
		return in;
	bool good =
		sscanf(text, "%d,%d,%d,%d%n", &in.sig, &mode, &in.blob_fd, &in.old_fd, &end) == 4 &&
		!text[end] && in.blob_fd > STDERR_FILENO && in.old_fd > STDERR_FILENO &&
		mode >= PROGRAM_NEW && mode <= PROGRAM_AGAIN;
	in.mode = good ? (enum program_mode)mode : PROGRAM_CONFUSED;
	unsetenv(PROGRAM_ENV);
	return in;
}

static size_t environ_len(void)
{
	size_t n = 0;
	while (environ[n])
		n++;
	return n;
}

static void fill_environment(struct program_image *img, const struct program_incoming *next)
{
	snprintf(img->variable, sizeof(img->variable), PROGRAM_ENV "=%02d,%d,%d,%d", next->sig,
		 next->mode, next->blob_fd, next->old_fd);
	img->envp[0] = img->variable;
	memcpy(img->envp + 1, environ, environ_len() * sizeof(*environ));
}

int program_image_init(struct program_image *img, struct program *p,
		       const struct program_incoming *next, struct error *err)
{
	*img = (struct program_image){0};
	img->envp = calloc(environ_len() + 2, sizeof(*img->envp));
	img->argv = calloc(PROGRAM_MAX_ARGS + 1, sizeof(*img->argv));
	if (!img->envp || !img->argv)
		return error_errno(err, ENOMEM, "environment of the next program");
	fill_environment(img, next);
	int rc = program_argv(p, img->argv, err);
	return rc < 0 ? rc : 0;
}

int program_image_back(struct program_image *img, char **argv, const struct program_incoming *next)
{
	*img = (struct program_image){.argv = argv};
	img->envp = pool_alloc(environ_len() + 2, sizeof(*img->envp));
	if (!img->envp)
		return -ENOMEM;
	fill_environment(img, next);
	return 0;
}

void program_image_free(struct program_image *img)
{
	free(img->envp);
	free(img->argv);
	*img = (struct program_image){0};
}

int program_open_self(struct fdset *fds, struct error *err)
{
	int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return error_errno(err, errno, "/proc/self/exe");
	int rc = fdset_keep(fds, "program", fd, err);
	if (rc)
		close(fd);
	return rc;
}

void program_settle(struct program *p, struct fdset *fds, enum program_mode mode)
{
	if (mode == PROGRAM_NEW) {
		fdset_close(fds, "program");
		fdset_rename(fds, "successor", "program");
	} else {
		fdset_close(fds, "successor");
		p->updates--; /* it was counted when the state was written */
	}
	fdset_take(fds, "program");
}
