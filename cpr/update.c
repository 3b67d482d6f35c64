/* SPDX-License-Identifier: MIT */
/*
 * The whole story of an update, in the order in which it happens.
 *
 *   old program   prepare -> pause -> save -> exec
 *   new program                               restore -> commit -> run
 *
 * Until exec every step can be undone, and the guest resumes where it was. Between exec and commit
 * the new program builds everything but touches nothing that the old one could not use again. Commit
 * is one compare-and-swap; irqfds are attached after it, since they take counts out of eventfds that
 * could not be given back.
 */
#include "cpr/update.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include "cpr/blob.h"
#include "cpr/handover.h"
#include "cpr/keeper.h"
#include "cpr/prepare.h"
#include "cpr/program.h"
#include "cpr/report.h"
#include "vmm/arch.h"
#include "vmm/base/build.h"
#include "vmm/base/fd.h"
#include "vmm/base/log.h"
#include "vmm/machine.h"

/* One update in the old program. */
struct update {
	struct machine *m;
	struct program *program;
	int exe_fd; /* the new program: what was checked is what runs */
	struct blob blob;
	struct handover *times;
	struct keeper keeper;
	unsigned detached; /* devices whose detach was done */
};

int update_init(struct machine *m, struct program *p, struct error *err)
{
	struct state_section s = {.node = "program", .cls = &program_state_class, .state = p};
	return state_register(&m->tree, &s, err);
}

/* ---- old program: prepare. The guest runs; nothing is touched. ---- */

static int prepare(struct update *u, struct error *err)
{
	struct machine *m = u->m;
	uint64_t request_ns = now_ns();
	u->exe_fd = prepare_program(u->program->path, err);
	if (u->exe_fd < 0)
		return u->exe_fd;
	pthread_mutex_lock(&m->lock); /* devices, and the table that vCPUs may add vectors to */
	int rc = prepare_devices(m, err);
	if (!rc)
		rc = keeper_prepare(&u->keeper, &m->fds, err);
	if (!rc && !(u->times = handover_create(&m->fds, err)))
		rc = -err->code;
	if (!rc)
		rc = blob_create(&u->blob, &m->tree, &m->fds, err);
	pthread_mutex_unlock(&m->lock);
	if (rc)
		return rc;
	u->times->stamps[STAMP_REQUEST] = request_ns;
	handover_stamp(u->times, STAMP_PREPARE);
	return 0;
}

/* ---- old program: pause and save. From here on the guest stands still. ---- */

/* Run by the last vCPU to park: nothing may reach an interrupt controller while it is read. */
static int quiet(struct machine *m, struct error *err)
{
	pthread_mutex_lock(&m->lock);
	int rc = irq_detach_all(&m->irq, err);
	pthread_mutex_unlock(&m->lock);
	return rc;
}

static int pause_guest(struct update *u, struct error *err)
{
	loop_park(&u->m->loop);
	int rc = vcpus_pause_and_save(u->m, quiet, err);
	handover_stamp(u->times, STAMP_PAUSE);
	if (!rc)
		rc = keeper_start(&u->keeper, err);
	handover_stamp(u->times, STAMP_KEEPER);
	return rc;
}

static int detach_devices(struct update *u, struct error *err)
{
	struct machine *m = u->m;
	for (; u->detached < m->ndevices; u->detached++) {
		struct device *dev = m->devices[u->detached];
		int rc = dev->cls->detach ? dev->cls->detach(dev, err) : 0;
		if (rc)
			return error_prefix(err, "%s", dev->name);
	}
	return 0;
}

static void hold(const struct update *u)
{
	uint32_t ms = u->m->opt.hold_ms;
	struct timespec ts = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L};
	if (ms)
		nanosleep(&ts, NULL);
}

static int save(struct update *u, struct error *err)
{
	struct state_header header = {0};
	snprintf(header.version, sizeof(header.version), "%s", build_version());
	snprintf(header.build_id, sizeof(header.build_id), "%s", build_id());
	u->program->updates++;
	int rc = arch_save(u->m, err);
	if (!rc)
		rc = detach_devices(u, err);
	handover_stamp(u->times, STAMP_DETACH);
	if (!rc)
		rc = blob_write(&u->blob, &u->m->tree, &u->m->fds, &header, err);
	handover_stamp(u->times, STAMP_BLOB);
	hold(u);
	handover_stamp(u->times, STAMP_HOLD);
	return rc;
}

/* ---- old program: exec. Returns only on failure. ---- */

static int become(struct update *u, struct error *err)
{
	int rc = fdset_cloexec(&u->m->fds, false, err);
	if (!rc)
		rc = fd_set_cloexec(u->blob.fd, false);
	return rc ? rc : program_exec(u->program, u->exe_fd, u->blob.fd, err);
}

/* ---- old program: the update is off; undo what was done, in reverse. ---- */

static void undo_prepare(struct update *u)
{
	pthread_mutex_lock(&u->m->lock);
	keeper_cancel(&u->keeper, &u->m->fds);
	handover_close(u->times, &u->m->fds);
	pthread_mutex_unlock(&u->m->lock);
	blob_close(&u->blob);
	fd_close(&u->exe_fd);
}

