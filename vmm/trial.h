/* SPDX-License-Identifier: MIT */
/*
 * A trial of the state of a running machine, in another process, for preflight: the same devices with
 * the same state sections, but no descriptor of the host beside /dev/kvm; and a VM of its own on that, whose
 * memory is nothing but address space and whose vCPUs are loaded as for real, and never run.
 *
 * It differs from taking over (machine_build) in this as well: it does not stop at the first failure.
 */
#ifndef MOLT_TRIAL_H
#define MOLT_TRIAL_H

struct machine;
struct reasons;
struct state_blob;

/* m->opt is filled, m->fds lists the descriptors that would be handed over by name (numbers mean nothing
 * and are made invalid), m->vm.kvm_fd is /dev/kvm. Adds to @reasons everything in the way; what it
 * made is left to the end of the process. */
void trial_run(struct machine *m, struct state_blob *blob, struct reasons *reasons);

#endif
