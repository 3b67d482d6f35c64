/* SPDX-License-Identifier: MIT */
/* Which calls one kind of machine makes in an update that another does not. */
#include <stdlib.h>
#include <string.h>

#include "tests/guest/inject/inject.h"

static bool same_thread(const struct inject_call *a, const struct inject_call *b)
{
	return a->image == b->image && a->role == b->role && a->cpu == b->cpu;
}

static bool same_call(const struct inject_call *a, const struct inject_call *b)
{
	return a->nr == b->nr && a->request == b->request &&
	       inject_kind_of(a) ==
		       inject_kind_of(b); /* which looks at the file where it matters */
}

/* Places of the calls of that thread. */
static unsigned select_thread(const struct inject_call *calls, unsigned n,
			      const struct inject_call *who, unsigned *at)
{
	unsigned found = 0;
	for (unsigned i = 0; i < n; i++)
		if (same_thread(&calls[i], who))
			at[found++] = i;
	return found;
}

/* Longest common subsequence, the earliest of calls alike taken as the common one: of two vCPUs made in
 * a row, the second is the one that was not there. */
static int compare_thread(const struct inject_call *base, const unsigned *a, unsigned na,
			  const struct inject_call *calls, const unsigned *b, unsigned nb,
			  bool *fresh)
{
	unsigned short *len = calloc((size_t)(na + 1) * (nb + 1), sizeof(*len));
	if (!len)
		return -1;
#define LEN(i, j) len[(size_t)(i) * (nb + 1) + (j)]
	for (unsigned i = na; i-- > 0;)
		for (unsigned j = nb; j-- > 0;)
			LEN(i, j) =
				(unsigned short)(same_call(&base[a[i]], &calls[b[j]])
							 ? LEN(i + 1, j + 1) + 1
						 : LEN(i + 1, j) > LEN(i, j + 1) ? LEN(i + 1, j)
										 : LEN(i, j + 1));
	for (unsigned i = 0, j = 0; j < nb;) {
		if (i < na && same_call(&base[a[i]], &calls[b[j]]))
			i++, j++;
		else if (i < na && LEN(i + 1, j) >= LEN(i, j + 1))
			i++;
		else
			fresh[b[j++]] = true;
	}
#undef LEN
	free(len);
	return 0;
}

int inject_fresh(const struct inject_call *base, unsigned nbase, const struct inject_call *calls,
		 unsigned n, bool *fresh)
{
	static unsigned a[INJECT_MAX_CALLS], b[INJECT_MAX_CALLS];
	static bool done[INJECT_MAX_CALLS];

	memset(fresh, 0, n * sizeof(*fresh));
	memset(done, 0, sizeof(done));
	for (unsigned i = 0; i < n; i++) {
		if (done[i])
			continue;
		unsigned na = select_thread(base, nbase, &calls[i], a),
			 nb = select_thread(calls, n, &calls[i], b);
		for (unsigned j = 0; j < nb; j++)
			done[b[j]] = true;
		if (compare_thread(base, a, na, calls, b, nb, fresh))
			return -1;
	}
	return 0;
}
