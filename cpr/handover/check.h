/* SPDX-License-Identifier: MIT */
/* First step of an update, with the guest running: everything that can be checked. */
#pragma once

#include <stdbool.h>

struct device;
struct error;
struct machine;
struct reasons;

/* Opens the program at @path for execution and checks the file: executable, for this architecture, and
 * (unless @insecure) in nobody else's hands. Returns the descriptor (close-on-exec) or -errno. */
int check_program(const char *path, bool insecure, struct error *err);

/* Can it be kept now? 0, or -errno; since when that was seen: dev->blocked_s. Device lock held. */
int check_device(struct device *dev, struct error *err);

/* Looks at each device, and says in the log which of them updates will be refused for from now on. False: none of
 * this guest's devices ever is one. */
bool check_look(struct machine *m);

/* Can every device be kept now? 0, or the first one's -errno, and all reasons in @reasons. */
int check_devices(struct machine *m, struct reasons *reasons, struct error *err);

/* Both. Returns the program's descriptor, the caller's: what
 * was checked is what runs. Or -errno with the first reason in @err, and all of them in @reasons. */
int check_update(struct machine *m, const char *path, struct reasons *reasons, struct error *err);
