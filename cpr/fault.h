/* SPDX-License-Identifier: MIT */
/*
 * Faults on purpose, for tests of what a hand-over that fails leaves behind. Only in molt-faulty (tests/faulty): the
 * environment variable MOLT_FAULT=POINT:ACTION makes the new program of an update do ACTION when it comes to POINT; more
 * such words may follow, and @FILE reads them from a file. In all other builds this is nothing.
 *
 * Points of a successor: entry (nothing said yet), hello, offer, build (devices are there), ready (all is), state (it has
 * come, devices are loaded), load (all is loaded: commit is next). Of the program as a parent: rehearsal (as a child that
 * tries), parent (that the process has just become). Actions: the table in tests/faulty/fault.c.
 *
 * group-N and dma-N are when the N-th of such calls has been made (tests/faulty/fault_ioctl.c): an IOMMU group is given
 * to the VM, a DMA range has its new address, which is after commit. They know "fail" too, which is EIO instead of
 * the call.
 */
#pragma once

#include "vmm/base/base.h"

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
