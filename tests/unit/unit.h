/* SPDX-License-Identifier: MIT */
/* What the unit tests share: cmocka in the order it wants, and checks on state classes. */
#ifndef MOLT_TESTS_UNIT_H
#define MOLT_TESTS_UNIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cpr/state/fields.h"
#include "vmm/base/num.h"

/* Offset of the first byte of the state struct that no field of the table covers (a member
 * forgotten, or padding), or its size when all are covered. */
static inline uint32_t unit_uncovered(const struct state_class *cls)
{
	uint8_t *seen = calloc(1, cls->size);
	uint32_t at = 0;
	for (uint32_t i = 0; i < cls->nfields; i++) {
		const struct field *f = &cls->fields[i];
		memset(seen + f->offset, 1, (size_t)f->size * f->count);
		if (f->len_offset != FIELD_FIXED)
			memset(seen + f->len_offset, 1, sizeof(uint32_t));
	}
	while (at < cls->size && seen[at])
		at++;
	free(seen);
	return at;
}

#endif
