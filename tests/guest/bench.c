/* SPDX-License-Identifier: MIT */
#include "bench.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cases.h"
#include "drives.h"
#include "session.h"

#define MAX_PHASES 32

struct phase {
	char name[48];
	uint64_t *ns;
	unsigned n;
};

struct bench {
	struct phase phases[MAX_PHASES];
	unsigned n;
};

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

/* Adds every "name":number inside "phases":{...} of a record. */
static void phases_add(struct bench *b, const char *record, unsigned room)
{
	const char *p = strstr(record, "\"phases\"");
	int used;
	char name[48];
	unsigned long long ns;

	p = p ? strchr(p, '{') : NULL;
	while (p && sscanf(p, "%*[{, ]\"%47[^\"]\" : %llu%n", name, &ns, &used) == 2) {
		unsigned i = 0;
		while (i < b->n && strcmp(b->phases[i].name, name))
			i++;
		if (i == MAX_PHASES)
			return;
		struct phase *ph = &b->phases[i];
		if (i == b->n) {
			b->n++;
			strcpy(ph->name, name);
			ph->ns = calloc(room, sizeof(*ph->ns));
		}
		if (ph->ns && ph->n < room)
			ph->ns[ph->n++] = ns;
		p += used;
	}
}

static void print_row(const char *name, uint64_t *ns, unsigned n, bool json, const char *sep)
{
	qsort(ns, n, sizeof(*ns), compare);
	if (json)
		printf("%s\"%s\": {\"median\": %llu, \"min\": %llu, \"max\": %llu}", sep, name,
		       (unsigned long long)ns[n / 2], (unsigned long long)ns[0],
		       (unsigned long long)ns[n - 1]);
	else
		printf("  %-28s %10.1f %10.1f %10.1f\n", name, (double)ns[n / 2] / 1e3,
		       (double)ns[0] / 1e3, (double)ns[n - 1] / 1e3);
}

int bench_pause(const struct settings *set, bool json)
{
	static const struct test_case test = {"bench", "gap", drive_gap, 1,
					      100,     20000, 30000,	 {"--mem", "256M"}};
	unsigned updates = set->updates ? set->updates : test.updates;
	struct session s;
	struct bench b = {.n = 0};

	int rc = session_start(&s, set, &test, updates);
	if (!rc)
		rc = drive_gap(&s, updates);
	for (const char *p = s.records; p && *p && !rc; p = strchr(p, '\n') + 1)
		phases_add(&b, p, updates);
	if (rc || !s.updates) {
		printf("bench: %s\n", s.error);
		session_show(&s);
		session_end(&s);
		return 1;
	}
	if (json)
		printf("{\"updates\": %u, ", s.updates);
	else
		printf("pause of %u updates, 1 vCPU, 256 MiB, us\n  %-28s %10s %10s %10s\n",
		       s.updates, "", "median", "min", "max");
	print_row(json ? "pause_ns" : "seen by the guest", s.gaps_ns, s.updates, json, "");
	print_row(json ? "pause_reported_ns" : "reported by molt", s.pauses_ns, s.updates, json,
		  ", ");
	if (json)
		printf(", \"phases\": {");
	for (unsigned i = 0; i < b.n; i++)
		print_row(b.phases[i].name, b.phases[i].ns, b.phases[i].n, json, i ? ", " : "");
	if (json)
		printf("}}\n");
	for (unsigned i = 0; i < b.n; i++)
		free(b.phases[i].ns);
	session_end(&s);
	return 0;
}
