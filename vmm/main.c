/* SPDX-License-Identifier: MIT */
/* The program: words of the command line, the leader's wait for signals, the way out. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "cpr/adopt.h"
#include "cpr/fault.h"
#include "cpr/handover/link.h"
#include "cpr/handover/parent.h"
#include "cpr/handover/worker.h"
#include "cpr/inspect.h"
#include "cpr/keeper.h"
#include "cpr/preflight.h"
#include "cpr/program.h"
#include "cpr/report.h"
#include "cpr/rescue.h"
#include "cpr/serve.h"
#include "cpr/update.h"
#include "devices/power.h"
#include "vmm/base/build.h"
#include "vmm/base/log.h"
#include "vmm/client.h"
#include "vmm/console.h"
#include "vmm/control.h"
#include "vmm/machine.h"
#include "vmm/notify.h"

static _Alignas(PAGE_LEN) struct machine machine;
static struct program program;

/* All that the leader waits for, blocked in every thread from the first line of main: a SIGUSR1 that
 * comes right after exec stays pending instead of killing. */
static void block_signals(sigset_t *set)
{
	static const int waited[] = {SIGUSR1, SIGTERM, SIGINT, SIGHUP, SIGCHLD};
	sigemptyset(set);
	for (unsigned i = 0; i < ARRAY_LEN(waited); i++)
		sigaddset(set, waited[i]);
	sigaddset(set, MACHINE_WAKE_SIGNAL);
	sigset_t blocked = *set;
	sigaddset(&blocked, SIGUSR2); /* the kick: vCPU threads unblock it */
	sigaddset(&blocked, SIGPIPE);
	sigaddset(&blocked, SIGXFSZ); /* past RLIMIT_FSIZE a write fails, and that is enough */
	pthread_sigmask(SIG_BLOCK, &blocked, NULL);
}

/* Descriptors 0 to 2 exist, or what is opened next would become somebody's standard output. */
static void open_standard_fds(void)
{
	int fd;
	while ((fd = open("/dev/null", O_RDWR)) >= 0 && fd <= STDERR_FILENO)
		;
	if (fd > STDERR_FILENO)
		close(fd);
}

static int fail(const struct error *err)
{
	console_restore_terminal();
	log_error(err);
	return (int)err->exit;
}

/* SIGTERM and SIGINT: the first presses the power button, a second one ends the guest at once. */
struct stopping {
	int sig; /* 0: not asked yet */
	uint64_t deadline_ns;
};

static void ask_to_power_off(struct machine *m, struct stopping *stop, int sig, const char *by)
{
	m->ending = true;
	pthread_mutex_lock(&m->lock);
	bool listens = power_button(machine_device(m, "power", NULL));
	pthread_mutex_unlock(&m->lock);
	stop->sig = sig;
	stop->deadline_ns = now_ns() + m->opt.stop_timeout_s * 1000000000ull;
	log_info("%s: power button pressed%s; the guest has %u s, a second signal ends it at once",
		 by, listens ? "" : " (the guest does not listen to it yet)",
		 m->opt.stop_timeout_s);
}

static void on_stop_signal(struct machine *m, struct stopping *stop, int sig)
{
	if (stop->sig)
		machine_stop(m, 128 + sig, "ended by a second signal");
	else
		ask_to_power_off(m, stop, sig, sig == SIGTERM ? "SIGTERM" : "SIGINT");
}

/* @busy: looks whether there is one. */
static int wait_signal(const sigset_t *set, const struct stopping *stop, bool busy)
{
	const struct timespec none = {0};
	if (busy)
		return sigtimedwait(set, NULL, &none);
	if (!stop->sig)
		return sigwaitinfo(set, NULL);
	uint64_t now = now_ns();
	uint64_t left = stop->deadline_ns > now ? stop->deadline_ns - now : 0;
	struct timespec ts = {.tv_sec = (time_t)(left / 1000000000u),
			      .tv_nsec = (long)(left % 1000000000u)};
	return sigtimedwait(set, NULL, &ts);
}

