/* SPDX-License-Identifier: MIT */
/*
 * The incumbent's side of an update: a state machine in the leader. Each message of the successor and each deadline
 * takes it one stage further. Between two stages the leader serves the guest and its clients as usual. The last stage
 * calls pause.c, which ends this process when the successor has the guest.
 */
#include "cpr/handover/incumbent.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include "cpr/handover/link.h"
#include "cpr/handover/protocol.h"
#include "cpr/handover/wire.h"
#include "cpr/handover/worker_link.h"
#include "cpr/handover/check.h"
#include "cpr/handover/reboot.h"
#include "cpr/handover/report.h"
#include "cpr/handover/update.h"
#include "vmm/base/reasons.h"
#include "vmm/control/control.h"

static const char *const stage_names[] = {
	[STAGE_NONE] = "nothing",
	[STAGE_START] = "its process to be started",
	[STAGE_HELLO] = "it to say that it is a molt",
	[STAGE_FDS] = "it to take the descriptors",
	[STAGE_BUILD] = "it to build the machine",
	[STAGE_QUIESCE] = "devices to finish what is in flight",
};

static struct update self = {
	.exe = -1, .peer = -1, .pidfd = -1, .page_fd = -1, .offer.fd = -1, .state.fd = -1};

static struct wire_message message;

bool incumbent_busy(void)
{
	return self.stage != STAGE_NONE;
}

int incumbent_socket(void)
{
	return self.stage == STAGE_START ? -1 : self.peer; /* until the parent has said who it is */
}

uint64_t incumbent_deadline(void)
{
	return self.deadline_ns;
}

const char *incumbent_text(char *buf, unsigned size)
{
	snprintf(buf, size, "%.300s since %llu ms, waiting for %s%s%.80s", self.path,
		 (unsigned long long)((now_ns() - self.begun_ns) / NS_PER_MS),
		 stage_names[self.stage], self.progress[0] ? ": " : "", self.progress);
	return buf;
}

static void enter_stage(enum stage stage)
{
	self.stage = stage;
	self.deadline_ns = now_ns() + self.m->opt.prepare_timeout_ms * NS_PER_MS;
}

/* ---- the end of an update that does not happen ---- */

/* Kills the successor. The parent reaps it, since it is the parent's child. */
static void send_away(void)
{
	update_kill(&self);
	fd_close(&self.peer);
	fd_close(&self.pidfd);
	fd_close(&self.exe);
	fd_close(&self.page_fd);
	blob_close(&self.offer);
	blob_close(&self.state);
	handover_unmap(self.page);
	self.page = NULL;
	if (self.stage == STAGE_QUIESCE)
		machine_resume(self.m);
	self.stage = STAGE_NONE;
	self.deadline_ns = 0;
	self.progress[0] = 0;
	self.percent = 0;
}

static enum counters_failure why_failed(const struct error *why)
{
	if (!self.page || !self.page->stamps[STAMP_CHECK])
		return FAILURE_CHECK;
	switch (why->code) {
	case ETIMEDOUT:
		return FAILURE_TIMEOUT;
	case EOPNOTSUPP:
		return FAILURE_REFUSED;
	case EPROTO:
		return FAILURE_ENDED;
	case ECANCELED:
		return FAILURE_CANCELLED;
	}
	return FAILURE_OTHER;
}

static void refuse(const struct error *why, const struct reasons *reasons)
{
	static const struct reasons none = {0};
	uint64_t begun = self.page ? self.page->stamps[STAMP_PREPARE] : 0;
	uint64_t pause_ns = begun ? now_ns() - begun : 0;
	if (!self.check)
		counters_failed(self.m, why_failed(why));
	if (pause_ns)
		counters_paused(self.m, pause_ns);
	send_away();
	if (self.check)
		report_checked(self.m, why, reasons ?: &none);
	else
		report_refused(self.m, why, reasons ?: &none, pause_ns);
}

void incumbent_cancel(const char *why)
{
	struct error err;
	if (!incumbent_busy())
		return;
	error_set(&err, ECANCELED, "%s", why);
	refuse(&err, NULL);
}

void incumbent_ended(void)
{
	struct error err;
	if (!incumbent_busy())
		return;
	reboot_explain(self.m, &err);
	refuse(&err, NULL);
}

/* ---- begin: check the file, ask the parent for a process ---- */

static int offer_create(struct error *err)
{
	struct machine *m = self.m;
	/* A successor may have greeted twice and gone before it got the first offer. */
	blob_close(&self.offer);
	blob_close(&self.state);
	update_read_sched(&self);
	pthread_mutex_lock(&m->lock);
	int rc = blob_create(&self.offer, &m->tree, &m->fds, err);
	if (!rc)
		rc = blob_write(&self.offer, &m->tree, &m->fds, err);
	if (!rc)
		rc = blob_create(&self.state, &m->tree, &m->fds, err);
	self.offered_changes = m->fds.changes;
	for (unsigned i = 0; i < m->fds.n; i++)
		m->fds.e[i].sent = false;
	pthread_mutex_unlock(&m->lock);
	return rc;
}

