/* SPDX-License-Identifier: MIT */
/* JSON records: written into a buffer of the caller's, and read again by key. */
#pragma once

#include "vmm/base/base.h"

/* A text under construction. What does not fit is cut, and json_end then says so. */
struct json {
	char *text; /* always NUL-terminated */
	size_t size, len;
	bool cut;
};

void json_begin(struct json *j, char *buf, size_t size);

/* Commas come by themselves. @key: NULL inside an array. @bracket: '{' or '[', '}' or ']'. */
void json_open(struct json *j, const char *key, char bracket);
void json_close(struct json *j, char bracket);
void json_string(struct json *j, const char *key, const char *value);
void json_number(struct json *j, const char *key, uint64_t value);
void json_bool(struct json *j, const char *key, bool value);
/* The value as it is: a number in a format of its own, or JSON. */
void json_raw(struct json *j, const char *key, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* Ends the line. False: it did not fit, and the text is useless. */
bool json_end(struct json *j);

/* The value of @key, as a place in the object's text; NULL: there is none, or no object. */
const char *json_get(const char *object, const char *key);

/* The first element of an array, and the one after it. NULL: there is none. */
const char *json_first(const char *array);
const char *json_next(const char *element);

/* Copies a string value without quotes and escapes, cut to @size, fit for a terminal: control
 * characters but newline become '?'. Other values as they are. NULL gives "". Returns @out. */
char *json_text(const char *value, char *out, size_t size);

/* A number's whole part; 0 for anything else. */
uint64_t json_u64(const char *value);

/* Both of a member of @object. */
static inline char *json_get_text(const char *object, const char *key, char *out, size_t size)
{
	return json_text(json_get(object, key), out, size);
}

static inline uint64_t json_get_u64(const char *object, const char *key)
{
	return json_u64(json_get(object, key));
}
