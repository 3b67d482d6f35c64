/* SPDX-License-Identifier: MIT */
/* Which build this is. */
#pragma once

#include "vmm/base/base.h"

/* "0.1.0-a": project version and suffix. */
const char *build_version(void);

/* The linker's build id (GNU note) in hex, "" when there is none. Computed once. */
const char *build_id(void);
