/* SPDX-License-Identifier: MIT */
/* Writes JSON into a buffer of fixed size. */
#include "vmm/base/json.h"

#include <ctype.h>
#include <stdarg.h>

/* ---- writing ---- */

void json_begin(struct json *j, char *buf, size_t size)
{
	*j = (struct json){.text = buf, .size = size};
	buf[0] = 0;
}

static void put_args(struct json *j, const char *fmt, va_list ap)
{
	int n = vsnprintf(j->text + j->len, j->size - j->len, fmt, ap);
	if (n < 0 || (size_t)n >= j->size - j->len) {
		j->cut = true;
		j->len = j->size - 1;
	} else {
		j->len += (size_t)n;
	}
}

static void put(struct json *j, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void put(struct json *j, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	put_args(j, fmt, ap);
	va_end(ap);
}

static void put_quoted(struct json *j, const char *text)
{
	put(j, "\"");
	for (; *text; text++) {
		if (*text == '"' || *text == '\\')
			put(j, "\\%c", *text);
		else if ((unsigned char)*text < 0x20)
			put(j, "\\u%04x", (unsigned char)*text);
		else
			put(j, "%c", *text);
	}
	put(j, "\"");
}

static void put_key(struct json *j, const char *key)
{
	if (j->len && !strchr("{[", j->text[j->len - 1]))
		put(j, ",");
	if (!key)
		return;
	put_quoted(j, key);
	put(j, ":");
}

void json_open(struct json *j, const char *key, char bracket)
{
	put_key(j, key);
	put(j, "%c", bracket);
}

void json_close(struct json *j, char bracket)
{
	put(j, "%c", bracket);
}

void json_string(struct json *j, const char *key, const char *value)
{
	put_key(j, key);
	put_quoted(j, value);
}

void json_number(struct json *j, const char *key, uint64_t value)
{
	put_key(j, key);
	put(j, "%lu", value);
}

void json_bool(struct json *j, const char *key, bool value)
{
	put_key(j, key);
	put(j, "%s", value ? "true" : "false");
}

void json_raw(struct json *j, const char *key, const char *fmt, ...)
{
	va_list ap;
	put_key(j, key);
	va_start(ap, fmt);
	put_args(j, fmt, ap);
	va_end(ap);
}

bool json_end(struct json *j)
{
	put(j, "\n");
	return !j->cut;
}

/* ---- reading ---- */

static const char *skip_blanks(const char *p)
{
	return p + strspn(p, " \t\r\n");
}

/* Behind the string that begins at @p, or at the text's end. */
static const char *skip_string(const char *p)
{
	for (p++; *p && *p != '"'; p++)
		if (*p == '\\' && p[1])
			p++;
	return *p ? p + 1 : p;
}

/* Behind the value that begins at @p; brackets are counted, not matched. */
static const char *skip_value(const char *p)
{
	unsigned depth = 0;
	if (!strchr("\"{[", *p))
		return p + strcspn(p, ",}] \t\r\n");
	while (*p) {
		if (*p == '"') {
			p = skip_string(p);
		} else {
			depth += *p == '{' || *p == '[';
			depth -= depth && (*p == '}' || *p == ']');
			p++;
		}
		if (!depth)
			break;
	}
	return p;
}

const char *json_get(const char *object, const char *key)
{
	size_t n = strlen(key);
	const char *p = object ? skip_blanks(object) : "";
	if (*p != '{')
		return NULL;
	for (p = skip_blanks(p + 1); *p == '"'; p = skip_blanks(p + 1)) {
		const char *name = p + 1, *end = skip_string(p);
		p = skip_blanks(end);
		if (*p != ':')
			return NULL;
		p = skip_blanks(p + 1);
		if ((size_t)(end - name) == n + 1 && !memcmp(name, key, n))
			return *p ? p : NULL;
		p = skip_blanks(skip_value(p));
		if (*p != ',')
			return NULL;
	}
	return NULL;
}

const char *json_first(const char *array)
{
	const char *p = array ? skip_blanks(array) : "";
	if (*p != '[')
		return NULL;
	p = skip_blanks(p + 1);
	return *p && *p != ']' ? p : NULL;
}

const char *json_next(const char *element)
{
	const char *p = skip_blanks(skip_value(element));
	if (*p != ',')
		return NULL;
	p = skip_blanks(p + 1);
	return *p ? p : NULL;
}

/* The character that the escape at @p (behind the backslash) stands for; *len: how long it is. */
static char unescape(const char *p, size_t *len)
{
	static const char from[] = "nrtbf", to[] = "\n\r\t\b\f";
	const char *known = strchr(from, *p);
	char hex[5] = "";
	*len = 1;
	if (known)
		return to[known - from];
	if (*p != 'u')
		return *p;
	for (; *len < 5 && isxdigit((unsigned char)p[*len]); ++*len)
		hex[*len - 1] = p[*len];
	unsigned long code = strtoul(hex, NULL, 16);
	return code && code < 0x80 ? (char)code : '?';
}

char *json_text(const char *value, char *out, size_t size)
{
	size_t n = 0;
	if (value && *value == '"') {
		for (const char *p = value + 1; *p && *p != '"' && n + 1 < size;) {
			size_t len = 1;
			char c = *p++;
			if (c == '\\' && *p) {
				c = unescape(p, &len);
				p += len;
			}
			bool shown = c == '\n' || ((unsigned char)c >= 0x20 && c != 0x7f);
			out[n++] = shown ? c : '?';
		}
	} else if (value) {
		n = (size_t)(skip_value(value) - value);
		n = n < size ? n : size - 1;
		memcpy(out, value, n);
	}
	out[n] = 0;
	return out;
}

uint64_t json_u64(const char *value)
{
	return value && isdigit((unsigned char)*value) ? strtoull(value, NULL, 10) : 0;
}
