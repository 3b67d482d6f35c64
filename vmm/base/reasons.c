/* SPDX-License-Identifier: MIT */
/* Collects reasons, the last of which stands for those that there is no room for. */
#include "vmm/base/reasons.h"

void reasons_add(struct reasons *r, const char *text)
{
	if (r->n < REASONS_MAX) {
		snprintf(r->text[r->n++], REASON_LEN, "%.*s", REASON_LEN - 1, text);
		return;
	}
	r->more += r->more ? 1 : 2; /* it takes a text's place */
	snprintf(r->text[REASONS_MAX - 1], REASON_LEN, "and %u more", r->more);
}

void reasons_line(char *line, size_t size, const char *text)
{
	size_t n = 0;
	for (; *text && *text != '\n' && n + 1 < size; text++)
		line[n++] = *text >= 0x20 && *text <= 0x7e ? *text : '?';
	line[n] = 0;
}

void reasons_add_error(struct reasons *r, const struct error *err)
{
	char text[sizeof(err->text) + sizeof(err->hint) + 4];
	snprintf(text, sizeof(text), "%s%s%s%s", err->text, err->hint[0] ? " (" : "", err->hint,
		 err->hint[0] ? ")" : "");
	reasons_add(r, text);
}
