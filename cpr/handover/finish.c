/* SPDX-License-Identifier: MIT */
/* What the successor does after the pause, with the guest running. Nothing that fails here is a reason to lose it:
 * it is told, and tried again where that may help. */
#include "cpr/handover/finish.h"

#include "cpr/handover/oom.h"
#include "cpr/handover/page.h"
#include "cpr/handover/protocol.h"
#include "cpr/handover/report.h"
#include "cpr/handover/wire.h"
#include "cpr/handover/worker_link.h"
#include "vmm/control/control.h"
#include "vmm/machine.h"
#include "vmm/outfile.h"

#define SERVE_TRIES   100
#define SERVE_WAIT_MS 50

/* What somebody outside may be connected to. */
static int open_files(struct machine *m, struct error *err)
{
	return report_open(m, err) ?: control_open(m, err);
}

/* Memory or the user's threads may be short as long as there are two workers. What fails for that is tried again: the
 * former worker gives them back when it ends. Returns whether all is there. */
static bool serve_again(struct machine *m, bool served)
{
	struct error err;
	for (unsigned tries = 0; tries < SERVE_TRIES; tries++) {
		served = served || !machine_serve(m, &err);
		if (served && !open_files(m, &err))
			return true;
		handover_hold(SERVE_WAIT_MS);
	}
	log_warn("%s until the next update: %s",
		 served ? "nobody is answered" : "console and device models stand still", err.text);
	return false;
}

static void rest(void)
{
	handover_hold(HANDOVER_REST_MS);
}

/* Does one thing after the other, with a rest in between, since the guest, the former worker's end and the parent's
 * next image may all want the same processor. Done at once this was the longest gap that the guest saw. */
void finish(struct machine *m, int peer, struct report *report)
{
	struct error err;
	vcpus_filter(m);
	bool served = !machine_serve(m, &err);
	if (!served)
		log_error(&err);
	rest();
	bool open = !open_files(m, &err);
	if (!open)
		log_error(&err);
	/* It may have been rotated since the successor had it with its options. */
	if (outfile_log(m, &err))
		log_error(&err);
	vcpus_scrub(m);
	rest();
	wire_send(peer, PROTOCOL_DONE, 0, NULL, 0, NULL, 0, &err);
	close(peer);
	worker_owns();
	oom_restore();
	/* The next update has another chance to take what this one could not. */
	if ((served && open) || serve_again(m, served)) {
		pthread_mutex_lock(&m->lock);
		fdset_close_untaken(&m->fds);
		pthread_mutex_unlock(&m->lock);
	}
	rest();
	ram_page_text(&m->ram, report->pages, sizeof(report->pages));
	rest();
	report_done(m, report);
	if (control_start(m->control, &err))
		log_error(&err);
}
