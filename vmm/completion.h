/* SPDX-License-Identifier: MIT */
/* The words that shells complete (docs/completions, docs/packaging.md). Each line is CONTEXT|WORD, some with
 * |DESCRIPTION: after the words CONTEXT there may be WORD. A WORD in capitals is a kind: FILE, GUEST, DEVICE and so
 * on. */
#pragma once

#include "vmm/base/base.h"

/* From lines of --help, such as "molt update GUEST|--all [--exe FILE]    what it does"; others are passed over. */
void completion_usage(FILE *out, const char *text);

/* From the options of `molt run`. */
void completion_options(FILE *out);
