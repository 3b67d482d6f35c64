/* SPDX-License-Identifier: MIT */
/* After an update guest memory is mapped again without the guest asking for it. */
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "drives.h"
#include "session.h"

#define BOOT_MS	   30000
#define TOUCH_MS   120000
#define MAP_MS	   10000
#define GUEST_KIB  (64 * 1024)
#define LOW_MEMORY 1024 /* KiB that the guest does not touch: its own program, the first MiB */

/* Memory files in the program's page tables, KiB: counted there, where the kernel's own sums of older kernels
 * lag behind (proc(5), smaps and status). */
static uint64_t mapped_kib(struct session *s)
{
	char path[64], line[512];
	unsigned long from, to;
	uint64_t kib, sum = 0;
	bool inside = false;

	snprintf(path, sizeof(path), "/proc/%d/smaps", (int)s->pid);
	FILE *f = fopen(path, "re");
	while (f && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%lx-%lx ", &from, &to) == 2)
			inside = strstr(line, "/memfd:");
		if (inside && sscanf(line, "Rss: %" SCNu64, &kib) == 1)
			sum += kib;
	}
	if (f)
		fclose(f);
	return sum;
}

static int wait_mapped(struct session *s, uint64_t kib)
{
	for (unsigned ms = 0; mapped_kib(s) < kib; ms += 10)
		if (ms > MAP_MS * s->set->slow || session_wait_us(s, 10000))
			return session_fail(
				s, "%" PRIu64 " KiB of guest memory are mapped, not %" PRIu64,
				mapped_kib(s), kib);
	return 0;
}

int drive_prefault(struct session *s, unsigned updates)
{
	if (session_expect(s, "READY", BOOT_MS) || wait_mapped(s, 1))
		return -1;
	/* Twice: what nobody has touched stays unmade; then all that the guest has is mapped. */
	for (unsigned i = 0; i < updates; i++) {
		if (i == 1 && (session_send(s, "m", 1) || session_expect(s, "TOUCHED ", TOUCH_MS)))
			return -1;
		uint64_t before = mapped_kib(s);
		if (i && before < GUEST_KIB - LOW_MEMORY)
			return session_fail(s, "only %" PRIu64 " KiB were touched", before);
		if (session_update(s) || wait_mapped(s, before))
			return -1;
		if (!i && (session_wait_us(s, 100000) || mapped_kib(s) > GUEST_KIB / 2))
			return session_fail(s, "%" PRIu64 " KiB are mapped, of %" PRIu64,
					    mapped_kib(s), before);
	}
	return session_send(s, "q", 1) || session_finish(s) ? -1 : 0;
}
