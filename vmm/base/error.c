/* SPDX-License-Identifier: MIT */
/* Fills and extends a struct error. */
#include "vmm/base/error.h"

#include "vmm/base/base.h"

#include <errno.h>
#include <stdarg.h>
#include <sys/resource.h>

/* The code of an error that the caller did not want (NULL): what error_hint() and the like return. */
static _Thread_local int unwanted;

static int code_of(const struct error *err)
{
	return err ? err->code : unwanted;
}

/* The remedy of a process-wide limit, which no caller knows better. */
static void begin_hint(struct error *err)
{
	struct rlimit files;
	err->hint[0] = 0;
	if (err->code == EMFILE && !getrlimit(RLIMIT_NOFILE, &files))
		snprintf(err->hint, sizeof(err->hint),
			 "raise the limit of open files, now %llu: ulimit -n, LimitNOFILE= of a "
			 "systemd unit, or for a running guest prlimit --nofile, parent and worker",
			 (unsigned long long)files.rlim_cur);
}

int error_end(struct error *err, enum exit_code exit, int code, const char *fmt, ...)
{
	va_list ap;
	if (!err) {
		unwanted = code;
		return -code;
	}
	err->code = code;
	err->exit = exit;
	begin_hint(err);
	errno = code; /* for %m */
	va_start(ap, fmt);
	vsnprintf(err->text, sizeof(err->text), fmt, ap);
	va_end(ap);
	return -code;
}

int error_hint(struct error *err, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	if (err && err->code != EMFILE)
		vsnprintf(err->hint, sizeof(err->hint), fmt, ap);
	va_end(ap);
	return -code_of(err);
}

int error_file_hint(struct error *err)
{
	static const struct {
		int code;
		const char *remedy;
	} remedies[] = {
		{ENOENT, "check the path: a file or folder of it does not exist"},
		{ENOTDIR, "check the path: a part of it is no folder"},
		{EISDIR, "give the path of a file: this is a folder"},
		{EACCES, "let this user have it (chmod, chown), or give another path"},
		{EPERM, "let this user have it (chmod, chown), or give another path"},
		{EROFS, "give a path on a file system that can be written"},
		{ENOSPC, "make room on that file system, or give another path"},
		{EDQUOT, "make room on that file system, or give another path"},
		{ENAMETOOLONG, "give a shorter path"},
		{ENXIO, "let somebody read this FIFO first, or give another path"},
		{ELOOP, "check the symbolic links of the path"},
	};
	for (unsigned i = 0; i < ARRAY_LEN(remedies); i++)
		if (remedies[i].code == code_of(err))
			return error_hint(err, "%s", remedies[i].remedy);
	return error_hint(err, "give another path");
}

int error_prefix(struct error *err, const char *fmt, ...)
{
	char prefix[200], text[sizeof(err->text)];
	va_list ap;
	if (!err)
		return -code_of(err);
	va_start(ap, fmt);
	vsnprintf(prefix, sizeof(prefix), fmt, ap);
	va_end(ap);
	memcpy(text, err->text, sizeof(text));
	int n = snprintf(err->text, sizeof(err->text), "%s: ", prefix);
	if (n > 0 && (size_t)n < sizeof(err->text)) {
		size_t room = sizeof(err->text) - (size_t)n - 1, len = strnlen(text, room);
		memcpy(err->text + n, text, len);
		err->text[(size_t)n + len] = 0;
	}
	return -err->code;
}

int error_exit(struct error *err, enum exit_code exit)
{
	if (err)
		err->exit = exit;
	return -code_of(err);
}
