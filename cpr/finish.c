/* SPDX-License-Identifier: MIT */
#include "cpr/finish.h"

#include "cpr/blob.h"
#include "cpr/handover.h"
#include "cpr/keeper.h"
#include "cpr/report.h"
#include "vmm/base/log.h"
#include "vmm/control.h"
#include "vmm/machine.h"

#define SERVE_TRIES   100
#define SERVE_WAIT_MS 50

/* There is no way back any more: what is missing for a thread or a watch now may be there in a moment.
 * Without them the guest still has its memory, its vCPUs and its passed-through devices. */
static void serve(struct machine *m)
{
	struct error err;
	for (unsigned tries = 0; machine_serve(m, &err); tries++) {
		if (!tries)
			log_error(&err);
		if (tries == SERVE_TRIES) {
			log_warn("console and device models stand still until the next update");
			return;
		}
		handover_hold(SERVE_WAIT_MS);
	}
}

void finish(struct machine *m, struct program *p, enum program_mode mode, struct blob *blob,
	    const struct state_blob *state, struct handover *times)
{
	struct report report = {.times = times,
				.old_version = state->header.version,
				.old_build = state->header.build_id,
				.blob_len = state->len};
	struct error err;
	vcpus_confine(m);
	serve(m);
	if (control_open(m, &err))
		log_error(&err);
	pthread_mutex_lock(&m->lock);
	keeper_release(&m->fds);
	program_settle(p, &m->fds, mode);
	fdset_close_untaken(&m->fds);
	fdset_cloexec(&m->fds, true, NULL);
	report.update = p->updates;
	pthread_mutex_unlock(&m->lock);
	blob_close(blob);
	vcpus_forget(m);
	if (mode == PROGRAM_NEW)
		report_done(m, &report);
	else
		report_brought_back(m, &report);
	pthread_mutex_lock(&m->lock);
	handover_close(times, &m->fds);
	pthread_mutex_unlock(&m->lock);
	if (control_start(m->control, &err))
		log_error(&err);
}
