/* SPDX-License-Identifier: MIT */
/* A list of everything that is in the way, where the first thing alone is not enough. */
#pragma once

#include "vmm/base/base.h"

#define REASONS_MAX 16
#define REASON_LEN  512

struct reasons {
	unsigned n;    /* texts */
	unsigned more; /* that the last text stands for, 0: it stands for itself */
	char text[REASONS_MAX][REASON_LEN];
};

/* Adds one, cut to fit. When there are too many the last place says how many more. */
void reasons_add(struct reasons *r, const char *text);

/* Copies the line that begins at @text, cut to fit: what would steer a terminal becomes '?'. */
void reasons_line(char *line, size_t size, const char *text);

/* Adds an error, with its remedy. */
void reasons_add_error(struct reasons *r, const struct error *err);
