/* SPDX-License-Identifier: MIT */
/* How a vCPU's thread is scheduled: read when it parks, set when another program has the guest. */
#include <errno.h>
#include <sched.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "vmm/base/log.h"
#include "vmm/vcpu.h"

void vcpu_sched_save(struct vcpu *cpu)
{
	struct vcpu_sched *s = vcpu_arch_sched(cpu);
	struct sched_param param = {0};
	memset(s, 0, sizeof(*s));
	syscall(SYS_sched_getaffinity, 0, sizeof(s->affinity), s->affinity);
	int policy = (int)syscall(SYS_sched_getscheduler, 0);
	syscall(SYS_sched_getparam, 0, &param);
	s->policy = policy > 0 ? (uint32_t)policy : 0;
	s->priority = param.sched_priority > 0 ? (uint32_t)param.sched_priority : 0;
}

/* Only what the operator changed: a new thread has its creator's settings already. */
void vcpu_sched_load(struct vcpu *cpu)
{
	struct vcpu_sched want = *vcpu_arch_sched(cpu), *now = vcpu_arch_sched(cpu);
	vcpu_sched_save(cpu);
	struct sched_param param = {.sched_priority = (int)want.priority};
	if ((want.policy != now->policy || want.priority != now->priority) &&
	    syscall(SYS_sched_setscheduler, 0, (int)want.policy, &param) < 0)
		log_warn("vCPU %u: scheduling policy not restored: %s", cpu->index,
			 strerror(errno));
	if (want.affinity[0] && memcmp(want.affinity, now->affinity, sizeof(want.affinity)) &&
	    syscall(SYS_sched_setaffinity, 0, sizeof(want.affinity), want.affinity) < 0)
		log_warn("vCPU %u: affinity not restored: %s", cpu->index, strerror(errno));
}
