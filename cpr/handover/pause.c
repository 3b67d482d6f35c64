/* SPDX-License-Identifier: MIT */
/*
 * The incumbent's side of the pause. It kicks the vCPUs, which stop; then it saves their state and sends it. The
 * successor must commit before the deadline. If it does, this process ends. If it does not, this process takes the word
 * back, and the guest resumes in place, where everything still is.
 */
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include "cpr/handover/link.h"
#include "cpr/handover/protocol.h"
#include "cpr/handover/reboot.h"
#include "cpr/handover/report.h"
#include "cpr/handover/update.h"
#include "cpr/handover/wire.h"
#include "vmm/arch.h"
#include "vmm/base/reasons.h"
#include "vmm/control/control.h"

/* The time from STATE to commit is the largest of: a minimum; for each vCPU, twenty times what one takes on an idle
 * host; twenty times what the rehearsal took. */
#define COMMIT_MIN_NS (200 * NS_PER_MS)
#define COMMIT_CPU_NS (5 * NS_PER_MS)
#define COMMIT_FACTOR 20
#define COMMIT_MAX_NS (10000 * NS_PER_MS) /* even if the successor claims more */
#define DONE_MS	      10000		  /* after commit: this process only waits to end */
#define PRIORITY_LOW  19

static struct wire_message reply;

void update_kill(const struct update *u)
{
	if (u->pidfd >= 0)
		syscall(SYS_pidfd_send_signal, u->pidfd, SIGKILL, NULL, 0);
}

void update_read_sched(const struct update *u)
{
	sched_read(&u->p->sched, (pid_t)syscall(SYS_gettid), NULL);
	vcpus_read_sched(u->m, &u->p->sched);
}

int update_send_batch(const struct update *u, struct error *err)
{
	static struct protocol_fd list[WIRE_FDS];
	struct fdset *set = &u->m->fds;
	int fds[WIRE_FDS];
	unsigned n = 0;
	for (unsigned i = 0; i < set->n && n < WIRE_FDS; i++) {
		struct fdset_entry *e = &set->e[i];
		if (e->sent)
			continue;
		memcpy(list[n].name, e->name, sizeof(list[n].name));
		list[n].generation = e->generation;
		fds[n++] = e->fd;
		e->sent = true;
	}
	int rc = n ? wire_send(u->peer, PROTOCOL_FDS, 0, list, n * sizeof(*list), fds, n, err) : 0;
	return rc ? rc : (int)n;
}

uint64_t pause_commit_ns(const struct update *u)
{
	if (u->m->opt.update_timeout_ms)
		return u->m->opt.update_timeout_ms * NS_PER_MS;
	if (u->load_ns > COMMIT_MAX_NS / COMMIT_FACTOR)
		return COMMIT_MAX_NS;
	uint64_t ns = u->load_ns * COMMIT_FACTOR, cpus_ns = u->m->opt.cpus * COMMIT_CPU_NS;
	uint64_t least = cpus_ns > COMMIT_MIN_NS ? cpus_ns : COMMIT_MIN_NS;
	return ns > least ? ns : least;
}

/* Fills @err with why the successor did not commit: its own words, or that it ended or was late. */
static int why_not(struct update *u, int rc, struct error *err)
{
	char line[REASON_LEN];
	if (rc == -ETIMEDOUT)
		return error_set(err, ETIMEDOUT, "%.300s did not take over in time (%llu ms)",
				 u->path, (unsigned long long)(pause_commit_ns(u) / NS_PER_MS));
	if (rc == -EPIPE)
		return error_set(err, EPROTO, "%.300s ended before it had taken over", u->path);
	if (rc)
		return error_prefix(err, "%.200s", u->path);
	if (reply.kind == PROTOCOL_NO) {
		reasons_line(line, sizeof(line), reply.text);
		return error_set(err, EOPNOTSUPP, "%.200s cannot take over: %.400s", u->path, line);
	}
	return error_set(err, EPROTO, "%.300s says what makes no sense now (message %u)", u->path,
			 reply.kind);
}

/* Waits for the next message. Closes descriptors that come with it: none is expected in the pause. */
static int receive_until(struct update *u, uint64_t until, struct error *err)
{
	int left_ms = ms_until(until);
	if (!left_ms)
		return error_set(err, ETIMEDOUT, "no message in time");
	int rc = wire_recv(u->peer, &reply, left_ms, err);
	if (!rc)
		wire_close_fds(&reply);
	return rc;
}

/* Sends the descriptors that were opened since the offer. It waits for the successor's GOT after each full batch, as
 * before the pause, but at most until the deadline of commit. */
static int send_new_fds(struct update *u, struct error *err)
{
	uint64_t until = now_ns() + pause_commit_ns(u);
	for (int n = WIRE_FDS; n == WIRE_FDS;) {
		pthread_mutex_lock(&u->m->lock);
		n = update_send_batch(u, err);
		pthread_mutex_unlock(&u->m->lock);
		if (n < WIRE_FDS)
			return n < 0 ? n : 0;
		int rc = receive_until(u, until, err);
		if (rc || reply.kind != PROTOCOL_GOT)
			return why_not(u, rc, err);
	}
	return 0;
}

