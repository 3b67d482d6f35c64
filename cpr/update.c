/* SPDX-License-Identifier: MIT */
/*
 * The whole story of an update, in the order in which it happens.
 *
 *   old program   prepare -> pause -> save -> exec
 *   new program                               restore -> commit -> run
 *
 * Until exec every step can be undone, and the guest resumes where it was. Between exec and commit the
 * new program touches nothing that the old one could not use again, and every failure of it leads back
 * to the old one: by exec from the image that failed (rescue.h), or by the keeper. Commit is one
 * compare-and-swap; irqfds are attached after it, since they take counts out of eventfds for good.
 */
#include "cpr/update.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "cpr/adopt.h"
#include "cpr/blob.h"
#include "cpr/fault.h"
#include "cpr/finish.h"
#include "cpr/handover.h"
#include "cpr/keeper.h"
#include "cpr/lost.h"
#include "cpr/prepare.h"
#include "cpr/program.h"
#include "cpr/report.h"
#include "cpr/rescue.h"
#include "vmm/arch.h"
#include "vmm/base/fd.h"
#include "vmm/base/log.h"
#include "vmm/base/reasons.h"
#include "vmm/control.h"
#include "vmm/machine.h"

/* One update in the old program. */
struct update {
	struct machine *m;
	struct program *program;
	const char *path;
	int new_fd; /* the new program: what was checked is what runs. Kept: "successor" */
	struct blob blob;
	struct handover *times;
	struct keeper keeper;
	struct program_image image; /* arguments and environment of the new program */
};

/* ---- old program: prepare. The guest runs; nothing is touched. ---- */

/* What both programs need of each other: descriptors, page, keeper, room for the state. */
static int prepare_handover(struct update *u, struct error *err)
{
	struct machine *m = u->m;
	u->times = handover_create(&m->fds, m->opt.update_timeout_ms, err);
	if (!u->times)
		return -err->code;
	int rc = keeper_prepare(&u->keeper, &m->fds, err);
	if (!rc)
		rc = blob_create(&u->blob, &m->tree, &m->fds, err);
	int old_fd = fdset_take(&m->fds, "program");
	if (!rc)
		rc = keeper_way_back(&u->keeper, u->program, u->times, u->blob.fd, old_fd, err);
	const struct program_incoming next = {
		.mode = PROGRAM_NEW, .blob_fd = u->blob.fd, .old_fd = old_fd};
	if (!rc)
		rc = program_image_init(&u->image, u->program, &next, err);
	rescue_disarm(); /* this image has the guest: the keeper may nudge it, and too late */
	return rc ? rc : keeper_start(&u->keeper, err);
}

static int prepare(struct update *u, struct reasons *reasons, struct error *err)
{
	uint64_t request_ns = now_ns();
	u->new_fd = prepare_check(u->m, u->program, u->path, reasons, err);
	if (u->new_fd < 0)
		return u->new_fd;
	uint64_t preflight_ns = now_ns();
	/* The keeper copies the descriptors: no client comes or goes any more. */
	control_park(u->m->control);
	pthread_mutex_lock(&u->m->lock); /* the table that vCPUs may add vectors to */
	int rc = prepare_handover(u, err);
	pthread_mutex_unlock(&u->m->lock);
	if (rc)
		return rc;
	u->times->stamps[STAMP_REQUEST] = request_ns;
	u->times->stamps[STAMP_PREFLIGHT] = preflight_ns;
	handover_stamp(u->times, STAMP_PREPARE);
	return 0;
}

/* ---- old program: pause and save. From here on the guest stands still, and vCPUs save themselves. ---- */

static int pause_guest(struct update *u, struct error *err)
{
	loop_park(&u->m->loop);
	int rc = vcpus_pause(u->m, machine_quiet, err);
	if (!rc && u->m->stop_code >= 0) /* it powered off meanwhile: that is not carried over */
		rc = error_set(err, ECANCELED, "the guest has ended");
	if (!rc)
		rc = keeper_refresh(&u->keeper, err);
	handover_stamp(u->times, STAMP_PAUSE);
	return rc;
}

static int save(struct update *u, struct error *err)
{
	u->program->updates++;
	int rc = arch_save(u->m, err);
	if (!rc)
		rc = machine_detach(u->m, err);
	handover_stamp(u->times, STAMP_DETACH);
	if (!rc)
		rc = blob_write(&u->blob, &u->m->tree, &u->m->fds, err);
	handover_stamp(u->times, STAMP_BLOB);
	handover_hold(u->m->opt.hold_ms);
	handover_stamp(u->times, STAMP_HOLD);
	return rc;
}

/* ---- old program: exec. Returns only on failure. ---- */

static int become(struct update *u, struct error *err)
{
	int rc = fdset_cloexec(&u->m->fds, false, err);
	if (rc)
		return rc;
	rc = fd_set_cloexec(u->blob.fd, false);
	if (rc)
		return error_errno(err, -rc, "close-on-exec of the state blob");
	handover_arm(u->times); /* from here on the keeper may bring this program back */
	syscall(SYS_execveat, u->new_fd, "", u->image.argv, u->image.envp, AT_EMPTY_PATH);
	return error_errno(err, errno, "exec of %s", u->path);
}

/* ---- old program: the update is off; undo what was done, in reverse. ---- */

