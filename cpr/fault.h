/* SPDX-License-Identifier: MIT */
/*
 * Faults on purpose, for tests of the way back. Only in builds with -DMOLT_FAULTS=ON: the environment
 * variable MOLT_FAULT=POINT:ACTION makes the new program of an update do ACTION when it comes to
 * POINT; more such words may follow, and @FILE reads them from a file. In all other builds this is
 * nothing.
 *
 * Points: entry, start, adopt, build and dma in the program that takes over, preflight in the one that is only
 * asked; each fires in its own kind alone. rescue is in an old program that the keeper has brought back, and
 * knows the action "fail" only: the error of a step. Actions of the others: the table in fault.c.
 *
 * dma-N, group-N and forget-N are in any program, when the N-th of such calls has been made (fault_ioctl.c):
 * a DMA range has its new address, an IOMMU group is given to the VM, DMA addresses are invalid. They know
 * "fail" too, which is EIO instead of the call.
 */
#ifndef MOLT_FAULT_H
#define MOLT_FAULT_H

struct error;

#ifdef MOLT_FAULTS
void fault_point(const char *name);
int fault_error(const char *name, struct error *err);
#else
static inline int fault_error(const char *name, struct error *err)
{
	(void)name;
	(void)err;
	return 0;
}

static inline void fault_point(const char *name)
{
	(void)name;
}
#endif

#endif
