/* SPDX-License-Identifier: MIT */
/* Writes the state blob, and opens one that is not trusted. */
#include "cpr/state/state.h"

#include <libfdt.h>

#include "cpr/state/fdset.h"

#define TRAILER_MAGIC 0x31746c6f6d746661ull

struct trailer {
	uint64_t magic;
	uint64_t checksum; /* of everything before the trailer */
};

uint64_t state_checksum(const void *data, size_t len)
{
	const uint64_t prime = 0x100000001b3ull;
	uint64_t sum = 0xcbf29ce484222325ull;
	const char *p = data;
	for (; len >= 8; p += 8, len -= 8)
		sum = (sum ^ load_le(p, 8)) * prime;
	if (len)
		sum = (sum ^ load_le(p, len)) * prime;
	return sum;
}

int state_register(struct state_tree *tree, const struct state_section *s, struct error *err)
{
	for (unsigned i = 0; i < tree->n; i++)
		if (!strcmp(tree->sections[i].node, s->node))
			return error_set(err, EEXIST, "state %s: registered twice", s->node);
	if (tree->n == STATE_MAX_SECTIONS)
		return error_set(err, ENOSPC, "state %s: more than %d sections", s->node,
				 STATE_MAX_SECTIONS);
	tree->sections[tree->n++] = *s;
	return 0;
}

size_t state_size_bound(const struct state_tree *tree, const struct fdset *fds)
{
	/* Some more may be opened before it is written. */
	size_t n = 4096 + (size_t)(fds->n + 64) * (FDSET_NAME_LEN + 40);
	for (unsigned i = 0; i < tree->n; i++) {
		const struct state_class *cls = tree->sections[i].cls;
		/* a u8 becomes a cell of four bytes */
		size_t grown = 256 + STATE_NODE_LEN;
		for (uint32_t k = 0; k < cls->nfields; k++) {
			const struct field *f = &cls->fields[k];
			size_t unit = f->type == FIELD_UINT && f->size < 4 ? 4 : f->size;
			grown += 16 + strlen(f->name) + 1 + align_up(unit * f->count, 4);
		}
		n += grown;
	}
	return align_up(n, PAGE_LEN);
}

uint32_t state_number(const void *fdt, int node, const char *name)
{
	int len;
	const void *p = fdt_getprop(fdt, node, name, &len);
	return p && len == (int)sizeof(uint32_t) ? fdt32_ld(p) : 0;
}

const char *state_string(const void *fdt, int node, const char *name)
{
	int len;
	const char *s = fdt_getprop(fdt, node, name, &len);
	return s && len > 0 && !s[len - 1] ? s : NULL;
}

bool state_is_header(const char *property)
{
	static const char *const names[] = {"class", "version", "needs", "optional"};
	for (unsigned i = 0; i < ARRAY_LEN(names); i++)
		if (!strcmp(property, names[i]))
			return true;
	return false;
}

static int write_section(void *fdt, const struct state_section *s, struct error *err)
{
	int rc = fdt_begin_node(fdt, s->node)
			 ?: fdt_property_string(fdt, "class", s->cls->name)
			 ?: fdt_property_u32(fdt, "version", s->cls->version);
	if (!rc && s->cls->needs > 1)
		rc = fdt_property_u32(fdt, "needs", s->cls->needs);
	if (!rc && s->cls->optional)
		rc = fdt_property(fdt, "optional", NULL, 0);
	if (rc)
		return error_set(err, ENOSPC, "state %s: %s", s->node, fdt_strerror(rc));
	rc = fields_write(fdt, s->cls, s->state, err);
	if (rc)
		return error_prefix(err, "node %s", s->node);
	rc = fdt_end_node(fdt);
	return rc ? error_set(err, ENOSPC, "state %s: %s", s->node, fdt_strerror(rc)) : 0;
}

