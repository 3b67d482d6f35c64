/* SPDX-License-Identifier: MIT */
/* Counters of a guest, kept over updates. */
#include "vmm/counters.h"

#include "vmm/kvm_stats.h"
#include "vmm/machine.h"

const char *const counters_failures[FAILURES] = {
	[FAILURE_CHECK] = "check", [FAILURE_TIMEOUT] = "timeout",     [FAILURE_REFUSED] = "refused",
	[FAILURE_ENDED] = "ended", [FAILURE_CANCELLED] = "cancelled", [FAILURE_OTHER] = "other",
};

#define US 1000ull
#define MS (1000 * US)
const uint64_t counters_bounds_ns[COUNTERS_BOUNDS] = {
	100 * US, 250 * US, 500 * US, 1 * MS,	2500 * US, 5 * MS,
	10 * MS,  25 * MS,  50 * MS,  100 * MS, 250 * MS,  1000 * MS,
};

#define S struct counters_state
static const struct field counters_fields[] = {
	FIELD_ARRAY_SINCE(S, failures, 1),  FIELD_ARRAY_SINCE(S, pauses, 1),
	FIELD_U_SINCE(S, pauses_ns, 1, 0),  FIELD_U_SINCE(S, exits, 1, 0),
	FIELD_U_SINCE(S, interrupts, 1, 0), FIELD_U_SINCE(S, console_dropped, 1, 0),
	FIELD_U_SINCE(S, reported, 1, 0),
};
#undef S
STATE_CLASS(counters_state_class, "counters", 1, struct counters_state, counters_fields,
	    .optional = true);

static int post_load(void *opaque, struct error *err)
{
	struct counters *c = opaque;
	c->exits_before = c->state.exits;
	c->interrupts_before = c->state.interrupts;
	return 0;
}

int counters_register(struct machine *m, struct error *err)
{
	const struct state_section s = {.node = "counters",
					.cls = &counters_state_class,
					.state = &m->counters.state,
					.opaque = &m->counters,
					.post_load = post_load};
	int rc = state_register(&m->tree, &s, err);
	return rc || !m->kept ? rc : state_load_section(m->kept, &s, err);
}

bool counters_read(struct machine *m)
{
	static const char *const names[] = {"exits", "irq_injections"};
	struct counters *c = &m->counters;
	uint64_t sum[ARRAY_LEN(names)] = {0}, values[ARRAY_LEN(names)];
	for (uint32_t i = 0; i < m->opt.cpus; i++) {
		if (kvm_stats_read(m->vcpus[i].stats_fd, names, ARRAY_LEN(names), values))
			return false;
		sum[0] += values[0];
		sum[1] += values[1];
	}
	c->state.exits = c->exits_before + sum[0];
	c->state.interrupts = c->interrupts_before + sum[1];
	return true;
}

void counters_failed(struct machine *m, enum counters_failure why)
{
	m->counters.state.failures[why]++;
}

void counters_paused(struct machine *m, uint64_t ns)
{
	struct counters_state *s = &m->counters.state;
	unsigned i = 0;
	while (i < COUNTERS_BOUNDS && ns > counters_bounds_ns[i])
		i++;
	s->pauses[i]++;
	s->pauses_ns += ns;
}
