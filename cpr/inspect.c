/* SPDX-License-Identifier: MIT */
/* `molt state`: opens what the words name, a blob or a program, and prints or compares it. */
#include "cpr/inspect.h"

#include <ctype.h>
#include <elf.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "cpr/state/dump.h"

#define TEXT_MAX (1u << 20)
#define BLOB_MAX (1u << 30)

enum form { FORM_TEXT, FORM_JSON, FORM_DTS };

/* @word: that was not understood, or NULL. */
static int usage(const char *what, const char *word, struct error *err)
{
	const char *quote = word ? "'" : "";
	error_end(err, EXIT_USAGE, EINVAL, "molt state: %s%s%s%.200s%s", what, word ? ": " : "",
		  quote, word ?: "", quote);
	return error_hint(err, "molt state --help; molt(1) describes it");
}

/* ---- what a word names ---- */

/* A file mapped for reading, or a process: then @path is its program's. */
struct source {
	char path[4096];
	bool is_pid;
	void *map; /* NULL: not mapped */
	size_t len;
};

static int no_process(const char *pid, int code, struct error *err)
{
	error_end(err, EXIT_CONFIG, code, "process %s: %s", pid,
		  code == ENOENT ? "there is none" : strerror(code));
	return error_hint(err, code == ENOENT ? "molt list shows the process ids of guests"
					      : "ask as the user who runs it, or as root");
}

static int source_open(struct source *src, const char *word, struct error *err)
{
	struct stat st;
	*src = (struct source){.is_pid = word[0] && !word[strspn(word, "0123456789")]};
	int n = snprintf(src->path, sizeof(src->path), src->is_pid ? "/proc/%s/exe" : "%s", word);
	if ((size_t)n >= sizeof(src->path))
		return error_file(err, ENAMETOOLONG, "%.64s", word);
	fd_auto int fd = open(src->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0 && src->is_pid)
		return no_process(word, errno, err);
	if (fd < 0 || fstat(fd, &st) < 0)
		return error_file(err, errno, "%s", word);
	if (!S_ISREG(st.st_mode) || !st.st_size || (uint64_t)st.st_size > BLOB_MAX) {
		error_end(err, EXIT_CONFIG, EINVAL, "%s: no regular file, empty, or over 1 GiB",
			  word);
		return error_hint(err, "give the path of a molt, of saved state or of a schema");
	}
	src->len = (size_t)st.st_size;
	src->map = mmap(NULL, src->len, PROT_READ, MAP_PRIVATE, fd, 0);
	if (src->map != MAP_FAILED)
		return 0;
	src->map = NULL;
	return error_errno(err, errno, "%s", word);
}

static void source_close(struct source *src)
{
	if (src->map)
		munmap(src->map, src->len);
	src->map = NULL;
}

static bool starts_with(const struct source *src, const char *magic, size_t len)
{
	return src->len >= len && !memcmp(src->map, magic, len);
}

static bool is_program(const struct source *src)
{
	return starts_with(src, ELFMAG, SELFMAG);
}

static bool is_schema(const struct source *src)
{
	return starts_with(src, "schema ", 7);
}

/* Of a program, of a file with its schema, or of a blob. */
static int source_schema(const struct source *src, struct schema *out, struct error *err)
{
	struct state_blob blob;
	int rc;
	if (!is_program(src) && !is_schema(src)) {
		rc = state_open(&blob, src->map, src->len, err) ?: schema_of_blob(out, &blob, err);
		return rc ? error_prefix(err, "%s", src->path) : 0;
	}
	char *text = malloc(TEXT_MAX);
	if (!text || (!is_program(src) && src->len >= TEXT_MAX)) {
		free(text);
		return error_errno(err, ENOMEM, "%s", src->path);
	}
	if (is_program(src)) {
		rc = ask_schema(src->path, text, TEXT_MAX, err);
	} else {
		memcpy(text, src->map, src->len);
		text[src->len] = 0;
		rc = 0;
	}
	if (!rc && schema_parse(out, text, err))
		rc = error_prefix(err, "%s", src->path);
	free(text);
	return rc;
}

