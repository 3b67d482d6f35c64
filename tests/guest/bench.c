/* SPDX-License-Identifier: MIT */
/* The pause beside that of the floor program (tests/bench/floor), in turns: machines are noisy. */
#include "bench.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cases.h"
#include "drives.h"
#include "session.h"

#define MAX_SERIES 40
#define ROUNDS	   5

struct series {
	char name[48];
	uint64_t *ns;
	unsigned n;
};

enum { SEEN, REPORTED, FLOOR, PHASES };

struct bench {
	struct series series[MAX_SERIES];
	unsigned n, room;
};

static void add(struct series *s, uint64_t ns, unsigned room)
{
	if (!s->ns)
		s->ns = calloc(room, sizeof(*s->ns));
	if (s->ns && s->n < room)
		s->ns[s->n++] = ns;
}

/* Adds every "name":number inside "phases":{...} of a record. */
static void phases_add(struct bench *b, const char *record)
{
	const char *p = strstr(record, "\"phases\"");
	int used;
	char name[48];
	unsigned long long ns;

	p = p ? strchr(p, '{') : NULL;
	while (p && sscanf(p, "%*[{, ]\"%47[^\"]\" : %llu%n", name, &ns, &used) == 2) {
		unsigned i = PHASES;
		while (i < b->n && strcmp(b->series[i].name, name))
			i++;
		if (i == MAX_SERIES)
			return;
		if (i == b->n)
			strcpy(b->series[b->n++].name, name);
		add(&b->series[i], ns, b->room);
		p += used;
	}
}

/* Updates of molt under the gap guest. */
static int round_molt(struct bench *b, const struct settings *set, unsigned updates)
{
	static const struct test_case test = {"bench", "gap", drive_gap, 1,
					      100,     20000, 30000,	 {"--mem", "256M"}};
	struct session s;

	int rc = session_start(&s, set, &test, updates);
	if (!rc)
		rc = drive_gap(&s, updates);
	if (!rc && !s.updates)
		rc = session_fail(&s, "no update was made");
	for (unsigned i = 0; i < s.updates && !rc; i++) {
		add(&b->series[SEEN], s.gaps_ns[i], b->room);
		add(&b->series[REPORTED], s.pauses_ns[i], b->room);
	}
	for (const char *p = s.records; p && *p && !rc; p = strchr(p, '\n') + 1)
		phases_add(b, p);
	if (rc) {
		printf("bench: %s\n", s.error);
		session_show(&s);
	}
	session_end(&s);
	return rc;
}

static int round_floor(struct bench *b, const char *floor, unsigned updates)
{
	char command[512];
	unsigned long long ns;
	unsigned n = 0;

	snprintf(command, sizeof(command), "'%s' %u", floor, updates);
	FILE *in = popen(command, "r");
	if (in && fscanf(in, "gap_ns") == 0)
		for (; fscanf(in, "%llu", &ns) == 1; n++)
			add(&b->series[FLOOR], ns, b->room);
	if (in && pclose(in) == 0 && n == updates)
		return 0;
	printf("bench: the floor program %s failed\n", floor);
	return -1;
}

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static uint64_t median(const struct series *s)
{
	return s->n ? s->ns[s->n / 2] : 0;
}

static void print_table(const struct bench *b)
{
	static const char *const titles[] = {"seen by the guest", "reported by molt", "floor"};

	printf("pause of %u updates, 1 vCPU, 256 MiB, us\n  %-28s %10s %10s %10s\n",
	       b->series[SEEN].n, "", "median", "min", "max");
	for (unsigned i = 0; i < b->n; i++) {
		const struct series *s = &b->series[i];
		if (s->n)
			printf("  %-28s %10.1f %10.1f %10.1f\n", i < PHASES ? titles[i] : s->name,
			       (double)median(s) / 1e3, (double)s->ns[0] / 1e3,
			       (double)s->ns[s->n - 1] / 1e3);
	}
}

static void print_json(const struct bench *b)
{
	printf("{\"updates\": %u", b->series[SEEN].n);
	for (unsigned i = 0; i < b->n; i++) {
		const struct series *s = &b->series[i];
		const char *sep = i == PHASES ? ", \"phases\": {" : ", ";
		if (s->n)
			printf("%s\"%s\": {\"median\": %llu, \"min\": %llu, \"max\": %llu}", sep,
			       s->name, (unsigned long long)median(s), (unsigned long long)s->ns[0],
			       (unsigned long long)s->ns[s->n - 1]);
	}
	printf("%s", b->n > PHASES ? "}" : "");
}

static void print(struct bench *b, bool json)
{
	for (unsigned i = 0; i < b->n; i++)
		if (b->series[i].n)
			qsort(b->series[i].ns, b->series[i].n, sizeof(uint64_t), compare);
	double ratio = (double)median(&b->series[SEEN]) / (double)median(&b->series[FLOOR]);
	if (json) {
		print_json(b);
		printf(b->series[FLOOR].n ? ", \"ratio\": %.3f}\n" : "}\n", ratio);
	} else {
		print_table(b);
		if (b->series[FLOOR].n)
			printf("ratio to the floor: %.2f\n", ratio);
	}
}

int bench_pause(const struct settings *set, const char *floor, bool json)
{
	unsigned updates = set->updates ? set->updates : 100;
	struct bench b = {.n = PHASES, .room = updates};
	int rc = 0;

	strcpy(b.series[SEEN].name, "pause_ns");
	strcpy(b.series[REPORTED].name, "pause_reported_ns");
	strcpy(b.series[FLOOR].name, "floor_ns");
	for (unsigned r = 0; r < ROUNDS && !rc; r++) {
		unsigned n = updates / ROUNDS + (r < updates % ROUNDS);
		rc = n ? round_molt(&b, set, n) : 0;
		if (n && !rc && floor)
			rc = round_floor(&b, floor, n);
	}
	if (!rc)
		print(&b, json);
	for (unsigned i = 0; i < b.n; i++)
		free(b.series[i].ns);
	return rc ? 1 : 0;
}
