/* SPDX-License-Identifier: MIT */
/*
 * ACPI tables for the guest (ACPI specification 6.x), written to the BIOS area of guest memory when
 * the guest is created; an update finds them there. The DSDT is dsdt.asl, compiled at build time.
 */
#pragma once

#include "vmm/base/base.h"

struct machine;

/* *rsdp_gpa: where the root pointer is. Needs m->ram mapped and m->opt.cpus. */
int acpi_build(struct machine *m, uint64_t *rsdp_gpa, struct error *err);
