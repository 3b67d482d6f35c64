/* SPDX-License-Identifier: MIT */
/* The answer to a request of the control socket: one JSON object. */
#pragma once

#include "vmm/base/json.h"

struct machine;

/* {"event":@event,"result":"ok"; the caller adds what else there is. */
void answer_begin(struct json *j, char *buf, size_t size, const char *event);
void answer_put_version(struct json *j);
/* Sends it to whoever asked last. */
void answer_end(struct machine *m, struct json *j);
