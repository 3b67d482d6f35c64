/* SPDX-License-Identifier: MIT */
#include "tests/guest/runner/metrics.h"

#include <ctype.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/guest/runner/session.h"

struct family {
	char name[100], type[20];
	double last_bucket, last_le;
	bool inf;
};

static size_t name_len(const char *p)
{
	size_t n = 0;
	while (isalpha((unsigned char)p[n]) || p[n] == '_' || (n && isdigit((unsigned char)p[n])))
		n++;
	return n;
}

/* {name="value",...} or nothing; the length, or 0 with @good false. */
static size_t labels_len(const char *p, bool *good)
{
	const char *at = p;
	if (*at != '{')
		return 0;
	do {
		size_t n = name_len(++at);
		*good = n && at[n] == '=' && at[n + 1] == '"';
		if (!*good)
			return 0;
		for (at += n + 2; *at && *at != '"' && *at != '\\' && *at != '\n'; at++)
			;
		*good = *at++ == '"';
	} while (*good && *at == ',');
	*good = *good && *at++ == '}';
	return *good ? (size_t)(at - p) : 0;
}

/* "# HELP name text" and, next, "# TYPE name type". */
static bool head(const char *help, const char *type, struct family *f)
{
	size_t n = name_len(help + 7);
	*f = (struct family){.last_le = -1};
	if (strncmp(help, "# HELP ", 7) || !n || n >= sizeof(f->name) || help[7 + n] != ' ' ||
	    !help[8 + n])
		return false;
	memcpy(f->name, help + 7, n);
	if (strncmp(type, "# TYPE ", 7) || strncmp(type + 7, f->name, n) || type[7 + n] != ' ')
		return false;
	snprintf(f->type, sizeof(f->type), "%s", type + 8 + n);
	bool counter = !strcmp(f->type, "counter");
	/* "Metric and label naming": what is counted ends with _total, and nothing else does. */
	if (counter != (n > 6 && !strcmp(f->name + n - 6, "_total")))
		return false;
	return counter || !strcmp(f->type, "gauge") || !strcmp(f->type, "histogram");
}

static bool of_histogram(struct family *f, const char *suffix, const char *labels, double value)
{
	char *end;
	if (!strncmp(suffix, "_bucket{le=\"", 12)) {
		double le = strtod(labels + 5, &end);
		bool fits = !strcmp(end, "\"}") && le > f->last_le && value >= f->last_bucket;
		f->last_le = le;
		f->last_bucket = value;
		f->inf = isinf(le);
		return fits;
	}
	if (!strcmp(suffix, "_count"))
		return f->inf && value == f->last_bucket;
	return !strcmp(suffix, "_sum");
}

static bool sample(const char *line, struct family *f, struct metric *out)
{
	bool good = true;
	size_t n = name_len(line), own = strlen(f->name), l = n ? labels_len(line + n, &good) : 0;
	char *end;
	if (!n || !good || line[n + l] != ' ' || n + l >= sizeof(out->name) ||
	    strncmp(line, f->name, own))
		return false;
	memcpy(out->name, line, n + l);
	out->name[n + l] = 0;
	out->value = strtod(line + n + l + 1, &end);
	if (*end || end == line + n + l + 1 || isnan(out->value) || out->value < 0)
		return false;
	return strcmp(f->type, "histogram")
		       ? n == own
		       : of_histogram(f, out->name + own, out->name + n, out->value);
}

double metrics_get(const struct metrics *m, const char *name)
{
	for (unsigned i = 0; i < m->n; i++)
		if (!strcmp(m->m[i].name, name))
			return m->m[i].value;
	return NAN;
}

int metrics_read(struct session *s, const char *text, struct metrics *out)
{
	struct family f = {0};
	char copy[16384], seen[4096] = " ", *lines = copy;
	size_t len = strlen(text);
	if (len < 1 || len >= sizeof(copy) || text[len - 1] != '\n')
		return session_fail(s, "metrics: %zu bytes, or the last line has no end", len);
	memcpy(copy, text, len);
	copy[len - 1] = 0;
	out->n = 0;
	for (char *line; (line = strsep(&lines, "\n"));) {
		if (*line == '#') {
			char name[104], *type = strsep(&lines, "\n");
			if (!head(line, type ?: "", &f))
				return session_fail(s, "metrics: no head: '%s', '%s'", line,
						    type ?: "");
			snprintf(name, sizeof(name), " %s ", f.name);
			if (strstr(seen, name) || strlen(seen) + strlen(name) >= sizeof(seen))
				return session_fail(s, "metrics: twice:%s", name);
			strcat(seen, name + 1);
			continue;
		}
		if (out->n == METRICS_MAX || !sample(line, &f, &out->m[out->n]))
			return session_fail(s, "metrics: no sample of %s: '%s'", f.name, line);
		if (!isnan(metrics_get(out, out->m[out->n].name)))
			return session_fail(s, "metrics: twice: '%s'", line);
		out->n++;
	}
	return 0;
}
