/* SPDX-License-Identifier: MIT */
/* Room for page tables: what they take, and what the host and our memory cgroups leave. */
#include "vmm/warm.h"

#define PATH_MAX_LEN 4096
#define ENTRY_LEN    8 /* bytes of an entry in a page table: x86-64 and arm64 */
#define HUGE_LEN     (2 * MIB)

/* An entry in the VM's page tables and one in the process's for each page; a sixteenth for the levels above, and
 * for what KVM keeps about each table. Huge pages of a file with small ones count as small. */
uint64_t warm_cost(uint64_t len, uint64_t page_len)
{
	uint64_t entries = len / (page_len >= HUGE_LEN ? HUGE_LEN : PAGE_LEN) * 2;
	return entries * ENTRY_LEN + entries * ENTRY_LEN / 16;
}

/* A number in a file; false where there is none, as in "max". */
static bool read_number(const char *folder, const char *name, uint64_t *out)
{
	char path[PATH_MAX_LEN + 64], text[32], *end;
	snprintf(path, sizeof(path), "%s/%s", folder, name);
	if (file_read_text(path, text, sizeof(text)) <= 0)
		return false;
	*out = strtoull(text, &end, 10);
	return end != text;
}

static void lower(struct warm_room *room, uint64_t limit, uint64_t used, const char *name,
		  const char *group)
{
	uint64_t left = limit > used ? limit - used : 0;
	if (left >= room->len)
		return;
	room->len = left;
	snprintf(room->limit, sizeof(room->limit), "%s of %.64s", name, group[0] ? group : "/");
}

/* One group and all above it: each has a limit of its own. @mount is where the hierarchy is mounted; groups that
 * are not to be seen there, as in a container, are left out. */
static void look_up(struct warm_room *room, const char *mount, char *group, const char *usage,
		    const char *const limits[])
{
	char folder[PATH_MAX_LEN];
	uint64_t used, limit;
	for (char *end = group + strlen(group);; end = strrchr(group, '/')) {
		if (!end)
			return;
		*end = 0;
		int n = snprintf(folder, sizeof(folder), "%s%s", mount, group);
		if (n > 0 && (size_t)n < sizeof(folder) && read_number(folder, usage, &used))
			for (unsigned i = 0; limits[i]; i++)
				if (read_number(folder, limits[i], &limit))
					lower(room, limit, used, limits[i], group);
		if (end == group)
			return;
	}
}

/* A line of /proc/self/cgroup: "0::/path" (version 2) or "4:memory:/path" (cgroups(7)). */
static void look_at_line(struct warm_room *room, const char *root, char *line)
{
	static const char *const v2[] = {"memory.max", "memory.high", NULL};
	static const char *const v1[] = {"memory.limit_in_bytes", NULL};
	/* version 2 alone, or beside version 1 */
	static const char *const mounts[] = {"/sys/fs/cgroup", "/sys/fs/cgroup/unified"};
	char mount[PATH_MAX_LEN], group[PATH_MAX_LEN];

	char *list = strchr(line, ':');
	char *path = list ? strchr(list + 1, ':') : NULL;
	if (!path || path[1] != '/')
		return;
	*path++ = 0;
	if (!strcmp(path, "/"))
		path++;
	if (!list[1]) {
		for (unsigned i = 0; i < ARRAY_LEN(mounts); i++) {
			snprintf(mount, sizeof(mount), "%s%s", root, mounts[i]);
			snprintf(group, sizeof(group), "%s", path);
			look_up(room, mount, group, "memory.current", v2);
		}
	} else if (!strcmp(list + 1, "memory")) {
		snprintf(mount, sizeof(mount), "%s/sys/fs/cgroup/memory", root);
		snprintf(group, sizeof(group), "%s", path);
		look_up(room, mount, group, "memory.usage_in_bytes", v1);
	}
}

void warm_room(const char *root, struct warm_room *out)
{
	char path[PATH_MAX_LEN], text[PATH_MAX_LEN * 2], *rest = NULL;
	*out = (struct warm_room){.len = UINT64_MAX};

	snprintf(path, sizeof(path), "%s/proc/meminfo", root);
	const char *at =
		file_read_text(path, text, sizeof(text)) > 0 ? strstr(text, "MemAvailable:") : NULL;
	if (at) {
		out->len = strtoull(at + strlen("MemAvailable:"), NULL, 10) * KIB;
		snprintf(out->limit, sizeof(out->limit), "MemAvailable");
	}
	snprintf(path, sizeof(path), "%s/proc/self/cgroup", root);
	if (file_read_text(path, text, sizeof(text)) <= 0)
		return;
	for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest))
		look_at_line(out, root, line);
}
