/* SPDX-License-Identifier: MIT */
/*
 * Faults on purpose, for tests of the way back. Only in builds with -DMOLT_FAULTS=ON: the environment
 * variable MOLT_FAULT=POINT:ACTION makes the new program of an update do ACTION when it comes to
 * POINT; @FILE reads that from a file. In all other builds this is nothing.
 *
 * Points: entry, start, adopt, build and dma in the program that takes over, preflight in the one that is only
 * asked; each fires in its own kind alone. Actions: the table in fault.c.
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
