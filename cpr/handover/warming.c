/* SPDX-License-Identifier: MIT */
/* The successor's warming: started, watched, reported. */
#include "cpr/handover/warming.h"

#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>

#include "cpr/handover/protocol.h"
#include "cpr/handover/wire.h"
#include "vmm/machine.h"
#include "vmm/sched.h"
#include "vmm/warm.h"

#define LOOK_MS 1000 /* between two looks at the thread */

static struct warming {
	struct machine *m;
	int peer;
	uint64_t begun_ns, budget_ns;
	struct warm_options options;
	struct warm_result result;
	struct error err;
	int rc;
	int over;  /* eventfd: the thread is about to end */
	bool done; /* the same, seen a little later if that eventfd cannot be written */
	bool cancel;
} self;

/* How far warming is, in percent: of the memory, or of the time that it may take, whichever is nearer to its end. */
static void tell(void *opaque, uint64_t done, uint64_t total)
{
	static const char text[] = "warming guest memory";
	struct error ignored;
	uint64_t spent = (now_ns() - self.begun_ns) * 100 / self.budget_ns;
	uint64_t percent = total ? done * 100 / total : 100;
	(void)opaque;
	percent = percent > spent ? percent : spent;
	wire_send(self.peer, PROTOCOL_PROGRESS, percent < 100 ? (int64_t)percent : 100, text,
		  sizeof(text) - 1, NULL, 0, &ignored);
}

static void *run(void *opaque)
{
	prctl(PR_SET_NAME, "molt-warm");
	self.rc = warm_run(self.m, &self.options, &self.result, &self.err);
	const uint64_t one = 1;
	__atomic_store_n(&self.done, true, __ATOMIC_RELEASE);
	fd_write_all(self.over, &one, sizeof(one));
	return opaque;
}

static void report(const struct warm_result *r)
{
	if (r->warmed)
		log_info("warming: %llu of %llu MiB in %llu ms (%s)%s%s",
			 (unsigned long long)(r->warmed / MIB),
			 (unsigned long long)(r->total / MIB),
			 (unsigned long long)(r->ns / NS_PER_MS), warm_way_text(r->way),
			 r->why[0] ? ": " : "", r->why);
}

int warm_machine(struct machine *m, int peer, struct error *err)
{
	struct device *vfio = machine_device(m, "vfio-container", NULL);
	pthread_t thread;
	self = (struct warming){.m = m,
				.peer = peer,
				.begun_ns = now_ns(),
				.budget_ns = m->opt.warm_budget_ms * NS_PER_MS,
				.options = {.budget_ms = m->opt.warm_budget_ms,
					    .rest_percent = WARM_REST_PERCENT,
					    .pinned = vfio,
					    .progress = tell,
					    .cancel = &self.cancel}};
	if (!m->opt.warm_budget_ms)
		return 0;
	fd_auto int over = self.over = eventfd(0, EFD_CLOEXEC);
	if (over < 0)
		return error_errno(err, errno, "warming: eventfd");
	int rc = pthread_create(&thread, NULL, run, NULL);
	if (rc)
		return error_errno(err, rc, "warming: thread");
	struct pollfd p[] = {{.fd = over, .events = POLLIN}, {.fd = peer}};
	const uint64_t end_ns = self.begun_ns + self.budget_ns;
	while (!p[0].revents && !__atomic_load_n(&self.done, __ATOMIC_ACQUIRE)) {
		int left_ms = self.cancel ? 0 : ms_until(end_ns);
		int n = poll(p, ARRAY_LEN(p), left_ms && left_ms < LOOK_MS ? left_ms : LOOK_MS);
		bool gone = n > 0 && p[1].revents & (POLLHUP | POLLERR);
		if (gone) {
			p[1].fd = -1;
			__atomic_store_n(&self.cancel, true, __ATOMIC_RELEASE);
		}
		/* It is to end, and would only find out when nobody else wants the processor. Until then the incumbent
		 * is told that time passes: the thread may get none of it for long. */
		if (self.cancel || now_ns() >= end_ns)
			sched_hurry(thread);
		else if (!n)
			tell(NULL, 0, 1);
	}
	pthread_join(thread, NULL);
	report(&self.result);
	if (self.cancel)
		return error_set(err, EPIPE, "the incumbent has called it off");
	if (self.rc)
		*err = self.err;
	return self.rc;
}
