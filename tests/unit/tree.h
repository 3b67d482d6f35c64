/* SPDX-License-Identifier: MIT */
/* Comparing flattened trees: node by node, in order, property by property; names may be laid out as
 * they like. */
#ifndef MOLT_TESTS_TREE_H
#define MOLT_TESTS_TREE_H

#include <libfdt.h>

#include "tests/unit/unit.h"

static inline void tree_assert_same_node(const void *a, int na, const void *b, int nb)
{
	const char *where = fdt_get_name(a, na, NULL);
	int pa = fdt_first_property_offset(a, na), pb = fdt_first_property_offset(b, nb);
	for (; pa >= 0 && pb >= 0;
	     pa = fdt_next_property_offset(a, pa), pb = fdt_next_property_offset(b, pb)) {
		const char *ka, *kb;
		int la, lb;
		const void *va = fdt_getprop_by_offset(a, pa, &ka, &la);
		const void *vb = fdt_getprop_by_offset(b, pb, &kb, &lb);
		if (strcmp(ka, kb))
			fail_msg("node '%s': property %s where %s was expected", where, ka, kb);
		if (la != lb || memcmp(va, vb, (size_t)la))
			fail_msg("node '%s': property %s differs (%d bytes, %d expected)", where,
				 ka, la, lb);
	}
	if (pa >= 0 || pb >= 0)
		fail_msg("node '%s': a property too %s", where, pa >= 0 ? "many" : "few");
	int ca = fdt_first_subnode(a, na), cb = fdt_first_subnode(b, nb);
	for (; ca >= 0 && cb >= 0; ca = fdt_next_subnode(a, ca), cb = fdt_next_subnode(b, cb)) {
		if (strcmp(fdt_get_name(a, ca, NULL), fdt_get_name(b, cb, NULL)))
			fail_msg("node '%s' where '%s' was expected", fdt_get_name(a, ca, NULL),
				 fdt_get_name(b, cb, NULL));
		tree_assert_same_node(a, ca, b, cb);
	}
	if (ca >= 0 || cb >= 0)
		fail_msg("node '%s' is too %s",
			 ca >= 0 ? fdt_get_name(a, ca, NULL) : fdt_get_name(b, cb, NULL),
			 ca >= 0 ? "many" : "few");
}

/* @a is what was made, @b what it should be. */
static inline void tree_assert_equal(const void *a, const void *b)
{
	tree_assert_same_node(a, 0, b, 0);
}

#endif
