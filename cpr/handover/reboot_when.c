/* SPDX-License-Identifier: MIT */
/* Whether a guest that has ended begins anew, and when. */
#include "cpr/handover/reboot.h"
#include "vmm/machine.h"

/* A guest that resets at once, again and again, must not fill the log, nor take the host's time. */
#define QUICK_NS      (10 * NS_PER_S)
#define WAIT_NS	      NS_PER_S
#define WAIT_MOST_NS  (60 * NS_PER_S)
#define QUICK_COUNTED 6 /* WAIT_NS doubled so often is more than WAIT_MOST_NS */

bool reboot_wanted(const struct machine *m)
{
	if (m->ending) /* somebody waits for its end */
		return false;
	switch (m->stop_code) {
	case EXIT_RESET:
		return m->opt.on_reset == ON_RESET_REBOOT;
	case EXIT_CRASH:
	case EXIT_PANIC:
	case EXIT_INTERNAL:
		return m->opt.on_crash == ON_CRASH_REBOOT;
	default:
		return false;
	}
}

int reboot_explain(const struct machine *m, struct error *err)
{
	if (!reboot_wanted(m))
		return error_set(err, ECANCELED, "the guest has ended");
	error_set(err, ECANCELED, "the guest has %s and begins anew",
		  m->stop_code == EXIT_RESET ? "reset" : "crashed");
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
