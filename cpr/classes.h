/* SPDX-License-Identifier: MIT */
/* What this program saves and loads, as `molt state schema` prints it. */
#pragma once

#include "cpr/state/schema.h"

void schema_own(struct schema *s);