static void undo_prepare(struct update *u)
{
	struct fdset *fds = &u->m->fds;
	pthread_mutex_lock(&u->m->lock);
	keeper_cancel(&u->keeper, fds);
	handover_close(u->times, fds);
	fdset_close(fds, "successor");
	pthread_mutex_unlock(&u->m->lock);
	blob_close(&u->blob);
	program_image_free(&u->image);
	control_unpark(u->m->control);
}

static void resume_in_place(struct update *u)
{
	struct machine *m = u->m;
	vcpus_wait_saved(m, NULL);
	if (!handover_decide(u->times, HANDOVER_COMMITTED))
		keeper_outlive(&u->keeper);
	fdset_cloexec(&m->fds, true, NULL);
	machine_reattach(m);
	pthread_mutex_lock(&m->lock);
	irq_attach_all(&m->irq);
	pthread_mutex_unlock(&m->lock);
	vcpus_go(m);
	loop_unpark(&m->loop);
	vcpus_forget(m);
}

int update_run(struct machine *m, struct program *p, const struct update_request *req,
	       struct error *err)
{
	struct update u = {.m = m,
			   .program = p,
			   .path = req->path ? req->path : p->path,
			   .new_fd = -1,
			   .blob.fd = -1,
			   .keeper = {.wake = -1, .self_pidfd = -1, .status = -1}};
	uint32_t updates = p->updates;
	struct reasons own = {0}, *reasons = req->reasons ? req->reasons : &own;

	if (!req->check)
		report_started(m, u.path);
	int rc = prepare(&u, reasons, err);
	if (!rc && !req->check) {
		rc = pause_guest(&u, err);
		if (!rc)
			rc = save(&u, err);
		if (!rc)
			rc = become(&u, err); /* does not return when it succeeds */
		resume_in_place(&u);
	}
	p->updates = updates;
	undo_prepare(&u);
	if (rc && !req->check)
		report_refused(m, err, reasons);
	return rc;
}

/* ---- new program; or the old one again, on the way back ---- */

static int restore(struct machine *m, struct handover *times, struct state_blob *state,
		   struct error *err)
{
	int rc = report_open(m, err);
	if (!rc)
		rc = machine_build(m, state, err);
	handover_stamp(times, STAMP_BUILD);
	fault_point("build");
	if (rc)
		return rc;
	if (!rc)
		rc = machine_adopt(m, err);
	if (!rc)
		rc = irq_routes_commit(&m->irq, err);
	/* While the vCPUs load themselves, and late: their creation takes the same lock of KVM's. */
	if (!rc)
		rc = arch_create_timers(m, err);
	handover_stamp(times, STAMP_DMA);
	if (!rc)
		rc = vcpus_wait_loaded(m, err);
	if (!rc)
		rc = arch_load(m, err); /* after the local APICs, which it injects into */
	handover_stamp(times, STAMP_LOAD);
	fault_point("dma");
	return rc;
}

static int commit(struct machine *m, enum program_mode mode, struct handover *times,
		  struct error *err)
{
	rescue_disarm();
	bool ours = program_from_keeper(mode) ? handover_owner(times) == HANDOVER_TAKEN
					      : handover_decide(times, HANDOVER_COMMITTED);
	if (!ours)
		return error_set(err, ETIMEDOUT, "somebody else has the guest already");
	handover_stamp(times, STAMP_COMMIT);
	return 0;
}

/* Execs the old program, unless the word was lost; returns only where that is impossible. */
static int give_up(enum program_mode mode, struct error *err)
{
	if (mode == PROGRAM_RESCUE) {
		log_error(err);
		log_info("the old program tries once more");
	}
	rescue_now(err->text);
	return -err->code;
}

/* The image that takes over; *page stays NULL until it is mapped. */
static int resume(struct machine *m, struct program *p, const struct program_incoming *in,
		  struct blob *blob, struct handover **page, bool *committed, struct error *err)
{
	uint64_t main_ns = now_ns();
	static struct state_blob state;

	int rc = blob_adopt(blob, in->blob_fd, err);
	if (!rc)
		rc = state_open(&state, blob->map, blob->len, err);
	if (!rc)
		rc = adopt_process(m, p, in, &state, page, err);
	if (rc) /* blob or descriptors: the keeper has good ones, so this image just ends */
		return in->mode == PROGRAM_RESCUE ? give_up(in->mode, err) : rc;
	struct handover *times = *page;
	rescue_set_page(times);
	fault_point("adopt");
	times->stamps[STAMP_EXEC] = main_ns;
	handover_stamp(times, STAMP_ADOPT);
	if (program_from_keeper(in->mode))
		rc = fault_error("rescue", err);
	if (!rc)
		rc = restore(m, times, &state, err);
	if (!rc)
		rc = commit(m, in->mode, times, err);
	if (rc)
		return give_up(in->mode, err);
	*committed = true;
	rc = machine_start(m, err);
	handover_stamp(times, STAMP_RUN);
	handover_hold(HANDOVER_HEAD_START_MS);
	if (!rc)
		finish(m, p, in->mode, blob, &state, times);
	return rc;
}

int update_resume(struct machine *m, struct program *p, const struct program_incoming *in,
		  bool *committed, struct error *err)
{
	struct blob blob = {.fd = -1};
	struct handover *times = NULL;
	lost_watch(in->mode, m, &blob, &times);
	int rc = resume(m, p, in, &blob, &times, committed, err);
	/* Before commit the keeper brings the old program back; unless this was it. */
	if (rc && (*committed || program_from_keeper(in->mode)))
		lost_tell(m, &blob, times, err);
	return rc;
}
