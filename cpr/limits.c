/* SPDX-License-Identifier: MIT */
#include "cpr/limits.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

#include "vmm/base/error.h"
#include "vmm/base/fd.h"
#include "vmm/base/num.h"
#include "vmm/ram.h"

#define SLACK_LEN (16 * MIB) /* what another build may need beyond this one */
#define STACK_MIN MIB

/* What this process has mapped, and how much of it is writable and private: the new one needs about the
 * same (proc(5), statm: pages; the second to last number is data and stack). */
static int read_use(uint64_t *size, uint64_t *data)
{
	char text[128];
	unsigned long long all, private;
	if (file_read_text("/proc/self/statm", text, sizeof(text)) < 0 ||
	    sscanf(text, "%llu %*u %*u %*u %*u %llu", &all, &private) != 2)
		return -EIO;
	*size = all * PAGE_LEN;
	*data = private * PAGE_LEN;
	return 0;
}

int limits_check(const struct ram *ram, struct error *err)
{
	uint64_t size, data;
	int rc = read_use(&size, &data);
	if (rc)
		return error_errno(err, -rc, "/proc/self/statm");
	/* ram_map() asks for more than it keeps, to align it. */
	const struct {
		const char *name, *option;
		int resource;
		uint64_t need;
	} limits[] = {
		{"address space (RLIMIT_AS)", "as", RLIMIT_AS,
		 size + ram->state.page_len + SLACK_LEN},
		{"data (RLIMIT_DATA)", "data", RLIMIT_DATA, data + SLACK_LEN},
		{"stack (RLIMIT_STACK)", "stack", RLIMIT_STACK, STACK_MIN},
	};
	for (unsigned i = 0; i < ARRAY_LEN(limits); i++) {
		struct rlimit now;
		if (getrlimit(limits[i].resource, &now) < 0 || now.rlim_cur == RLIM_INFINITY ||
		    now.rlim_cur >= limits[i].need)
			continue;
		error_set(err, ENOMEM, "limit of %s: %llu KiB, the next program may need %llu",
			  limits[i].name, (unsigned long long)(now.rlim_cur / KIB),
			  (unsigned long long)(limits[i].need / KIB));
		return error_hint(err, "prlimit --pid %d --%s=%llu:", (int)getpid(),
				  limits[i].option, (unsigned long long)limits[i].need);
	}
	return 0;
}
