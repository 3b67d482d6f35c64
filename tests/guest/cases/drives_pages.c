/* SPDX-License-Identifier: MIT */
/* What backs guest memory: huge pages of the host, and memory of one of its nodes, in each program that has the
 * guest. */
#include <stdio.h>
#include <string.h>

#include "tests/guest/cases/cases.h"
#include "tests/guest/cases/drives.h"
#include "tests/guest/runner/session.h"

#define BOOT_MS 30000

/* What --mem says behind @key: hugetlb=2M, node=1. */
static const char *wanted(const struct session *s, const char *key)
{
	for (unsigned i = 0; i < TEST_ARGS && s->test->args[i]; i++) {
		const char *at = strstr(s->test->args[i], key);
		if (at)
			return at + strlen(key);
	}
	return "";
}

int drive_huge(struct session *s, unsigned updates)
{
	const char *size = wanted(s, "hugetlb=");

	if (session_expect(s, "READY", BOOT_MS))
		return -1;
	for (unsigned i = 0; i < updates; i++) {
		if (session_update(s))
			return -1;
		if (!record_is(s->record, "page_size", size))
			return session_fail(s, "not in pages of %s: %.300s", size, s->record);
	}
	return session_send(s, "q", 1) || session_finish(s) ? -1 : 0;
}

/* numa_maps(5): guest memory's pages are all of that node. */
static int on_node(struct session *s, const char *node)
{
	char path[64], line[1024], ours[16];
	bool there = false, others = false;

	snprintf(ours, sizeof(ours), " N%s=", node);
	snprintf(path, sizeof(path), "/proc/%d/numa_maps", (int)session_worker(s));
	FILE *f = fopen(path, "re");
	while (f && fgets(line, sizeof(line), f)) {
		if (!strstr(line, "molt-ram0"))
			continue;
		for (char *at = strstr(line, " N"); at; at = strstr(at + 1, " N"))
			if (strncmp(at, ours, strlen(ours)))
				others = true;
			else
				there = true;
	}
	if (f)
		fclose(f);
	return there && !others ? 0 : session_fail(s, "guest memory is not of node %s", node);
}

int drive_node(struct session *s, unsigned updates)
{
	const char *node = wanted(s, "node=");

	if (session_expect(s, "READY", BOOT_MS) || on_node(s, node))
		return -1;
	for (unsigned i = 0; i < updates; i++)
		if (session_update(s) || on_node(s, node))
			return -1;
	return session_send(s, "q", 1) || session_finish(s) ? -1 : 0;
}
