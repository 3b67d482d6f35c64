/* SPDX-License-Identifier: MIT */
/*
 * The successor's story: greet, take descriptors, build the machine and try an offered state; then, in the pause, load
 * the real one, commit, run. Before commit it changes nothing that the incumbent shares.
 */
#include "cpr/handover/successor.h"

#include <fcntl.h>
#include <sys/prctl.h>

#include "cpr/fault.h"
#include "cpr/handover/blob.h"
#include "cpr/handover/finish.h"
#include "cpr/handover/former.h"
#include "cpr/handover/oom.h"
#include "cpr/handover/page.h"
#include "cpr/handover/protocol.h"
#include "cpr/handover/warming.h"
#include "cpr/handover/wire.h"
#include "cpr/handover/worker_guest.h"
#include "cpr/program.h"
#include "cpr/handover/report.h"
#include "vmm/base/build.h"
#include "vmm/base/reasons.h"
#include "vmm/machine.h"
#include "vmm/outfile.h"
#include "vmm/sched.h"

#define ANSWER_MS 60000 /* the incumbent serves others too; its end is noticed at once */

static struct successor {
	struct machine *m;
	struct program *p;
	int peer;
	struct blob offer, state;
	struct fdset listed; /* by the state: its room is made before the pause */
	struct handover *page;
} self;

static struct wire_message message;
static struct state_blob parsed;

static int say(enum protocol_kind kind, int64_t value, const char *text, struct error *err)
{
	return wire_send(self.peer, kind, value, text, text ? strlen(text) : 0, NULL, 0, err);
}

/* ---- greeting, descriptors ---- */

static int greet(struct error *err)
{
	char text[256];
	snprintf(text, sizeof(text), "molt-handover %u %u\n%s\n%s\n", PROTOCOL_OLDEST,
		 PROTOCOL_NEWEST, build_version(), build_id());
	return say(PROTOCOL_HELLO, 0, text, err);
}

static int take_offer(struct error *err)
{
	int offer = wire_take_fd(&message, 0), state = wire_take_fd(&message, 1);
	fd_auto int page = wire_take_fd(&message, 2);
	if (page < 0 || message.value < PROTOCOL_OLDEST || message.value > PROTOCOL_NEWEST) {
		fd_close(&offer);
		fd_close(&state);
		return error_set(err, EPROTO, "an offer that makes no sense (protocol %lld)",
				 (long long)message.value);
	}
	self.page = handover_map(page, err);
	int rc = self.page ? 0 : -err->code;
	if (!rc)
		rc = blob_expect(&self.state, state, err);
	else
		fd_close(&state);
	if (!rc)
		return blob_adopt(&self.offer, offer, err);
	fd_close(&offer);
	return rc;
}

static int take_fds(struct error *err)
{
	const struct protocol_fd *list = (const struct protocol_fd *)message.text;
	if (!message.nfds || message.len != message.nfds * sizeof(*list))
		return error_set(err, EPROTO, "%u descriptors with %zu bytes of names",
				 message.nfds, message.len);
	for (unsigned i = 0; i < message.nfds; i++) {
		struct protocol_fd one;
		memcpy(&one, list + i, sizeof(one));
		if (!one.name[0])
			return error_set(err, EPROTO, "a descriptor without a name");
		if (one.name[sizeof(one.name) - 1])
			return error_set(err, EPROTO, "a descriptor whose name has no end");
		int rc = fdset_receive(&self.m->fds, one.name, one.generation, message.fds[i], err);
		if (rc)
			return rc;
		wire_take_fd(&message, i);
	}
	return say(PROTOCOL_GOT, message.nfds, NULL, err);
}

/* Waits for a message of @kind; its descriptors are the caller's. Takes those of messages that come before it. */
static int await(enum protocol_kind kind, int timeout_ms, struct error *err)
{
	for (;;) {
		int rc = wire_recv(self.peer, &message, timeout_ms, err);
		if (!rc && message.kind == kind)
			return 0;
		if (!rc && message.kind == PROTOCOL_FDS)
			rc = take_fds(err);
		else if (!rc)
			rc = error_set(err, EPROTO, "message %u where %u was due", message.kind,
				       kind);
		wire_close_fds(&message);
		if (rc)
			return rc;
	}
}

/* ---- build, and the rehearsal ---- */

/* The options are those of the guest's start. Relative paths in them are relative to the folder of that time. */
static int take_options(struct state_blob *state, struct error *err)
{
	struct machine *m = self.m;
	int rc = state_load_section(state, &m->tree.sections[m->tree.n - 1], err)
			 ?: program_options(self.p, &m->opt, err);
	if (rc)
		return rc;
	program_go_to_folder(self.p);
	return outfile_log(m, err);
}

/* Takes over policy, affinity and cgroups of the incumbent's leader. Takes its nice value only when @ready: before that
 * this process works beside a running guest, and should not slow it down. */
static void be_scheduled(bool ready)
{
	struct thread_sched now, want = self.p->sched;
	sched_read(&now, getpid(), NULL);
	if (!ready && now.nice > want.nice)
		want.nice = now.nice;
	sched_apply(&want, &now, "leader");
}

/* Does not compare the offered state's list of descriptors with those received, because they change while the guest
 * runs. The state of the pause is compared (fdset_match). */
static int open_offer(struct error *err)
{
	return state_open(&parsed, self.offer.map, self.offer.len, err)
		       ?: fdset_list(&self.listed, &parsed, err);
}

