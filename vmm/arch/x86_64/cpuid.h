/* SPDX-License-Identifier: MIT */
/*
 * CPUID of a new guest: what KVM supports on this host, less what an update does not carry. A guest
 * that was taken over keeps what it was given (it is in the blob).
 */
#pragma once

#include "vmm/base/base.h"

struct kvm_cpuid2;
struct machine;

#define CPUID_MAX_ENTRIES 256

/* Fills @out, which has room for CPUID_MAX_ENTRIES. The same for all vCPUs. */
int cpuid_make(struct machine *m, struct kvm_cpuid2 *out, struct error *err);

/* Makes it that of vCPU @index of @ncpus: APIC id @index, one package, one thread a core. */
void cpuid_for_cpu(struct kvm_cpuid2 *c, uint32_t index, uint32_t ncpus);

/* The pure part of cpuid_make, for its test: hides features in @c, which has room for
 * CPUID_MAX_ENTRIES. */
void cpuid_filter(struct kvm_cpuid2 *c, bool tsc_deadline);