/* The leader: waits for signals, serves the control socket's requests, performs updates. Returns the
 * exit code. */
static int lead(struct machine *m, const sigset_t *set)
{
	const struct update_request here = {0};
	struct stopping stop = {0};
	struct error err;
	bool prefault = false;
	while (m->stop_code < 0) {
		int sig = wait_signal(set, &stop, prefault);
		if (sig == SIGUSR1)
			update_run(m, &program, &here, &err);
		else if (sig == SIGTERM || sig == SIGINT)
			on_stop_signal(m, &stop, sig);
		else if (sig == MACHINE_WAKE_SIGNAL && serve_request(m, &program) && !stop.sig)
			ask_to_power_off(m, &stop, SIGTERM, "control socket");
		else if (sig == SIGHUP)
			report_reopen(m);
		else if (sig == SIGCHLD) /* the old address space and its page tables are gone */
			prefault = keeper_reap() || prefault;
		else if (prefault)
			prefault = !stop.sig && ram_prefault(&m->ram);
		else if (sig < 0 && errno == EAGAIN)
			machine_stop(m, 128 + stop.sig, "the guest did not power off in time");
	}
	return m->stop_code;
}

/* Where each table begins is written before it is read, or its page would be faulted in twice. */
static void machine_init(struct machine *m)
{
	m->fds.n = m->tree.n = m->pio.n = m->mmio.n = 0;
	pthread_mutex_init(&m->lock, NULL);
	m->leader = pthread_self();
	m->stop_code = -1;
}

static int start_fresh(struct machine *m, int argc, char *const argv[], struct error *err)
{
	int rc = program_init(&program, argc, argv, err);
	if (!rc)
		rc = options_parse(&m->opt, argc - 2, argv + 2, err);
	if (rc)
		return rc;
	if (m->opt.name)
		log_set_name(m->opt.name);
	rc = program_register(m, &program, err);
	if (!rc)
		rc = report_open(m, err);
	if (!rc)
		rc = control_open(m, err);
	if (!rc)
		rc = machine_build(m, NULL, err);
	if (rc)
		return rc;
	vcpus_start(m);
	rc = vcpus_wait_loaded(m, err);
	if (!rc)
		rc = machine_start(m, err);
	if (!rc)
		rc = machine_serve(m, err);
	if (!rc)
		rc = control_start(m->control, err);
	if (rc)
		return rc;
	serve_warn(m, &program);
	notify_send("READY=1", "the guest runs");
	return 0;
}

/* An image of an update that could not take the guest over. Before commit its end is the keeper's
 * signal to bring the old program back; only when that was this image the guest is lost. */
static int lost(struct error *err, enum program_mode mode, bool committed)
{
	error_prefix(err, "update failed %s commit", committed ? "after" : "before");
	if (!committed && !program_from_keeper(mode))
		error_hint(err, "none needed: the old program is brought back");
	else
		error_exit(err, EXIT_LOST);
	if (err->exit == EXIT_LOST && machine.console)
		console_own_terminal(machine.console);
	return fail(err);
}

/* The engine that hands the guest to a living successor. */
static int run_role(int argc, char *argv[], const struct role *role)
{
	char path[PROGRAM_PATH_LEN];
	struct error err;
	switch (role->kind) {
	case ROLE_PERSON:
		open_standard_fds();
		if (program_path(path, argv[0], &err))
			return fail(&err);
		setenv(PROGRAM_PATH_ENV, path, 1);
		return parent_run(argc, argv, role);
	case ROLE_PARENT:
	case ROLE_REHEARSAL:
		return parent_run(argc, argv, role);
	case ROLE_WORKER:
	case ROLE_SUCCESSOR:
		machine_init(&machine);
		return worker_run(&machine, &program, argc, argv, role);
	case ROLE_CONFUSED:
		break;
	}
	return fail(&(struct error){.text = ROLE_ENV " is set but makes no sense",
				    .hint = "unset it: it belongs to molt itself",
				    .exit = EXIT_USAGE});
}

