/* SPDX-License-Identifier: MIT */
/* The C library and the helpers that every file uses. Every other header includes it, so a .c file
 * need not. */
#pragma once

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/base/error.h"
#include "vmm/base/fd.h"
#include "vmm/base/log.h"
#include "vmm/base/num.h"
#include "vmm/base/pool.h"