static int write_root(void *fdt, const struct state_header *h)
{
	return fdt_finish_reservemap(fdt)
		       ?: fdt_begin_node(fdt, "")
		       ?: fdt_property_string(fdt, "compatible", STATE_COMPATIBLE)
		       ?: fdt_property_string(fdt, "program-version", h->version)
		       ?: fdt_property_string(fdt, "build-id", h->build_id);
}

int state_save(const struct state_tree *tree, const struct fdset *fds,
	       const struct state_header *header, void *buf, size_t size, size_t *len,
	       struct error *err)
{
	size_t room = align_down(size, 8);
	if (room < sizeof(struct trailer) + 64)
		return error_set(err, ENOSPC, "state blob: %zu bytes are too few", size);
	room -= sizeof(struct trailer);
	/* Looking for each name among those already there would take most of the time. */
	int rc = fdt_create_with_flags(buf, (int)room, FDT_CREATE_FLAG_NO_NAME_DEDUP)
			 ?: write_root(buf, header);
	if (rc)
		return error_set(err, ENOSPC, "state blob: %s", fdt_strerror(rc));
	rc = fdset_write(buf, fds, err);
	for (unsigned i = 0; !rc && i < tree->n; i++) {
		const struct state_section *s = &tree->sections[i];
		if (s->pre_save)
			rc = s->pre_save(s->opaque, err);
		if (!rc)
			rc = write_section(buf, s, err);
	}
	if (rc)
		return rc;
	rc = fdt_end_node(buf) ?: fdt_finish(buf);
	if (rc)
		return error_set(err, ENOSPC, "state blob: %s", fdt_strerror(rc));

	size_t body = align_up(fdt_totalsize(buf), 8);
	memset((char *)buf + fdt_totalsize(buf), 0, body - fdt_totalsize(buf));
	struct trailer t = {TRAILER_MAGIC, state_checksum(buf, body)};
	memcpy((char *)buf + body, &t, sizeof(t));
	*len = body + sizeof(t);
	return 0;
}

static int read_string(const void *fdt, const char *name, char *out, size_t size, struct error *err)
{
	int len;
	const char *s = fdt_getprop(fdt, 0, name, &len);
	if (!s || len < 1 || s[len - 1] || (size_t)len > size)
		return error_set(err, EBADMSG, "state blob: property %s is missing or damaged",
				 name);
	memcpy(out, s, (size_t)len);
	return 0;
}

int state_open(struct state_blob *blob, const void *data, size_t len, struct error *err)
{
	struct trailer t;
	memset(blob, 0, offsetof(struct state_blob, nodes));
	if (len < sizeof(struct fdt_header) + sizeof(t) || len > INT32_MAX)
		return error_set(err, EBADMSG, "state blob: %zu bytes are no blob", len);
	/* libfdt also reads older versions, in which a name may be missing: then it crashes itself. */
	if (fdt_check_header(data) || fdt_version(data) < FDT_LAST_SUPPORTED_VERSION)
		return error_set(err, EBADMSG, "state blob: no flattened device tree");
	size_t total = fdt_totalsize(data), body = align_up(total, 8);
	if (!range_fits(body, sizeof(t), len))
		return error_set(err, EBADMSG, "state blob: truncated, %zu bytes of %zu", len,
				 body + sizeof(t));
	memcpy(&t, (const char *)data + body, sizeof(t));
	if (t.magic != TRAILER_MAGIC || t.checksum != state_checksum(data, body))
		return error_set(err, EBADMSG, "state blob: the checksum is wrong");
	int rc = fdt_check_full(data, total);
	if (rc)
		return error_set(err, EBADMSG, "state blob: %s", fdt_strerror(rc));

	char compatible[64];
	rc = read_string(data, "compatible", compatible, sizeof(compatible), err);
	if (rc)
		return rc;
	if (strcmp(compatible, STATE_COMPATIBLE))
		return error_set(err, EPROTO, "state blob: format %s, this program reads %s",
				 compatible, STATE_COMPATIBLE);
	struct state_header *h = &blob->header;
	rc = read_string(data, "program-version", h->version, sizeof(h->version), err)
		     ?: read_string(data, "build-id", h->build_id, sizeof(h->build_id), err);
	if (rc)
		return rc;
	blob->fdt = data;
	blob->len = body + sizeof(t);
	int node;
	fdt_for_each_subnode(node, data, 0) {
		if (blob->n == ARRAY_LEN(blob->nodes))
			return error_set(err, EBADMSG, "state blob: more than %zu nodes",
					 ARRAY_LEN(blob->nodes));
		blob->nodes[blob->n].node = node;
		blob->nodes[blob->n].used = false;
		blob->nodes[blob->n++].name = fdt_get_name(data, node, NULL);
	}
	return 0;
}

