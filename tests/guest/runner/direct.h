/* SPDX-License-Identifier: MIT */
/* What the file system of the sessions' folders makes of direct I/O. */
#ifndef RUNNER_DIRECT_H
#define RUNNER_DIRECT_H

#include <stdbool.h>

/* It refuses memory at an odd address, and takes the same at an even one. */
bool direct_is_strict(void);

#endif
