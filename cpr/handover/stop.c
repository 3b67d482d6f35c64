/* SPDX-License-Identifier: MIT */
/* Ending a guest from outside: its power button is pressed. After the timeout, or at a second request, it is ended. */
#include "cpr/handover/stop.h"

#include <signal.h>

#include "cpr/handover/report.h"
#include "devices/pc/pc.h"
#include "vmm/machine.h"

void stop_ask(struct machine *m, struct stopping *stop, int sig, const char *by)
{
	m->ending = true;
	if (m->stop_code >= 0) /* it has ended already, and must only not begin anew */
		return;
	if (m->paused.code) {
		machine_end(m, m->paused.code, m->paused.reason);
		return;
	}
	pthread_mutex_lock(&m->lock);
	bool listens = power_button(machine_device(m, "power", NULL));
	pthread_mutex_unlock(&m->lock);
	stop->sig = sig;
	stop->deadline_ns = now_ns() + m->opt.stop_timeout_s * NS_PER_S;
	/* A paused guest could not react to it. */
	if (paused_end(m))
		report_paused(m, "its power button");
	log_info("%s: power button pressed%s; the guest has %u s, a second signal ends it at once",
		 by, listens ? "" : " (the guest does not listen to it yet)",
		 m->opt.stop_timeout_s);
}

void stop_on_signal(struct machine *m, struct stopping *stop, int sig)
{
	if (stop->sig)
		machine_end(m, 128 + sig, "ended by a second signal");
	else
		stop_ask(m, stop, sig, sig == SIGTERM ? "SIGTERM" : "SIGINT");
}
