/* SPDX-License-Identifier: MIT */
#include "cpr/adopt.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>

#include "cpr/handover.h"
#include "cpr/keeper.h"
#include "cpr/program.h"
#include "vmm/base/log.h"
#include "vmm/machine.h"

int program_register(struct machine *m, struct program *p, struct error *err)
{
	struct state_section s = {.node = "program", .cls = &program_state_class, .state = p};
	int rc = fdset_take(&m->fds, "program") < 0 ? program_open_self(&m->fds, err) : 0;
	return rc ? rc : state_register(&m->tree, &s, err);
}

/* The image before this one ended by a signal, and could not say so itself. */
static void blame_signal(struct handover *page, int sig)
{
	char reason[80];
	if (!sig)
		return;
	if (sig == SIGSYS)
		snprintf(reason, sizeof(reason),
			 "the new program made a system call that it may not; its log names it");
	else if (sig == KEEPER_NUDGE)
		snprintf(reason, sizeof(reason), "the new program did not take over in time");
	else
		snprintf(reason, sizeof(reason), "the new program crashed (signal %d)", sig);
	handover_blame(page, reason);
}

int adopt_program(struct machine *m, struct program *p, struct state_blob *state, struct error *err)
{
	int rc = program_register(m, p, err);
	return rc ? rc : adopt_options(m, p, state, err);
}

int adopt_options(struct machine *m, struct program *p, struct state_blob *state, struct error *err)
{
	static char *argv[PROGRAM_MAX_ARGS + 1];
	int rc = state_load_section(state, &m->tree.sections[m->tree.n - 1], err);
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
	return 0;
}

int adopt_process(struct machine *m, struct program *p, const struct program_incoming *in,
		  struct state_blob *state, struct handover **page, struct error *err)
{
	prctl(PR_SET_NAME, "molt"); /* execveat of a descriptor names the process after it */
	int rc = fdset_adopt(&m->fds, state, err);
	if (!rc)
		rc = adopt_program(m, p, state, err);
	if (rc)
		return rc;
	*page = handover_adopt(&m->fds, err);
	if (!*page)
		return -err->code;
	blame_signal(*page, in->sig);
	return 0;
}