/* A device may have reported trouble that the leader has not told the operator yet. The state does not contain that, so
 * the update is refused, and this process tells it. */
static int check_told(const struct machine *m, struct error *err)
{
	for (unsigned i = 0; i < m->ndevices; i++) {
		const struct device *dev = m->devices[i];
		if (!dev->told)
			continue;
		error_set(err, ECANCELED, "%s %s", dev->name, dev->trouble);
		return error_hint(err, "ask again");
	}
	return 0;
}

static int stop_guest(struct update *u, struct error *err)
{
	struct machine *m = u->m;
	update_read_sched(u);
	counters_read(m);
	control_park(m->control);
	loop_park(&m->loop);
	/* KVM waits for a grace period when it detaches an irqfd, which is long on a busy host. So this happens while
	 * the guest still runs. */
	int rc = irq_detach_all(&m->irq, err);
	handover_stamp(u->page, STAMP_PREPARE);
	if (!rc)
		vcpus_pause(m);
	if (!rc && m->stop_code >= 0) /* it powered off meanwhile: that is not in the state */
		rc = reboot_explain(m, err);
	if (!rc)
		rc = check_told(m, err);
	if (!rc)
		rc = machine_still(m, err);
	handover_stamp(u->page, STAMP_PARK);
	return rc;
}

static int send_state(struct update *u, struct error *err)
{
	struct machine *m = u->m;
	int rc = arch_save(m, err);
	handover_stamp(u->page, STAMP_SAVE);
	if (!rc)
		rc = send_new_fds(u, err);
	if (!rc)
		rc = blob_write(&u->state, &m->tree, &m->fds, err);
	handover_stamp(u->page, STAMP_BLOB);
	handover_hold(m->opt.hold_ms);
	handover_stamp(u->page, STAMP_HOLD);
	return rc ? rc
		  : wire_send(u->peer, PROTOCOL_STATE, (int64_t)u->state.len, NULL, 0, NULL, 0,
			      err);
}

/* Waits until the word is no longer HANDOVER_OPEN; at the deadline takes it back. Returns 0 if the successor has the
 * guest, -errno if it is ours again. */
static int await_commit(struct update *u, struct error *err)
{
	uint64_t until = now_ns() + pause_commit_ns(u);
	int rc;
	do
		rc = receive_until(u, until, err);
	while (!rc && reply.kind == PROTOCOL_GOT);
	if (!handover_decide(u->page, HANDOVER_TAKEN))
		return 0;
	return why_not(u, rc, err);
}

/* Ends this process, which has no guest any more. The kernel takes milliseconds to free its VM and mappings, and the
 * guest may want that processor, so this process gets the lowest priority first. */
static void leave(struct update *u)
{
	struct machine *m = u->m;
	struct error err;
	prctl(PR_SET_NAME, "molt-former");
	uint64_t until = now_ns() + DONE_MS * NS_PER_MS;
	while (reply.kind != PROTOCOL_DONE && !receive_until(u, until, &err))
		;
	for (uint32_t i = 0; i < m->opt.cpus; i++)
		setpriority(PRIO_PROCESS, (id_t)m->vcpus[i].tid, PRIORITY_LOW);
	setpriority(PRIO_PROCESS, 0, PRIORITY_LOW);
	if (u->taken)
		log_info("%s has the guest", u->path);
	_exit(u->taken ? EXIT_POWEROFF : LINK_STATUS_HANDED);
}

static void resume_in_place(struct update *u)
{
	struct machine *m = u->m;
	update_kill(u);
	vcpus_wait_saved(m, NULL);
	pthread_mutex_lock(&m->lock);
	irq_attach_all(&m->irq, IRQ_MSI);
	pthread_mutex_unlock(&m->lock);
	vcpus_go(m);
	irq_attach_all(&m->irq, IRQ_LEVEL);
	loop_unpark(&m->loop);
	control_unpark(m->control);
	vcpus_recall(m);
}

/* Returns only if this process keeps the guest, or has it back. */
int pause_hand_over(struct update *u, struct error *err)
{
	char path[PROGRAM_PATH_LEN];
	int rc = stop_guest(u, err);
	/* The program path of the next owner. A taker (--take) sets its own. */
	memcpy(path, u->p->path, sizeof(path));
	if (!u->taken)
		memcpy(u->p->path, u->path, sizeof(path));
	u->p->updates++;
	reply.kind = 0;
	if (!rc)
		rc = send_state(u, err);
	if (!rc)
		rc = await_commit(u, err);
	else if (!handover_decide(u->page, HANDOVER_TAKEN))
		rc = 0;
	if (!rc)
		leave(u);
	u->p->updates--;
	memcpy(u->p->path, path, sizeof(path));
	resume_in_place(u);
	return rc;
}
