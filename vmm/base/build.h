/* SPDX-License-Identifier: MIT */
/* Which build this is. */
#ifndef MOLT_BUILD_H
#define MOLT_BUILD_H

/* "0.1.0-a": project version and suffix. */
const char *build_version(void);

/* The linker's build id (GNU note) in hex, "" when there is none. Computed once. */
const char *build_id(void);

#endif