static int run(int argc, char *argv[])
{
	struct machine *m = &machine;
	struct error err;
	sigset_t set;
	bool committed = false;

	for (int i = 2; i < argc; i++)
		if (!strcmp(argv[i], "--help")) {
			options_help(stdout);
			return 0;
		}
	struct role role = role_incoming();
	const char *engine = getenv("MOLT_ENGINE");
	if (role.kind != ROLE_PERSON || (engine && !strcmp(engine, "handover")))
		return run_role(argc, argv, &role);
	block_signals(&set);
	struct program_incoming in = program_incoming();
	if (in.mode == PROGRAM_NEW)
		fault_point("entry");
	if (in.mode == PROGRAM_NEW || in.mode == PROGRAM_RESCUE)
		rescue_arm(&in, argv);
	if (in.mode == PROGRAM_NEW)
		fault_point("start");
	machine_init(m);
	if (in.mode == PROGRAM_PREFLIGHT)
		_exit(preflight_answer(m, &program)); /* the end of the process frees it all */
	if (in.mode == PROGRAM_CONFUSED)
		return fail(&(struct error){.text = PROGRAM_ENV " is set but makes no sense",
					    .hint = "unset it: it belongs to molt itself",
					    .exit = EXIT_USAGE});
	if (in.mode == PROGRAM_FRESH) {
		open_standard_fds();
		if (start_fresh(m, argc, argv, &err)) {
			control_close(m->control);
			return fail(&err);
		}
	} else if (update_resume(m, &program, &in, &committed, &err)) {
		return lost(&err, in.mode, committed);
	}
	int code = lead(m, &set);
	report_ended(m);
	control_close(m->control);
	machine_destroy(m);
	log_info("%s (exit %d)", m->stop_reason, code);
	return code;
}

static void usage(FILE *out)
{
	fprintf(out, "usage: molt run OPTIONS    run a guest (molt run --help)\n"
		     "       molt status GUEST [--json]\n"
		     "       molt update GUEST [--check] [--exe FILE] [--json]\n"
		     "       molt stop GUEST [--json]\n"
		     "       molt events GUEST\n" INSPECT_USAGE "       molt --version\n"
		     "       molt --help\n"
		     "GUEST is a --name, or the path of a control socket (with a slash in it)\n"
		     "signals of a running guest: SIGUSR1 updates the program in place,\n"
		     "       SIGTERM and SIGINT power off, SIGHUP reopens the report file\n");
}

static int version(int argc, char *argv[])
{
	printf("molt %s (build %s)\n", build_version(), build_id());
	return 0;
}

static int help(int argc, char *argv[])
{
	usage(stdout);
	return 0;
}

static int state(int argc, char *argv[])
{
	struct error err;
	int rc = inspect_run(argc - 2, argv + 2, &err);
	return rc < 0 ? fail(&err) : rc;
}

static int man_options(int argc, char *argv[])
{
	options_man(stdout);
	return 0;
}

static int completion(int argc, char *argv[])
{
	options_completion(stdout);
	return 0;
}

/* The first word of the command line says which. Each gets all of main's arguments. */
static const struct {
	const char *word;
	int (*run)(int argc, char *argv[]);
	bool alone; /* takes no further words */
} verbs[] = {
	{"run", run, false},
	{"state", state, false},
	{"status", client_status, false},
	{"update", client_update, false},
	{"stop", client_stop, false},
	{"events", client_events, false},
	{"--version", version, true},
	{"-V", version, true},
	{"--help", help, true},
	{"-h", help, true},
	{"--man-options", man_options, true}, /* for the build of the man page */
	{"--completion", completion, true},
};

int main(int argc, char *argv[])
{
	for (unsigned i = 0; argc >= 2 && i < ARRAY_LEN(verbs); i++)
		if (!strcmp(argv[1], verbs[i].word) && (argc == 2 || !verbs[i].alone))
			return verbs[i].run(argc, argv);
	usage(stderr);
	return EXIT_USAGE;
}
