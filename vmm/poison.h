/* SPDX-License-Identifier: MIT */
/*
 * Guest memory that the host's hardware has lost. The kernel takes the page away and tells by SIGBUS (sigaction(2),
 * BUS_MCEERR_AR and BUS_MCEERR_AO); the guest is told as hardware would, and may go on without what was there.
 */
#pragma once

#include "vmm/base/base.h"

struct machine;
struct vcpu;

/* Takes SIGBUS from here on. What is not about guest memory has its former effect. To be called once, after the
 * console, which may have a handler of its own. */
void poison_watch(struct machine *m);

/* KVM_RUN, on the vCPU's own thread: its result, with errno. */
int poison_run(struct vcpu *cpu);

/* After it: tells the guest of what was lost. 0, or -EOPNOTSUPP: the vCPU waits for a page that is lost, and the guest
 * does not hear of it. */
int poison_tell(struct vcpu *cpu, struct error *err);
