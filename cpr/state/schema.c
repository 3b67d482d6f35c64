/* SPDX-License-Identifier: MIT */
/* A schema of a blob; finding things in any schema. */
#include "cpr/state/schema.h"

#include <ctype.h>
#include <libfdt.h>

void schema_name(char *to, size_t size, const char *from)
{
	size_t n = 0;
	for (; *from && n + 1 < size; from++)
		to[n++] = (char)(isalnum((unsigned char)*from) || strchr(",._+*#@-", *from) ? *from
											    : '?');
	to[n] = 0;
}

static int add_node(struct schema *s, const void *fdt, int node, const char *name,
		    struct error *err)
{
	if (s->n == SCHEMA_MAX_CLASSES)
		return error_set(err, E2BIG, "state: more than %d nodes", SCHEMA_MAX_CLASSES);
	struct schema_class *c = &s->classes[s->n];
	int prop, len;
	const char *cls = state_string(fdt, node, "class");

	*c = (struct schema_class){.version = state_number(fdt, node, "version"),
				   .needs = state_number(fdt, node, "needs"),
				   .optional = fdt_getprop(fdt, node, "optional", NULL),
				   .always = true};
	schema_name(c->node, sizeof(c->node), name);
	if (!cls)
		return error_set(err, EBADMSG, "state %s: a node without a class", c->node);
	schema_name(c->name, sizeof(c->name), cls);
	fdt_for_each_property_offset(prop, fdt, node)
	{
		const char *field;
		fdt_getprop_by_offset(fdt, prop, &field, &len);
		if (state_is_header(field))
			continue;
		if (c->nfields == SCHEMA_MAX_FIELDS)
			return error_set(err, E2BIG, "state %s: more than %d fields", c->node,
					 SCHEMA_MAX_FIELDS);
		struct schema_field *f = &c->fields[c->nfields++];
		*f = (struct schema_field){.type = FIELD_OPAQUE, .size = (uint32_t)len, .count = 1};
		schema_name(f->name, sizeof(f->name), field);
	}
	s->n++;
	return 0;
}

int schema_of_blob(struct schema *s, const struct state_blob *blob, struct error *err)
{
	memset(s, 0, sizeof(*s));
	s->is_blob = true;
	memcpy(s->version, blob->header.version, sizeof(s->version));
	memcpy(s->build_id, blob->header.build_id, sizeof(s->build_id));
	for (unsigned i = 0; i < blob->n; i++) {
		if (!strcmp(blob->nodes[i].name, "fds"))
			continue;
		int rc = add_node(s, blob->fdt, blob->nodes[i].node, blob->nodes[i].name, err);
		if (rc)
			return rc;
	}
	return 0;
}

const struct schema_class *schema_find(const struct schema *s, const char *class_name)
{
	for (unsigned i = 0; i < s->n; i++)
		if (!strcmp(s->classes[i].name, class_name))
			return &s->classes[i];
	return NULL;
}

const struct schema_field *schema_field_find(const struct schema_class *c, const char *name)
{
	for (unsigned i = 0; i < c->nfields; i++)
		if (!strcmp(c->fields[i].name, name))
			return &c->fields[i];
	return NULL;
}
