/* SPDX-License-Identifier: MIT */
/* as-user UID GID BYTES COMMAND...: runs a command as that user, who is in that group alone, may lock so
 * much memory, has no capability and gains none by exec. */
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	if (argc < 5) {
		fprintf(stderr, "usage: as-user UID GID BYTES COMMAND...\n");
		return 2;
	}
	uid_t uid = (uid_t)atoi(argv[1]);
	gid_t gid = (gid_t)atoi(argv[2]);
	rlim_t bytes = strtoull(argv[3], NULL, 10);
	const struct rlimit limit = {bytes, bytes};

	if (setrlimit(RLIMIT_MEMLOCK, &limit) || setgroups(1, &gid) || setresgid(gid, gid, gid) ||
	    setresuid(uid, uid, uid) || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)) {
		perror("as-user");
		return 1;
	}
	execv(argv[4], argv + 4);
	perror(argv[4]);
	return 1;
}
