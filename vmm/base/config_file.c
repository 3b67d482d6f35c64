/* SPDX-License-Identifier: MIT */
/* A file of options becomes words of the command line. */
#include "vmm/base/config_file.h"

#include <ctype.h>
#include <fcntl.h>

#define TEXT_MAX  (64 * 1024)
#define WORDS_MAX 1024

struct expanded {
	char **words;
	int n;
};

/* The arguments live as long as the process. */
static char *room_words[WORDS_MAX + 1];
static struct origin {
	const char *path; /* NULL: the command line itself */
	unsigned line;
} origins[WORDS_MAX];
static char room_text[TEXT_MAX];
static size_t room_used;

static int push(struct expanded *e, char *word, struct origin origin, struct error *err)
{
	if (e->n == WORDS_MAX) {
		error_end(err, EXIT_USAGE, E2BIG, "command line: more than %d words with --config",
			  WORDS_MAX);
		return error_hint(err, "give fewer options");
	}
	origins[e->n] = origin;
	e->words[e->n++] = word;
	return 0;
}

static int bad_line(const char *path, unsigned line, const char *what, struct error *err)
{
	error_end(err, EXIT_CONFIG, EINVAL, "--config %.300s, line %u: %s", path, line, what);
	return error_hint(err,
			  "each line is NAME = VALUE or NAME, an option of molt run without its "
			  "dashes; # begins a comment line");
}

static char *trim(char *text)
{
	while (isspace((uint8_t)*text))
		text++;
	size_t len = strlen(text);
	while (len && isspace((uint8_t)text[len - 1]))
		text[--len] = 0;
	return text;
}

/* Quotes around a value keep blanks at its ends. */
static char *unquote(char *value)
{
	size_t len = strlen(value);
	if (len < 2 || value[0] != '"' || value[len - 1] != '"')
		return value;
	value[len - 1] = 0;
	return value + 1;
}

/* "name = value" becomes "--name=value", which an option with a value understands whatever that begins with. */
static int take_line(struct expanded *e, const char *path, unsigned number, char *line,
		     struct error *err)
{
	line = trim(line);
	if (!*line || *line == '#')
		return 0;
	char *value = strchr(line, '=');
	if (value)
		*value++ = 0;
	const char *name = trim(line);
	if (!*name || name[strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-")] || *name == '-')
		return bad_line(path, number, "no name of an option", err);
	if (!strcmp(name, "config"))
		return bad_line(path, number, "a configuration file names no other one", err);
	value = value ? unquote(trim(value)) : NULL;
	char *word = room_text + room_used;
	size_t room = sizeof(room_text) - room_used;
	int n = snprintf(word, room, "--%s%s%s", name, value ? "=" : "", value ?: "");
	if ((size_t)n >= room)
		return bad_line(path, number, "more than 64 KiB of options", err);
	room_used += (size_t)n + 1;
	return push(e, word, (struct origin){path, number}, err);
}

static int read_file(const char *path, char *text, size_t size, struct error *err)
{
	fd_auto int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	ssize_t n = fd < 0 ? -1 : pread(fd, text, size, 0);
	if (n < 0)
		return error_file(err, errno, "--config %.300s", path);
	if ((size_t)n == size) {
		error_end(err, EXIT_CONFIG, EFBIG, "--config %.300s: longer than %zu bytes", path,
			  size - 1);
		return error_hint(err, "name a file of options, one a line");
	}
	text[n] = 0;
	if (strlen(text) != (size_t)n)
		return bad_line(path, 1, "not a text: it has a zero byte", err);
	return 0;
}

static int take_file(struct expanded *e, const char *path, struct error *err)
{
	static char text[TEXT_MAX + 1];
	char *rest = text;
	int rc = read_file(path, text, sizeof(text), err);
	for (unsigned number = 1; !rc && rest; number++)
		rc = take_line(e, path, number, strsep(&rest, "\n"), err);
	return rc;
}

int config_file_expand(int *argc, char ***argv, struct error *err)
{
	struct expanded e = {.words = room_words};
	bool found = false;
	int rc = 0;
	for (int i = 0; !rc && i < *argc; i++) {
		char *word = (*argv)[i], *path = NULL;
		if (!strncmp(word, "--config=", strlen("--config=")))
			path = word + strlen("--config=");
		else if (!strcmp(word, "--config") && i + 1 < *argc)
			path = (*argv)[++i];
		found = found || path;
		rc = path ? take_file(&e, path, err) : push(&e, word, (struct origin){0}, err);
	}
	if (rc || !found)
		return rc;
	e.words[e.n] = NULL;
	*argc = e.n;
	*argv = e.words;
	return 0;
}

static const struct origin *origin_of(const char *word)
{
	for (unsigned i = 0; room_words[i]; i++)
		if (room_words[i] == word && origins[i].path)
			return &origins[i];
	return NULL;
}

bool config_file_gave(const char *word)
{
	return origin_of(word);
}

int config_file_blame(const char *word, struct error *err)
{
	const struct origin *o = origin_of(word);
	return o ? error_prefix(err, "--config %.150s, line %u", o->path, o->line) : -err->code;
}

int config_file_check(const char *name, const char *text, struct error *err)
{
	for (; *text; text++)
		if (iscntrl((uint8_t)*text)) {
			error_set(err, EINVAL,
				  "no line of a file can say --%s: it has a control character",
				  name);
			return error_hint(err, "the guest's command line is in /proc/PID/cmdline");
		}
	return 0;
}

void config_file_print(FILE *out, const char *name, const char *text)
{
	size_t len = text ? strlen(text) : 0;
	bool quote = len && (strchr(" \"", text[0]) || text[len - 1] == ' ');
	fprintf(out, "%s%s%s%s%s\n", name, text ? " = " : "", quote ? "\"" : "", text ?: "",
		quote ? "\"" : "");
}
