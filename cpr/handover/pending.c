/* SPDX-License-Identifier: MIT */
/* Signals that no worker has said to be serving. */
#include "cpr/handover/pending.h"

#include <signal.h>

static unsigned find(const struct pending *p, int sig)
{
	unsigned i = 0;
	while (i < p->n && p->sig[i] != sig)
		i++;
	return i;
}

bool pending_add(struct pending *p, int sig)
{
	if (sig == SIGUSR1 && find(p, sig) < p->n)
		return false;
	if (p->n < PENDING_MAX)
		p->sig[p->n++] = sig;
	return true;
}

void pending_taken(struct pending *p, int sig)
{
	unsigned i = find(p, sig);
	if (i == p->n)
		return;
	p->n--;
	memmove(p->sig + i, p->sig + i + 1, (p->n - i) * sizeof(p->sig[0]));
}