static int ask_parent(struct error *err)
{
	int ends[2];
	int rc = wire_pair(ends, err);
	if (rc)
		return rc;
	const int fds[] = {self.exe, ends[1]};
	self.peer = ends[0];
	rc = worker_send(LINK_START, (int64_t)self.begun_ns, self.path, fds, 2, err);
	close(ends[1]);
	return rc;
}

static int begin(struct reasons *reasons, struct error *err)
{
	if (self.m->ending)
		return error_set(err, EBUSY, "the guest was asked to power off");
	if (self.m->stop_code >= 0)
		return reboot_explain(self.m, err);
	int rc = 0;
	if (self.taken)
		rc = check_devices(self.m, reasons, err);
	else if ((self.exe = check_update(self.m, self.path, reasons, err)) < 0)
		rc = self.exe;
	if (!rc && !(self.page = handover_new(&self.page_fd, err)))
		rc = -err->code;
	if (rc)
		return rc;
	self.page->stamps[STAMP_REQUEST] = self.begun_ns;
	handover_stamp(self.page, STAMP_CHECK);
	enter_stage(self.taken ? STAGE_HELLO : STAGE_START);
	return self.taken ? 0 : ask_parent(err);
}

int incumbent_begin(struct machine *m, struct program *p, const struct incumbent_request *req,
		    struct error *err)
{
	static struct reasons reasons;
	reasons = (struct reasons){0};
	self.m = m;
	self.p = p;
	self.check = req->check;
	self.taken = req->taker > 0;
	self.begun_ns = now_ns();
	if (self.taken) {
		self.peer = req->taker;
		self.pid = req->taker_pid;
		self.pidfd = self.pid > 0 ? (int)syscall(SYS_pidfd_open, self.pid, 0) : -1;
		snprintf(self.path, sizeof(self.path), "process %d (--take)", (int)self.pid);
	} else {
		snprintf(self.path, sizeof(self.path), "%s", req->path ?: p->path);
	}
	if (!req->check)
		report_started(m, self.path);
	self.retried = false;
	int rc = begin(&reasons, err);
	if (rc)
		refuse(err, &reasons);
	return rc;
}

void incumbent_answers(int64_t request)
{
	self.answered = request;
}

/* If an update is called off before the parent has answered, the answer comes during the next update, and does not
 * belong to it. Parents that do not number their answers send them in the order of the requests. Then a process that
 * was started for the former update counts as this one's until its own replaces it. */
void incumbent_started(const struct wire_message *msg)
{
	struct error err;
	bool late = self.answered && self.answered != (int64_t)self.begun_ns;
	self.answered = 0;
	if (!incumbent_busy() || self.taken || late)
		return;
	if (msg->value <= 0) {
		error_set(&err, (int)-msg->value, "%.300s cannot be started: %.200s", self.path,
			  msg->text);
		refuse(&err, NULL);
		return;
	}
	self.pid = (pid_t)msg->value;
	fd_close(&self.pidfd);
	self.pidfd = wire_take_fd((struct wire_message *)msg, 0);
	if (self.stage == STAGE_START)
		enter_stage(STAGE_HELLO);
}

/* ---- HELLO, OFFER, descriptors ---- */

static int on_hello(const struct wire_message *msg, struct error *err)
{
	unsigned oldest, newest;
	if (sscanf(msg->text, "molt-handover %u %u\n", &oldest, &newest) != 2)
		return error_set(err, EPROTO, "%.300s says what no molt says", self.path);
	if (oldest > PROTOCOL_NEWEST || newest < PROTOCOL_OLDEST)
		return error_set(
			err, EPROTO,
			"%.300s speaks the hand-over protocol %u to %u, this molt %u to %u",
			self.path, oldest, newest, PROTOCOL_OLDEST, PROTOCOL_NEWEST);
	handover_stamp(self.page, STAMP_HELLO);
	int rc = offer_create(err);
	if (rc)
		return rc;
	const int offered[] = {self.offer.fd, self.state.fd, self.page_fd};
	return wire_send(self.peer, PROTOCOL_OFFER,
			 newest < PROTOCOL_NEWEST ? newest : PROTOCOL_NEWEST, NULL, 0, offered, 3,
			 err);
}

/* The next batch, or BUILD after the last one. */
static int send_fds(struct error *err)
{
	pthread_mutex_lock(&self.m->lock);
	int n = update_send_batch(&self, err);
	pthread_mutex_unlock(&self.m->lock);
	if (n < 0)
		return n;
	enter_stage(n ? STAGE_FDS : STAGE_BUILD);
	return n ? 0 : wire_send(self.peer, PROTOCOL_BUILD, 0, NULL, 0, NULL, 0, err);
}

/* ---- the steps ---- */

/* The guest may have made a device close a descriptor that the offered state names. The refusal may have no other
 * cause, so the update is tried once more with a new offer. */
static bool try_again(void)
{
	struct reasons ignored = {0};
	struct error err;
	if (self.retried || self.taken || self.m->fds.changes == self.offered_changes)
		return false;
	send_away();
	self.retried = true;
	return !begin(&ignored, &err);
}

