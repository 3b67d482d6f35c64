/* SPDX-License-Identifier: MIT */
/* Names of system calls, from the C library's own header (CMakeLists.txt). */
#include "vmm/confine_rules.h"

static const char *const names[] = {
#include "syscalls.h"
};

const char *confine_call_name(long nr)
{
	return nr >= 0 && (size_t)nr < ARRAY_LEN(names) && names[nr] ? names[nr] : "?";
}
