/* SPDX-License-Identifier: MIT */
/* Writes and reads a state struct as its table of fields says, and checks all that it reads. */
#include "cpr/state/fields.h"

#include <libfdt.h>

#define field_error(code, fmt, ...)                                                                \
	error_set(err, code, "state %s.%s: " fmt, cls->name, f->name, ##__VA_ARGS__)

static uint32_t used_elements(const struct field *f, const void *state)
{
	if (f->len_offset == FIELD_FIXED)
		return f->count;
	uint32_t n;
	memcpy(&n, (const char *)state + f->len_offset, sizeof(n));
	return n;
}

/* Bytes that one integer takes in the tree. */
static uint32_t cell_bytes(const struct field *f)
{
	return f->size == 8 ? 8 : 4;
}

static void cells_put(char *out, const struct field *f, const char *in, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		uint64_t v = load_le(in + (size_t)i * f->size, f->size);
		if (f->size == 8)
			fdt64_st(out + (size_t)i * 8, v);
		else
			fdt32_st(out + (size_t)i * 4, (uint32_t)v);
	}
}

int fields_write(void *fdt, const struct state_class *cls, const void *state, struct error *err)
{
	for (uint32_t i = 0; i < cls->nfields; i++) {
		const struct field *f = &cls->fields[i];
		const char *in = (const char *)state + f->offset;
		uint32_t n = used_elements(f, state);
		int rc;

		if (n > f->count)
			return field_error(EINVAL, "%u elements, room for %u", n, f->count);
		if (f->type == FIELD_UINT) {
			void *out;
			rc = fdt_property_placeholder(fdt, f->name, (int)(n * cell_bytes(f)), &out);
			if (!rc)
				cells_put(out, f, in, n);
		} else if (f->type == FIELD_STRING) {
			if (!memchr(in, 0, f->size))
				return field_error(EINVAL, "no end");
			rc = fdt_property_string(fdt, f->name, in);
		} else {
			rc = fdt_property(fdt, f->name, in, (int)(n * f->size));
		}
		if (rc)
			return error_set(err, rc == -FDT_ERR_NOSPACE ? ENOSPC : EINVAL,
					 "state %s.%s: %s", cls->name, f->name, fdt_strerror(rc));
	}
	return 0;
}

static int bad_length(const struct state_class *cls, const struct field *f, int len,
		      struct error *err)
{
	return field_error(EBADMSG, "a length of %d bytes does not fit", len);
}

static int read_cells(const struct state_class *cls, const struct field *f, char *out,
		      const char *in, uint32_t n, struct error *err)
{
	for (uint32_t i = 0; i < n; i++) {
		uint64_t v = f->size == 8 ? fdt64_ld((const void *)(in + (size_t)i * 8))
					  : fdt32_ld((const void *)(in + (size_t)i * 4));
		if (f->size < 4 && v >> (f->size * 8))
			return field_error(EBADMSG, "0x%lx does not fit %u bytes", v, f->size);
		store_le(out + (size_t)i * f->size, v, f->size);
	}
	return 0;
}

static int read_field(const struct state_class *cls, const struct field *f, void *state,
		      const char *in, int len, struct error *err)
{
	char *out = (char *)state + f->offset;
	if (f->type == FIELD_STRING) {
		if (len < 1 || (uint32_t)len > f->size || in[len - 1] ||
		    memchr(in, 0, (size_t)len) != in + len - 1)
			return bad_length(cls, f, len, err);
		memcpy(out, in, (size_t)len);
		memset(out + len, 0, f->size - (uint32_t)len);
		return 0;
	}
	uint32_t unit = f->type == FIELD_UINT ? cell_bytes(f) : f->size;
	uint32_t n = (uint32_t)len / unit;
	if ((uint32_t)len % unit || n > f->count || (f->len_offset == FIELD_FIXED && n != f->count))
		return bad_length(cls, f, len, err);
	if (f->len_offset != FIELD_FIXED)
		memcpy((char *)state + f->len_offset, &n, sizeof(n));
	if (f->type == FIELD_UINT)
		return read_cells(cls, f, out, in, n, err);
	memcpy(out, in, (size_t)len);
	return 0;
}

static void set_default(const struct field *f, void *state)
{
	char *out = (char *)state + f->offset;
	if (f->len_offset != FIELD_FIXED)
		memset((char *)state + f->len_offset, 0, sizeof(uint32_t));
	else if (f->type != FIELD_UINT)
		memset(out, 0, (size_t)f->size * f->count);
	else
		for (uint32_t i = 0; i < f->count; i++)
			store_le(out + (size_t)i * f->size, f->def, f->size);
}

/* A property by its name. Blobs are in the order of the tables, so it mostly is the one at *@next; each lookup
 * by name walks over all that come before it. */
static const void *property(const void *fdt, int node, const char *name, int *next, int *len)
{
	const char *found;
	const void *value = fdt_getprop_by_offset(fdt, *next, &found, len);
	if (!value || strcmp(found, name)) {
		const struct fdt_property *p = fdt_get_property(fdt, node, name, len);
		if (!p)
			return NULL;
		*next = (int)((const char *)p - (const char *)fdt) - (int)fdt_off_dt_struct(fdt);
		value = p->data;
	}
	*next = fdt_next_property_offset(fdt, *next);
	return value;
}

int fields_read(const void *fdt, int node, const struct state_class *cls, void *state,
		struct error *err)
{
	int next = -1;
	for (uint32_t i = 0; i < cls->nfields; i++) {
		const struct field *f = &cls->fields[i];
		int len;
		const void *in = node < 0 ? NULL : property(fdt, node, f->name, &next, &len);
		if (in) {
			int rc = read_field(cls, f, state, in, len, err);
			if (rc)
				return rc;
		} else if (f->required) {
			return field_error(EBADMSG, "the field is missing");
		} else {
			set_default(f, state);
		}
	}
	return 0;
}
