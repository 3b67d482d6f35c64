/* SPDX-License-Identifier: MIT */
/* Whether a guest that has ended begins anew, and when; or stays as it is. */
#include "cpr/handover/reboot.h"
#include "vmm/machine.h"

/* A guest that resets at once, again and again, must not fill the log, nor take the host's time. */
#define QUICK_NS      (10 * NS_PER_S)
#define WAIT_NS	      NS_PER_S
#define WAIT_MOST_NS  (60 * NS_PER_S)
#define QUICK_COUNTED 6 /* WAIT_NS doubled so often is more than WAIT_MOST_NS */

static bool has_crashed(const struct machine *m)
{
	return m->stop_code == EXIT_CRASH || m->stop_code == EXIT_PANIC ||
	       m->stop_code == EXIT_INTERNAL;
}

bool reboot_wanted(const struct machine *m)
{
	if (m->ending) /* somebody waits for its end */
		return false;
	return m->stop_code == EXIT_RESET ? m->opt.on_reset == ON_RESET_REBOOT
					  : has_crashed(m) && m->opt.on_crash == ON_CRASH_REBOOT;
}

bool reboot_instead_kept(const struct machine *m)
{
	return !m->ending && has_crashed(m) && m->opt.on_crash == ON_CRASH_PAUSE;
}

int reboot_explain(const struct machine *m, struct error *err)
{
	bool kept = reboot_instead_kept(m);
	if (!kept && !reboot_wanted(m))
		return error_set(err, ECANCELED, "the guest has ended");
	error_set(err, ECANCELED, "the guest has %s and %s",
		  m->stop_code == EXIT_RESET ? "reset" : "crashed",
		  kept ? "stays as it is" : "begins anew");
	return error_hint(err, "ask again");
}

uint64_t reboot_backoff_ns(uint32_t *quick, uint64_t lasted_ns)
{
	if (lasted_ns >= QUICK_NS) {
		*quick = 0;
		return 0;
	}
	uint64_t ns = WAIT_NS << *quick;
	if (*quick < QUICK_COUNTED)
		++*quick;
	return ns < WAIT_MOST_NS ? ns : WAIT_MOST_NS;
}
