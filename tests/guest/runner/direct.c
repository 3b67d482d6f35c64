/* SPDX-License-Identifier: MIT */
#include "tests/guest/runner/direct.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define BLOCK 4096

bool direct_is_strict(void)
{
	static char space[2 * BLOCK] __attribute__((aligned(BLOCK)));
	const char *tmp = getenv("TMPDIR");
	char path[160];

	snprintf(path, sizeof(path), "%.40s/guest-test.XXXXXX", tmp ? tmp : "/tmp");
	int fd = mkostemp(path, O_CLOEXEC);
	if (fd < 0)
		return false;
	unlink(path);
	/* Not by open(), which would leave a file behind where there is no direct I/O. */
	bool strict = !fcntl(fd, F_SETFL, O_DIRECT) && pwrite(fd, space, BLOCK, 0) == BLOCK &&
		      pwrite(fd, space + 1, BLOCK, 0) < 0 && errno == EINVAL;
	close(fd);
	return strict;
}
