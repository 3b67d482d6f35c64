/* SPDX-License-Identifier: MIT */
/* The new program in its preflight. */
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "cpr/adopt.h"
#include "cpr/blob.h"
#include "cpr/fault.h"
#include "cpr/limits.h"
#include "cpr/preflight.h"
#include "cpr/preflight_verdict.h"
#include "cpr/program.h"
#include "vmm/base/fd.h"
#include "vmm/base/reasons.h"
#include "vmm/machine.h"
#include "vmm/trial.h"

static void try(struct machine *m, struct program *p, struct reasons *reasons)
{
	static struct state_blob state;
	struct blob blob;
	struct error err;
	int rc = blob_adopt(&blob, PREFLIGHT_BLOB, &err);
	if (!rc)
		limits_offer(PREFLIGHT_BLOB, blob.len);
	if (!rc)
		rc = state_open(&state, blob.map, blob.len, &err);
	if (!rc)
		rc = fdset_list(&m->fds, &state, &err);
	if (!rc)
		rc = adopt_program(m, p, &state, &err);
	if (rc) {
		reasons_add_error(reasons, &err);
		return;
	}
	m->vm.kvm_fd = PREFLIGHT_KVM;
	trial_run(m, &state, reasons);
	if (limits_try_room(m->opt.cpus, &err))
		reasons_add_error(reasons, &err);
}

int preflight_answer(struct machine *m, struct program *p)
{
	static struct reasons reasons;
	static char text[PREFLIGHT_TEXT_MAX];

	prctl(PR_SET_NAME, "molt-preflight"); /* execveat named it after a descriptor */
	fault_point("preflight");
	try(m, p, &reasons);
	size_t len = preflight_write(text, sizeof(text), &reasons);
	return fd_write_all(PREFLIGHT_ANSWER, text, len) ? 1 : 0;
}
