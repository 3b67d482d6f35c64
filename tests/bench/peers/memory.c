/* SPDX-License-Identifier: MIT */
/* Resident memory of a process, its guest's apart: all that it maps of memory files (memfd). */
#include "peer.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int memory_print(int pid)
{
	unsigned long rss = 0, private = 0, guest = 0, kb;
	char path[64], line[4200];
	bool is_guest = false;
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
			*(is_guest ? &guest : &rss) += kb;
		else if (!is_guest && (sscanf(line, "Private_Clean: %lu kB", &kb) == 1 ||
				       sscanf(line, "Private_Dirty: %lu kB", &kb) == 1))
		private += kb;
	}
	fclose(f);
	printf("rss_kb=%lu private_kb=%lu guest_kb=%lu\n", rss, private, guest);
	return 0;
}

int memory_main(int argc, char **argv)
{
	return argc == 2 ? memory_print(atoi(argv[1])) : 2;
}