static void on_no(const struct wire_message *msg)
{
	static struct reasons reasons;
	struct error err;
	if (self.stage == STAGE_BUILD && try_again())
		return;
	char line[REASON_LEN], more[32] = "";

	reasons = (struct reasons){0};
	for (const char *at = msg->text; *at; at += strcspn(at, "\n"), at += *at == '\n') {
		reasons_line(line, sizeof(line), at);
		reasons_add(&reasons, line);
	}
	if (!reasons.n)
		reasons_add(&reasons, "it gives no reason");
	if (reasons.n > 1)
		snprintf(more, sizeof(more), " (and %u more)", reasons.n - 1);
	error_set(&err, EOPNOTSUPP, "%.200s cannot take over: %.360s%s", self.path, reasons.text[0],
		  more);
	error_hint(&err, "install a version that can, or give it what it misses");
	refuse(&err, &reasons);
}

/* Devices take no new work from here on. The pause follows when all that is in flight is done. */
static void quiesce(void)
{
	struct error err;
	if (machine_quiesce(self.m, &err)) {
		if (now_ns() < self.deadline_ns)
			return;
		error_prefix(&err,
			     "%.200s gets no guest whose devices do not finish in time (%u ms)",
			     self.path, self.m->opt.prepare_timeout_ms);
		error_hint(&err, "the time is --prepare-timeout; the host's log may say what is "
				 "wrong with the disk");
		refuse(&err, NULL);
	} else if (pause_hand_over(&self, &err)) {
		refuse(&err, NULL);
	}
}

static void on_ready(const struct wire_message *msg)
{
	self.load_ns = msg->value > 0 ? (uint64_t)msg->value : 0;
	handover_stamp(self.page, STAMP_READY);
	if (self.check) {
		send_away();
		report_checked(self.m, NULL, NULL);
		return;
	}
	enter_stage(STAGE_QUIESCE);
	quiesce();
}

/* The successor reports its progress in percent. Only a higher number than before gives it more time, so that it cannot
 * be waited for without end. */
static void on_progress(const struct wire_message *msg)
{
	char what[60];
	if (msg->value <= self.percent || msg->value > 100)
		return;
	self.percent = msg->value;
	reasons_line(what, sizeof(what), msg->text);
	snprintf(self.progress, sizeof(self.progress), "%s %d %%", what, (int)msg->value);
	enter_stage(STAGE_BUILD);
	report_progress(self.m, self.progress);
}

/* Returns -1 for a message that does not fit the stage. */
static int on_message(struct wire_message *msg, struct error *err)
{
	switch (self.stage) {
	case STAGE_HELLO:
		if (msg->kind != PROTOCOL_HELLO)
			break;
		if (on_hello(msg, err))
			return -err->code;
		return send_fds(err);
	case STAGE_FDS:
		if (msg->kind != PROTOCOL_GOT)
			break;
		return send_fds(err);
	case STAGE_BUILD:
		if (msg->kind == PROTOCOL_PROGRESS) {
			on_progress(msg);
			return 0;
		}
		if (msg->kind != PROTOCOL_READY)
			break;
		on_ready(msg);
		return 0;
	case STAGE_QUIESCE:
	case STAGE_START:
	case STAGE_NONE:
		break;
	}
	return error_set(err, EPROTO, "%.300s says what makes no sense now (message %u)", self.path,
			 msg->kind);
}

static int by_hand(struct error *err)
{
	return self.taken ? error_hint(err, "its own messages may say why")
			  : error_hint(err, "try it by hand: %.400s --version", self.path);
}

static int gone(struct error *err)
{
	error_set(err, EPROTO, "%.300s ended, or said what is no message, when we waited for %s",
		  self.path, stage_names[self.stage]);
	return by_hand(err);
}

static int too_slow(struct error *err)
{
	error_set(err, ETIMEDOUT, "%.300s did not answer in time (%u ms): waiting for %s",
		  self.path, self.m->opt.prepare_timeout_ms, stage_names[self.stage]);
	return error_hint(err, "the time is --prepare-timeout; a busy host may need another try");
}

void incumbent_step(void)
{
	struct error err;
	if (!incumbent_busy())
		return;
	/* Reads nothing from the successor while its process id is unknown: it could not be killed. */
	int rc = self.stage == STAGE_START ? -ETIMEDOUT : wire_recv(self.peer, &message, 0, &err);
	wire_close_fds(&message); /* a successor has no descriptors to give */
	if (!rc && message.kind == PROTOCOL_NO) {
		on_no(&message);
	} else if (!rc) {
		rc = on_message(&message, &err);
		if (rc && rc != -EPIPE) /* gone: its last words, perhaps why, are read next */
			refuse(&err, NULL);
	} else if (rc != -ETIMEDOUT) {
		gone(&err);
		refuse(&err, NULL);
	}
	if (self.stage == STAGE_QUIESCE)
		quiesce();
	/* The deadline also ends a successor that sends messages without end. */
	if (incumbent_busy() && now_ns() >= self.deadline_ns) {
		too_slow(&err);
		refuse(&err, NULL);
	}
}
