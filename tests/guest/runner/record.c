/* SPDX-License-Identifier: MIT */
/* Reading one report record: a JSON object on one line, keys unique but for those of "phases". */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/guest/runner/session.h"

static const char *value_of(const char *record, const char *key)
{
	char quoted[64];

	snprintf(quoted, sizeof(quoted), "\"%s\"", key);
	const char *p = strstr(record, quoted);
	if (!p)
		return NULL;
	p += strlen(quoted);
	p += strspn(p, " ");
	if (*p != ':')
		return NULL;
	return p + 1 + strspn(p + 1, " ");
}

int64_t record_number(const char *record, const char *key)
{
	const char *p = value_of(record, key);
	char *end;

	if (!p)
		return -1;
	long long v = strtoll(p, &end, 10);
	return end == p ? -1 : v;
}

bool record_text(const char *record, const char *key, char *out, size_t size)
{
	const char *p = value_of(record, key);
	size_t n = 0;

	out[0] = 0;
	if (!p || *p++ != '"')
		return false;
	while (*p && *p != '"' && n + 1 < size) {
		if (*p == '\\' && p[1])
			p++;
		out[n++] = *p++;
	}
	out[n] = 0;
	return true;
}

bool record_is(const char *record, const char *key, const char *value)
{
	char text[64];

	return record_text(record, key, text, sizeof(text)) && !strcmp(text, value);
}
