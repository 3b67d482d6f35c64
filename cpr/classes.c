/* SPDX-License-Identifier: MIT */
/* The schema of this program: classes of the machine, the architecture and the devices. */
#include "cpr/inspect.h"

#include "cpr/program.h"
#include "vmm/arch.h"
#include "vmm/base/build.h"
#include "vmm/console/console.h"
#include "vmm/counters.h"
#include "vmm/device.h"
#include "vmm/paused.h"
#include "vmm/ram.h"

/* Of every machine, beside its devices' and the architecture's. */
static const struct state_class *const machine_classes[] = {
	&program_state_class, &ram_state_class,	     &console_state_class,
	&paused_state_class,  &counters_state_class,
};

static void add_class(struct schema *s, const struct state_class *cls, bool always)
{
	struct schema_class *c = &s->classes[s->n++];
	*c = (struct schema_class){.version = cls->version,
				   .needs = cls->needs,
				   .optional = cls->optional,
				   .always = always};
	snprintf(c->name, sizeof(c->name), "%s", cls->name);
	snprintf(c->node, sizeof(c->node), "%s", cls->name);
	for (uint32_t i = 0; i < cls->nfields; i++) {
		const struct field *f = &cls->fields[i];
		struct schema_field *to = &c->fields[c->nfields++];
		*to = (struct schema_field){.type = f->type,
					    .size = f->size,
					    .count = f->count,
					    .counted = f->len_offset != FIELD_FIXED,
					    .required = f->required,
					    .since = f->since,
					    .def = f->def};
		snprintf(to->name, sizeof(to->name), "%s", f->name);
	}
}

static void add_devices(struct schema *s, const struct device_class *const *table, bool always)
{
	for (; *table; table++)
		if ((*table)->state)
			add_class(s, (*table)->state, always);
}

void schema_own(struct schema *s)
{
	memset(s, 0, sizeof(*s));
	snprintf(s->version, sizeof(s->version), "%s", build_version());
	snprintf(s->build_id, sizeof(s->build_id), "%s", build_id());
	for (unsigned i = 0; i < ARRAY_LEN(machine_classes); i++)
		add_class(s, machine_classes[i], true);
	for (unsigned i = 0; arch_state_classes[i]; i++)
		add_class(s, arch_state_classes[i], true);
	add_devices(s, devices_fixed, true);
	add_devices(s, devices_optional, false);
}
