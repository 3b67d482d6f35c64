/* SPDX-License-Identifier: MIT */
/* A schema as text, to and fro, and as JSON. */
#include <inttypes.h>

#include "cpr/state/dump.h"
#include "cpr/state/schema.h"

const char *schema_type_text(const struct schema_field *f, char *buf)
{
	static const char *const names[] = {
		[FIELD_UINT] = "u", [FIELD_OPAQUE] = "bytes:", [FIELD_STRING] = "string:"};
	snprintf(buf, SCHEMA_TYPE_LEN, "%s%u", names[f->type],
		 f->type == FIELD_UINT ? f->size * 8 : f->size);
	return buf;
}

void schema_print(const struct schema *s, FILE *out)
{
	char type[SCHEMA_TYPE_LEN];
	fprintf(out, "schema %s %s %s\n", STATE_COMPATIBLE, s->version,
		s->build_id[0] ? s->build_id : "-");
	for (unsigned i = 0; i < s->n; i++) {
		const struct schema_class *c = &s->classes[i];
		fprintf(out, "class %s version %u needs %u%s%s\n", c->name, c->version, c->needs,
			c->always ? " always" : "", c->optional ? " optional" : "");
		for (unsigned k = 0; k < c->nfields; k++) {
			const struct schema_field *f = &c->fields[k];
			fprintf(out, "  %s %s %s%u since %u ", f->name, schema_type_text(f, type),
				f->counted ? "0.." : "", f->count, f->since);
			if (f->required)
				fprintf(out, "required\n");
			else
				fprintf(out, "default 0x%lx\n", f->def);
		}
	}
}

void schema_print_json(const struct schema *s, FILE *out)
{
	char type[SCHEMA_TYPE_LEN];
	fprintf(out, "{\"format\":\"%s\",\"version\":", STATE_COMPATIBLE);
	dump_json_string(out, s->version, strlen(s->version));
	fprintf(out, ",\"build\":");
	dump_json_string(out, s->build_id, strlen(s->build_id));
	fprintf(out, ",\"classes\":[");
	for (unsigned i = 0; i < s->n; i++) {
		const struct schema_class *c = &s->classes[i];
		fprintf(out, "%s{\"class\":", i ? "," : "");
		dump_json_string(out, c->name, strlen(c->name));
		fprintf(out,
			",\"version\":%u,\"needs\":%u,\"always\":%s,\"optional\":%s,\"fields\":[",
			c->version, c->needs, c->always ? "true" : "false",
			c->optional ? "true" : "false");
		for (unsigned k = 0; k < c->nfields; k++) {
			const struct schema_field *f = &c->fields[k];
			fprintf(out, "%s{\"name\":", k ? "," : "");
			dump_json_string(out, f->name, strlen(f->name));
			fprintf(out,
				",\"type\":\"%s\",\"count\":%u,\"counted\":%s,\"since\":%u,"
				"\"required\":%s",
				schema_type_text(f, type), f->count, f->counted ? "true" : "false",
				f->since, f->required ? "true" : "false");
			if (!f->required)
				fprintf(out, ",\"default\":%lu", f->def);
			fprintf(out, "}");
		}
		fprintf(out, "]}");
	}
	fprintf(out, "]}\n");
}

/* ---- reading: a line is refused unless it is exactly what schema_print writes ---- */

static bool parse_type(struct schema_field *f, const char *text)
{
	char again[SCHEMA_TYPE_LEN];
	unsigned n;
	if (sscanf(text, "u%u", &n) == 1 && (n == 8 || n == 16 || n == 32 || n == 64))
		*f = (struct schema_field){.type = FIELD_UINT, .size = n / 8};
	else if (sscanf(text, "bytes:%u", &n) == 1)
		*f = (struct schema_field){.type = FIELD_OPAQUE, .size = n};
	else if (sscanf(text, "string:%u", &n) == 1)
		*f = (struct schema_field){.type = FIELD_STRING, .size = n};
	else
		return false;
	return n && n < 1u << 24 && !strcmp(schema_type_text(f, again), text);
}

static bool parse_field(struct schema_class *c, const char *line)
{
	char name[SCHEMA_NAME_LEN], type[SCHEMA_TYPE_LEN], count[16], rule[16];
	struct schema_field *f = &c->fields[c->nfields];
	unsigned since;
	int end = 0;

	if (c->nfields == SCHEMA_MAX_FIELDS ||
	    sscanf(line, " %47s %23s %15s since %u %15s%n", name, type, count, &since, rule,
		   &end) != 5 ||
	    !parse_type(f, type))
		return false;
	f->counted = !strncmp(count, "0..", 3);
	if (sscanf(count + (f->counted ? 3 : 0), "%u", &f->count) != 1 || f->count >= 1u << 24)
		return false;
	f->required = !strcmp(rule, "required");
	if (!f->required &&
	    (strcmp(rule, "default") || sscanf(line + end, "%" SCNx64, &f->def) != 1))
		return false;
	f->since = since;
	schema_name(f->name, sizeof(f->name), name);
	c->nfields++;
	return true;
}

static bool parse_class(struct schema *s, const char *line)
{
	struct schema_class *c = &s->classes[s->n];
	int end = 0;
	if (s->n == SCHEMA_MAX_CLASSES)
		return false;
	char name[SCHEMA_NAME_LEN];
	*c = (struct schema_class){0};
	if (sscanf(line, "class %47s version %u needs %u%n", name, &c->version, &c->needs, &end) !=
	    3)
		return false;
	schema_name(c->name, sizeof(c->name), name);
	schema_name(c->node, sizeof(c->node), name);
	c->always = strstr(line + end, " always");
	c->optional = strstr(line + end, " optional");
	s->n++;
	return true;
}

int schema_parse(struct schema *s, char *text, struct error *err)
{
	unsigned number = 0;
	char format[48], version[64], build[48];

	memset(s, 0, sizeof(*s));
	for (char *line; (line = strsep(&text, "\n"));) {
		bool good = true;
		if (!number++) {
			good = sscanf(line, "schema %47s %63s %47s", format, version, build) == 3;
			if (good && strcmp(format, STATE_COMPATIBLE))
				return error_set(err, EPROTO, "format %s, this program reads %s",
						 format, STATE_COMPATIBLE);
			schema_name(s->version, sizeof(s->version), good ? version : "");
			schema_name(s->build_id, sizeof(s->build_id), good ? build : "");
		} else if (line[0] == ' ') {
			good = s->n && parse_field(&s->classes[s->n - 1], line);
		} else if (line[0]) {
			good = parse_class(s, line);
		}
		if (!good)
			return error_set(err, EBADMSG, "line %u is no line of a schema: '%.60s'",
					 number, line);
	}
	if (!s->n)
		return error_set(err, EBADMSG, "a schema without classes");
	return 0;
}