/* Nothing is allocated in the pause, so there is room for as many again, which the guest may open until then. */
static int reserve(struct error *err)
{
	unsigned n = 2 * self.m->fds.n;
	return fdset_reserve(&self.m->fds, n, err) ?: fdset_reserve(&self.listed, n, err);
}

static int build(struct error *err)
{
	struct machine *m = self.m;
	int rc = open_offer(err);
	if (!rc)
		rc = worker_register(m, self.p, err);
	if (!rc)
		rc = take_options(&parsed, err);
	if (!rc)
		be_scheduled(false);
	if (!rc)
		rc = machine_build(m, &parsed, err);
	fault_point("build");
	if (!rc)
		rc = machine_join(m, err);
	if (!rc)
		rc = warm_machine(m, self.peer, err);
	return rc ? rc : machine_rehearse(m, err);
}

/* Loads the offered state and measures the time: the deadline in the pause is a multiple of it. */
static int rehearse(uint64_t *load_ns, struct error *err)
{
	uint64_t start_ns = now_ns();
	int rc = open_offer(err);
	if (!rc)
		rc = machine_load_devices(self.m, &parsed, err);
	*load_ns = now_ns() - start_ns;
	return rc;
}

static int get_ready(struct error *err)
{
	uint64_t load_ns;
	oom_probe_stack();
	int rc = oom_probe(0, err);
	if (!rc)
		rc = greet(err);
	fault_point("hello");
	if (!rc)
		former_follow(self.peer, ANSWER_MS);
	if (!rc)
		rc = await(PROTOCOL_OFFER, ANSWER_MS, err);
	if (!rc)
		rc = take_offer(err);
	wire_close_fds(&message);
	fault_point("offer");
	if (!rc)
		rc = await(PROTOCOL_BUILD, ANSWER_MS, err);
	wire_close_fds(&message);
	if (!rc)
		rc = build(err);
	if (!rc)
		rc = rehearse(&load_ns, err) ?: reserve(err);
	if (!rc)
		rc = oom_probe(self.m->opt.cpus, err);
	blob_close(&self.offer);
	if (!rc)
		be_scheduled(true);
	/* They are scheduled as the leader is. */
	if (!rc)
		rc = machine_spawn(self.m, err);
	fault_point("ready");
	return rc ? rc : say(PROTOCOL_READY, (int64_t)load_ns, NULL, err);
}

/* ---- in the pause ---- */

static int load(struct error *err)
{
	struct machine *m = self.m;
	handover_stamp(self.page, STAMP_STATE);
	vcpus_alert(m);
	int rc = blob_arrived(&self.state, (size_t)message.value, err);
	if (!rc)
		rc = state_open(&parsed, self.state.map, self.state.len, err);
	if (!rc)
		rc = fdset_match(&m->fds, &self.listed, &parsed, err);
	if (!rc)
		rc = machine_load_devices(m, &parsed, err);
	handover_stamp(self.page, STAMP_DEVICES);
	fault_point("state");
	if (!rc)
		rc = machine_load_cpus(m, err);
	handover_stamp(self.page, STAMP_LOAD);
	fault_point("load");
	return rc;
}

static int commit(struct error *err)
{
	/* A fault of this program may have closed its descriptors. Then it cannot run the guest, and the incumbent
	 * keeps it. */
	if (fcntl(self.peer, F_GETFD) < 0)
		return error_errno(err, errno, "the link to the incumbent");
	if (!handover_decide(self.page, HANDOVER_COMMITTED))
		return error_set(err, ETIMEDOUT, "the incumbent has taken the guest back");
	handover_stamp(self.page, STAMP_COMMIT);
	return 0;
}

/* ---- afterwards: the guest is ours, and no failure may lose it ---- */

static void run_guest(void)
{
	struct error err;
	if (machine_take(self.m, &err))
		log_error(&err);
	handover_stamp(self.page, STAMP_RUN);
	irq_attach_all(&self.m->irq, IRQ_LEVEL);
	/* The next steps wake threads, which may compete with the guest for its processor. */
	handover_hold(HANDOVER_HEAD_START_MS);
	prctl(PR_SET_NAME, "molt-worker");
}

/* Tells the incumbent why not. */
static void say_no(const struct error *why)
{
	struct error ignored;
	char text[1400];
	snprintf(text, sizeof(text), "%s%s%s%s\n", why->text, why->hint[0] ? " (" : "", why->hint,
		 why->hint[0] ? ")" : "");
	say(PROTOCOL_NO, 0, text, &ignored);
}

int successor_run(struct machine *m, struct program *p, int peer, struct error *err)
{
	self = (struct successor){.m = m, .p = p, .peer = peer, .offer.fd = -1, .state.fd = -1};
	sched_step_back();
	former_ask(peer);
	int rc = get_ready(err);
	/* The incumbent may be waiting for a disk; its own deadline limits that. */
	if (!rc)
		rc = await(PROTOCOL_STATE, -1, err);
	wire_close_fds(&message);
	if (!rc)
		rc = load(err);
	if (rc)
		say_no(err);
	else
		rc = commit(err);
	if (rc) {
		pool_free(self.listed.e);
		return rc;
	}
	run_guest();
	struct report report = {.times = self.page,
				.old_version = parsed.header.version,
				.old_build = parsed.header.build_id,
				.blob_len = parsed.len,
				.update = p->updates};
	blob_close(&self.state);
	pool_free(self.listed.e);
	finish(m, peer, &report);
	return 0;
}
