/* SPDX-License-Identifier: MIT */
/* Resident memory of a process, its guest's apart: all that it maps of memory files (memfd). */
#include "peer.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int only_child(int pid)
{
	char path[64];
	int child = 0, more;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/children", pid, pid);
	FILE *f = fopen(path, "re");
	if (f && fscanf(f, "%d %d", &child, &more) != 1)
		child = 0;
	if (f)
		fclose(f);
	return child;
}

struct sums {
	unsigned long rss, private, guest;
};

static int add(int pid, struct sums *s)
{
	char path[64], line[4200];
	bool is_guest = false;
	unsigned long kb;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/smaps", pid);
	f = fopen(path, "re");
	if (!f)
		return complain("open %s", path);
	/* A mapping's line begins with its address, those about it with a name. */
	while (fgets(line, sizeof(line), f)) {
		if (isxdigit((unsigned char)line[0]) && !isupper((unsigned char)line[0]))
			is_guest = strstr(line, " /memfd:") != NULL;
		else if (sscanf(line, "Rss: %lu kB", &kb) == 1)
			*(is_guest ? &s->guest : &s->rss) += kb;
		else if (!is_guest && (sscanf(line, "Private_Clean: %lu kB", &kb) == 1 ||
				       sscanf(line, "Private_Dirty: %lu kB", &kb) == 1))
			s->private += kb;
	}
	fclose(f);
	return 0;
}

int memory_print(int pid)
{
	struct sums s = {0};
	int child = only_child(pid);

	if (add(pid, &s) || (child && add(child, &s)))
		return 1;
	printf("rss_kb=%lu private_kb=%lu guest_kb=%lu\n", s.rss, s.private, s.guest);
	return 0;
}

int memory_main(int argc, char **argv)
{
	return argc == 2 ? memory_print(atoi(argv[1])) : 2;
}