/* ---- the words ---- */

static int run_schema(struct schema *s, const char *const *names, unsigned n, enum form form,
		      struct error *err)
{
	if (n || form == FORM_DTS)
		return usage("schema takes --json at most", NULL, err);
	schema_own(s);
	(form == FORM_JSON ? schema_print_json : schema_print)(s, stdout);
	return 0;
}

static int dump_blob(const struct source *src, struct schema *known, enum form form,
		     struct error *err)
{
	struct state_blob blob;
	int rc = state_open(&blob, src->map, src->len, err);
	if (rc)
		return error_prefix(err, "%s", src->path);
	schema_own(known);
	if (form == FORM_DTS)
		dump_dts(blob.fdt, stdout);
	else
		(form == FORM_JSON ? dump_json : dump_text)(&blob, known, stdout);
	return 0;
}

static int run_dump(struct schema *s, const char *const *names, unsigned n, enum form form,
		    struct error *err)
{
	struct source src = {.map = NULL};
	if (n != 1)
		return usage("dump takes a file or a process id", NULL, err);
	int rc = source_open(&src, names[0], err);
	if (!rc && !is_program(&src) && !is_schema(&src)) {
		rc = dump_blob(&src, s, form, err);
	} else if (!rc && form == FORM_DTS) {
		rc = usage("--dts is for saved state: a schema is no tree", NULL, err);
	} else if (!rc) {
		rc = source_schema(&src, s, err);
		if (!rc)
			(form == FORM_JSON ? schema_print_json : schema_print)(s, stdout);
	}
	source_close(&src);
	return rc;
}

static int run_diff(struct schema *s, const char *const *names, unsigned n, enum form form,
		    struct error *err)
{
	if (n != 2 || form != FORM_TEXT)
		return usage("diff takes what is updated, and to what", NULL, err);
	for (unsigned i = 0; i < 2; i++) {
		struct source src = {.map = NULL};
		int rc = source_open(&src, names[i], err) ?: source_schema(&src, &s[i], err);
		source_close(&src);
		if (rc)
			return rc;
	}
	if (s[1].is_blob)
		return usage("saved state does not say what a program takes: diff to a program",
			     NULL, err);
	return schema_diff(&s[0], &s[1], stdout).refused ? EXIT_REFUSED : 0;
}

static const struct {
	const char *word;
	int (*run)(struct schema *s, const char *const *names, unsigned n, enum form form,
		   struct error *err);
} words[] = {{"dump", run_dump}, {"schema", run_schema}, {"diff", run_diff}};

int inspect_run(int argc, char *const argv[], struct error *err)
{
	const char *names[2];
	unsigned n = 0;
	enum form form = FORM_TEXT;

	for (int i = 0; i < argc; i++)
		if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h")) {
			fputs("usage: " INSPECT_USAGE, stdout);
			return 0;
		}
	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--json"))
			form = FORM_JSON;
		else if (!strcmp(argv[i], "--dts"))
			form = FORM_DTS;
		else if (argv[i][0] == '-' || n == 2)
			return usage(argv[i][0] == '-' ? "unknown option" : "unexpected argument",
				     argv[i], err);
		else
			names[n++] = argv[i];
	}
	for (unsigned i = 0; argc && i < ARRAY_LEN(words); i++) {
		if (strcmp(argv[0], words[i].word))
			continue;
		struct schema *s = calloc(2, sizeof(*s));
		if (!s)
			return error_errno(err, ENOMEM, "schema");
		int rc = words[i].run(s, names, n, form, err);
		free(s);
		/* The error is about what the words name. */
		if (rc < 0 && err->exit == EXIT_INTERNAL && err->code != ENOMEM) {
			error_exit(err, EXIT_CONFIG);
			if (!err->hint[0])
				error_hint(err, "name a molt, its process id, saved state, or "
						"output of molt state schema");
		}
		return rc;
	}
	return argc ? usage("not dump, schema or diff", argv[0], err)
		    : usage("dump, schema or diff is missing", NULL, err);
}
