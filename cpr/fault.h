/* SPDX-License-Identifier: MIT */
/*
 * Faults on purpose, for tests of the way back. Only in builds with -DMOLT_FAULTS=ON: the environment
 * variable MOLT_FAULT=POINT:ACTION makes the new program of an update do ACTION (segv, bus, abort,
 * kill, stop, exit, hang, close) when it comes to POINT; @FILE reads that from a file. In all other builds this is nothing.
 */
#ifndef MOLT_FAULT_H
#define MOLT_FAULT_H

#ifdef MOLT_FAULTS
void fault_point(const char *name);
#else
static inline void fault_point(const char *name)
{
	(void)name;
}
#endif

#endif