static void resume_in_place(struct update *u)
{
	struct machine *m = u->m;
	fdset_cloexec(&m->fds, true, NULL);
	while (u->detached-- > 0)
		if (m->devices[u->detached]->cls->reattach)
			m->devices[u->detached]->cls->reattach(m->devices[u->detached]);
	pthread_mutex_lock(&m->lock);
	irq_attach_all(&m->irq);
	pthread_mutex_unlock(&m->lock);
	vcpus_go(m);
	loop_unpark(&m->loop);
}

void update_run(struct machine *m, struct program *p)
{
	struct update u = {.m = m,
			   .program = p,
			   .exe_fd = -1,
			   .blob.fd = -1,
			   .keeper = {.wake_read = -1, .wake_write = -1, .self_pidfd = -1}};
	uint32_t updates = p->updates;
	struct error err;

	int rc = prepare(&u, &err);
	if (!rc) {
		rc = pause_guest(&u, &err);
		if (!rc)
			rc = save(&u, &err);
		if (!rc)
			rc = become(&u, &err); /* does not return when it succeeds */
		resume_in_place(&u);
	}
	p->updates = updates;
	undo_prepare(&u);
	report_refused(m, &err);
}

/* ---- new program ---- */

/* Descriptors, arguments, handover page. */
static int adopt(struct machine *m, struct program *p, struct state_blob *state,
		 struct handover **times, struct error *err)
{
	static char *argv[PROGRAM_MAX_ARGS + 1];
	int rc = fdset_adopt(&m->fds, state, err);
	if (!rc)
		rc = update_init(m, p, err);
	if (!rc)
		rc = state_load_section(state, &m->tree.sections[m->tree.n - 1], err);
	int argc = rc ? rc : program_argv(p, argv, err);
	if (argc < 0)
		return argc;
	if (argc < 2)
		return error_set(err, EBADMSG, "state program.args: %d arguments", argc);
	rc = options_parse(&m->opt, argc - 2, argv + 2, err);
	if (rc)
		return rc;
	if (m->opt.name)
		log_set_name(m->opt.name);
	*times = handover_adopt(&m->fds, err);
	return *times ? 0 : -err->code;
}

static int restore(struct machine *m, struct handover *times, struct state_blob *state,
		   struct error *err)
{
	int rc = report_open(m, err);
	if (!rc)
		rc = machine_build(m, state, err);
	handover_stamp(times, STAMP_BUILD);
	if (!rc)
		rc = vcpus_start(m, err);
	if (!rc)
		rc = vcpus_wait_loaded(m, err);
	if (!rc)
		rc = arch_load(m, err); /* after the local APICs, which it injects into */
	handover_stamp(times, STAMP_LOAD);
	for (unsigned i = 0; !rc && i < m->ndevices; i++)
		if (m->devices[i]->cls->adopt)
			rc = m->devices[i]->cls->adopt(m->devices[i], err);
	if (!rc)
		rc = irq_routes_commit(&m->irq, err);
	handover_stamp(times, STAMP_DMA);
	return rc;
}

/* The guest runs: lets the keeper go, and with it the old VM and address space; then reports. */
static void finish(struct machine *m, struct program *p, struct blob *blob,
		   const struct state_blob *state, struct handover *times)
{
	pthread_mutex_lock(&m->lock);
	keeper_release(&m->fds);
	fdset_close_untaken(&m->fds);
	pthread_mutex_unlock(&m->lock);
	report_done(m, &(struct report){.times = times,
					.old_version = state->header.version,
					.old_build = state->header.build_id,
					.blob_len = state->len,
					.update = p->updates});
	pthread_mutex_lock(&m->lock);
	handover_close(times, &m->fds);
	pthread_mutex_unlock(&m->lock);
	blob_close(blob);
}

int update_resume(struct machine *m, struct program *p, int fd, bool *committed, struct error *err)
{
	uint64_t main_ns = now_ns();
	static struct state_blob state;
	struct blob blob;
	struct handover *times = NULL;

	prctl(PR_SET_NAME, "molt"); /* execveat of a descriptor names the process after it */
	int rc = blob_adopt(&blob, fd, err);
	if (!rc)
		rc = state_open(&state, blob.map, blob.len, err);
	if (!rc)
		rc = adopt(m, p, &state, &times, err);
	if (rc)
		return rc;
	times->stamps[STAMP_EXEC] = main_ns;
	handover_stamp(times, STAMP_ADOPT);
	rc = restore(m, times, &state, err);
	if (rc)
		return rc;
	if (!handover_decide(times, HANDOVER_COMMITTED))
		return error_set(err, ETIMEDOUT, "the old program has taken the guest back");
	*committed = true;
	handover_stamp(times, STAMP_COMMIT);
	for (unsigned i = 0; i < m->ndevices; i++)
		if (m->devices[i]->cls->resumed)
			m->devices[i]->cls->resumed(m->devices[i]);
	rc = machine_start(m, err);
	handover_stamp(times, STAMP_RUN);
	finish(m, p, &blob, &state, times);
	return rc;
}
