/* SPDX-License-Identifier: MIT */
/*
 * Faults on purpose, for tests of a hand-over that fails. Only in molt-faulty (tests/faulty), whose
 * variable MOLT_FAULT=POINT:ACTION makes the new program do ACTION at POINT; more such words may
 * follow, and @FILE reads them from a file. Actions: the table in tests/faulty/fault.c.
 *
 * Points of a successor: entry, hello, offer, build (devices are there), ready (all is), state
 * (devices are loaded), load (all is: commit is next). Of the program as a parent: rehearsal,
 * parent. group-N, dma-N, vhost-owner-N and others are the N-th of such calls
 * (tests/faulty/fault_ioctl.c): they know "fail" too, which is EIO instead of the call.
 */
#pragma once

#include "vmm/base/base.h"

#ifdef MOLT_FAULTS
void fault_point(const char *name);
int fault_error(const char *name, struct error *err);
#else
#define fault_point(name)      ((void)0)
#define fault_error(name, err) 0
#endif
