/* SPDX-License-Identifier: MIT */
/*
 * How the first worker gets its guest: it makes a new one, makes the guest of a reboot anew, or takes a running one
 * from another parent (`--take`). The worker of an update gets it from the incumbent instead: successor.c.
 */
#include "cpr/handover/worker_guest.h"

#include "cpr/handover/reboot.h"
#include "cpr/handover/report.h"
#include "cpr/handover/serve.h"
#include "cpr/handover/successor.h"
#include "cpr/handover/wire.h"
#include "cpr/handover/worker_link.h"
#include "cpr/program.h"
#include "vmm/control/client.h"
#include "vmm/control/control.h"
#include "vmm/machine.h"
#include "vmm/notify.h"
#include "vmm/outfile.h"

int worker_register(struct machine *m, struct program *p, struct error *err)
{
	const struct state_section s = {.node = "program", .cls = &program_state_class, .state = p};
	return state_register(&m->tree, &s, err);
}

/* molt run --take: asks another parent's worker for its guest over the control socket, and becomes its successor. A
 * refusal comes back over that socket too. */
static int take_guest(struct machine *m, struct program *p, struct error *err)
{
	char path[PROGRAM_PATH_LEN];
	struct client_link l;
	int ends[2];
	memcpy(path, p->path, sizeof(path));
	int rc = client_connect(&l, m->opt.take, 0, err);
	if (rc)
		return rc;
	rc = wire_pair(ends, err);
	if (!rc) {
		rc = client_send_fd(&l, "take\n", ends[1], err);
		close(ends[1]);
		if (!rc)
			rc = successor_run(m, p, ends[0], err);
		else
			close(ends[0]);
	}
	if (rc)
		client_explain(&l, err);
	else
		memcpy(p->path, path, sizeof(path)); /* updates are of this program from now on */
	client_close(&l);
	return rc;
}

/* Does what the command line asks for. Returns 1 if this process has taken a guest, which runs. */
static int begin(struct machine *m, struct program *p, int argc, char *argv[], struct error *err)
{
	int rc =
		program_init(p, argc, argv, err) ?: options_parse(&m->opt, argc - 2, argv + 2, err);
	if (!rc && m->opt.take)
		rc = take_guest(m, p, err) ?: 1;
	return rc ? rc : worker_register(m, p, err);
}

int worker_make_guest(struct machine *m, struct program *p, int argc, char *argv[], int kept,
		      bool *again, struct error *err)
{
	int rc = kept < 0 ? begin(m, p, argc, argv, err) : reboot_resume(m, p, kept, again, err);
	if (rc)
		return rc > 0 ? 0 : rc;
	rc = outfile_log(m, err);
	if (!rc)
		worker_tell_log();
	if (!rc)
		rc = report_open(m, err);
	if (!rc)
		rc = control_open(m, err);
	if (rc)
		return rc;
	rc = machine_build(m, NULL, err);
	if (rc) {
		ram_abandon(&m->fds);
		return rc;
	}
	fd_close_inherited(); /* devices have taken theirs; no successor would get them */
	reboot_done(m);
	vcpus_start(m);
	rc = vcpus_wait_loaded(m, err) ?: machine_spawn(m, err) ?: machine_start(m, err);
	if (!rc) {
		irq_attach_all(&m->irq, IRQ_LEVEL);
		rc = machine_serve(m, err);
	}
	if (!rc)
		rc = control_start(m->control, err);
	if (rc)
		return rc;
	if (kept < 0)
		serve_warn(m, p);
	notify_send(kept < 0 ? "READY=1" : "", "the guest runs");
	return 0;
}
