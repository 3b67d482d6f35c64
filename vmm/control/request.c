/* SPDX-License-Identifier: MIT */
/* Reads one line of the control socket: a word and what belongs to it. */
#include "vmm/control/request.h"

static const struct {
	const char *name;
	enum control_word word;
	bool details; /* takes check and exe= */
} words[] = {
	{"status", CONTROL_STATUS, false},   {"update", CONTROL_UPDATE, true},
	{"stop", CONTROL_STOP, false},	     {"events", CONTROL_EVENTS, false},
	{"version", CONTROL_VERSION, false}, {"take", CONTROL_TAKE, false},
	{"config", CONTROL_CONFIG, false},   {"pause", CONTROL_PAUSE, false},
	{"resume", CONTROL_RESUME, false},   {"metrics", CONTROL_METRICS, false},
	{"console", CONTROL_CONSOLE, false}, {"rescan", CONTROL_RESCAN, false},
};

/* The next word of *@text, and *@text moved behind it and its blanks. */
static char *next_word(char **text)
{
	char *word = *text, *end = word + strcspn(word, " ");
	*text = end + strspn(end, " ");
	*end = 0;
	return word;
}

static int parse_exe(struct control_request *req, const char *file, struct error *err)
{
	size_t n = strlen(file);
	if (file[0] != '/' || n >= sizeof(req->exe)) {
		error_set(err, EINVAL, "exe=%.100s: not an absolute path of at most %zu bytes",
			  file, sizeof(req->exe) - 1);
		return error_hint(err, "exe=/path/to/molt, last in the line");
	}
	memcpy(req->exe, file, n + 1);
	return 0;
}

static int parse_details(struct control_request *req, char *rest, struct error *err)
{
	while (*rest) {
		if (!strncmp(rest, "exe=", 4))
			return parse_exe(req, rest + 4, err);
		const char *word = next_word(&rest);
		if (strcmp(word, "check")) {
			error_set(err, EINVAL, "'%.100s' says nothing to update", word);
			return error_hint(err, "update [check] [exe=FILE]");
		}
		req->check = true;
	}
	return 0;
}

static int hint_words(struct error *err)
{
	char list[200] = "";
	for (unsigned i = 0, n = 0; i < ARRAY_LEN(words); i++)
		n += (unsigned)snprintf(list + n, sizeof(list) - n, "%s%s", i ? ", " : "",
					words[i].name);
	return error_hint(err, "%s", list);
}

int control_request_parse(struct control_request *req, const char *line, size_t len,
			  struct error *err)
{
	char copy[CONTROL_LINE_LEN + 1], *rest = copy;

	*req = (struct control_request){.peer = -1};
	if (len > CONTROL_LINE_LEN)
		return error_set(err, EINVAL, "a request of %zu bytes, more than %d", len,
				 CONTROL_LINE_LEN);
	for (size_t i = 0; i < len; i++)
		if ((unsigned char)line[i] < ' ' || line[i] == 0x7f)
			return error_set(err, EINVAL, "control character at byte %zu", i);
	memcpy(copy, line, len);
	copy[len] = 0;
	rest += strspn(rest, " ");
	const char *name = next_word(&rest);
	for (unsigned i = 0; i < ARRAY_LEN(words); i++) {
		if (strcmp(name, words[i].name))
			continue;
		req->word = words[i].word;
		if (words[i].details)
			return parse_details(req, rest, err);
		return *rest ? error_set(err, EINVAL, "%s takes nothing more: '%.100s'", name, rest)
			     : 0;
	}
	error_set(err, EINVAL, "unknown request '%.100s'", name);
	return hint_words(err);
}

int control_rundir(char *buf, size_t size, struct error *err)
{
	const char *base = geteuid() ? getenv("XDG_RUNTIME_DIR") : "/run";
	if (!base || base[0] != '/') {
		error_end(err, EXIT_CONFIG, ENOENT,
			  "no folder for control sockets: XDG_RUNTIME_DIR is not set");
		return error_hint(
			err, "log in through a session manager, set it, or give the socket's path");
	}
	if ((size_t)snprintf(buf, size, "%s/molt", base) >= size) {
		error_end(err, EXIT_CONFIG, ENAMETOOLONG, "XDG_RUNTIME_DIR %.100s is too long",
			  base);
		return error_file_hint(err);
	}
	return 0;
}

int control_socket_path(const char *target, char *buf, struct error *err)
{
	char dir[CONTROL_PATH_LEN] = "";
	bool name = !strchr(target, '/');
	int rc = name ? control_rundir(dir, sizeof(dir), err) : 0;
	if (rc)
		return rc;
	int n = snprintf(buf, CONTROL_PATH_LEN, "%s%s%s%s", dir, name ? "/" : "", target,
			 name ? ".sock" : "");
	if (n < 0 || (size_t)n >= CONTROL_PATH_LEN) {
		error_end(err, EXIT_CONFIG, ENAMETOOLONG,
			  "control socket %.200s: its path is too long", target);
		return error_hint(err, "at most %zu bytes: the kernel allows no more",
				  CONTROL_PATH_LEN - 1);
	}
	return 0;
}