/* The node's index, or -1. Nodes are loaded in the order in which they were saved, and there may be thousands: so the
 * search begins where the last one has ended. */
static int find(struct state_blob *blob, const char *node)
{
	for (unsigned k = 0, i = blob->last; k < blob->n; k++, i = i + 1 < blob->n ? i + 1 : 0)
		if (!strcmp(blob->nodes[i].name, node)) {
			blob->last = i;
			return (int)i;
		}
	return -1;
}

int state_claim(struct state_blob *blob, const char *node)
{
	int i = find(blob, node);
	if (i < 0)
		return -1;
	blob->nodes[i].used = true;
	return blob->nodes[i].node;
}

static bool all_have_defaults(const struct state_class *cls)
{
	for (uint32_t i = 0; i < cls->nfields; i++)
		if (cls->fields[i].required)
			return false;
	return true;
}

static int check_class(const void *fdt, int node, const struct state_section *s, struct error *err)
{
	int len;
	const char *cls = state_string(fdt, node, "class");
	if (!cls || strcmp(cls, s->cls->name))
		return error_set(err, EPROTO, "state %s: class %.32s, expected %s", s->node,
				 cls ? cls : "missing", s->cls->name);
	const void *needs = fdt_getprop(fdt, node, "needs", &len);
	if (needs && len != (int)sizeof(uint32_t))
		return error_set(err, EBADMSG, "state %s: property needs is damaged", s->node);
	if (needs && fdt32_ld(needs) > s->cls->version)
		return error_set(err, EPROTO,
				 "state %s: needs version %u of class %s, this program has %u",
				 s->node, fdt32_ld(needs), s->cls->name, s->cls->version);
	return 0;
}

int state_load_section(struct state_blob *blob, const struct state_section *s, struct error *err)
{
	int node = state_claim(blob, s->node);
	if (node < 0 && !all_have_defaults(s->cls))
		return error_set(err, ENOENT, "state %s: the node is missing", s->node);
	int rc = node < 0 ? 0 : check_class(blob->fdt, node, s, err);
	if (rc)
		return rc;
	rc = fields_read(blob->fdt, node, s->cls, s->state, err);
	if (rc)
		return error_prefix(err, "node %s", s->node);
	return s->post_load ? s->post_load(s->opaque, err) : 0;
}

/* Has that node been loaded or claimed? Also false when there is none. */
static bool claimed(struct state_blob *blob, const char *node)
{
	int i = find(blob, node);
	return i >= 0 && blob->nodes[i].used;
}

int state_load(struct state_blob *blob, const struct state_tree *tree, struct error *err)
{
	for (unsigned i = 0; i < tree->n; i++) {
		if (claimed(blob, tree->sections[i].node))
			continue;
		int rc = state_load_section(blob, &tree->sections[i], err);
		if (rc)
			return rc;
	}
	for (unsigned i = 0; i < blob->n; i++)
		if (!blob->nodes[i].used &&
		    !fdt_getprop(blob->fdt, blob->nodes[i].node, "optional", NULL))
			return error_set(err, EPROTO, "state %s: this program does not know it",
					 blob->nodes[i].name);
	return 0;
}
