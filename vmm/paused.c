/* SPDX-License-Identifier: MIT */
/* The guest is paused and resumed at its operator's word, or stays paused after a crash. */
#include "vmm/paused.h"

#include "vmm/machine.h"

static const struct field paused_fields[] = {
	FIELD_U_SINCE(struct paused_state, since_s, 1, 0),
	FIELD_U_SINCE(struct paused_state, uid, 1, 0),
	FIELD_U_SINCE(struct paused_state, pid, 1, 0),
	FIELD_U_SINCE(struct paused_state, code, 1, 0),
	FIELD_STR_SINCE(struct paused_state, reason, 1),
};
STATE_CLASS(paused_state_class, "paused", 1, struct paused_state, paused_fields);

int paused_register(struct machine *m, struct error *err)
{
	const struct state_section s = {
		.node = "paused", .cls = &paused_state_class, .state = &m->paused};
	return state_register(&m->tree, &s, err);
}

uint64_t paused_s(const struct machine *m)
{
	uint64_t now = boot_s(), since = m->paused.since_s;
	return since && now > since ? now - since : 0;
}

bool paused_begin(struct machine *m, uint32_t uid, uint32_t pid)
{
	if (m->paused.since_s)
		return false;
	m->paused = (struct paused_state){.since_s = boot_s() ?: 1, .uid = uid, .pid = pid};
	/* As for an update, but none follows. */
	vcpus_pause(m);
	vcpus_wait_saved(m, NULL);
	vcpus_go(m);
	vcpus_recall(m);
	return true;
}

bool paused_end(struct machine *m)
{
	if (!m->paused.since_s || m->paused.code)
		return false;
	m->paused = (struct paused_state){0};
	for (uint32_t i = 0; i < m->opt.cpus; i++)
		vcpu_arch_stood_still(&m->vcpus[i]);
	vcpus_go(m);
	/* A guest that was taken over while it was paused has not been out of the guest since. */
	if (!m->fresh)
		vcpus_filter(m);
	return true;
}

bool paused_keep(struct machine *m)
{
	paused_begin(m, 0, 0);
	return machine_keep(m);
}
