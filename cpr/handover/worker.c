/* SPDX-License-Identifier: MIT */
/*
 * The leader of a worker. First it gets the guest (worker_guest.c, or successor.c). Then it waits in one loop for what
 * the parent says, what the control socket asks for, and what the other side of an update sends.
 */
#include "cpr/handover/worker.h"

#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>

#include "cpr/fault.h"
#include "cpr/handover/check.h"
#include "cpr/handover/former.h"
#include "cpr/handover/incumbent.h"
#include "cpr/handover/successor.h"
#include "cpr/handover/wire.h"
#include "cpr/handover/reboot.h"
#include "cpr/handover/report.h"
#include "cpr/handover/serve.h"
#include "cpr/handover/stop.h"
#include "cpr/handover/worker_guest.h"
#include "cpr/handover/worker_link.h"
#include "vmm/console/console.h"
#include "vmm/console/terminal.h"
#include "vmm/control/control.h"
#include "vmm/machine.h"
#include "vmm/outfile.h"

#define SETTLE_NS  (1000 * NS_PER_MS)
#define LOOK_NS	   (60000 * NS_PER_MS)
#define INHERIT_NS (20 * NS_PER_MS)

static struct worker {
	struct machine *m;
	struct program *p;
	int signals;
	uint64_t settle_ns;  /* when what failed at the take-over is tried again */
	uint64_t inherit_ns; /* when machine_inherit() is due; 0: now; UINT64_MAX: it is done */
	uint64_t look_ns;    /* next look for what blocks updates; UINT64_MAX: none */
	uint64_t boot_ns;    /* when a guest that has ended boots again; 0: at once */
	bool again;	     /* SIGUSR1 came during an update, or between two boots */
	struct stopping stop;
} self = {.signals = -1};

/* ---- what is asked ---- */

static void begin_update(void)
{
	const struct incumbent_request here = {0};
	struct error err;
	/* The parent keeps the request until a worker serves it: this one, a successor, or this one after a reboot. */
	self.again = incumbent_busy() || self.m->stop_code >= 0;
	if (self.again)
		return;
	worker_tell(LINK_TAKEN, SIGUSR1);
	incumbent_begin(self.m, self.p, &here, &err);
}

/* SIGHUP: log, report and console file may have been rotated, so they are reopened. */
static void reopen_files(void)
{
	struct error err[3] = {0};
	report_reopen(self.m, &err[0]);
	console_reopen(self.m->console, &err[1]);
	outfile_log_reopen(self.m, &err[2]);
	worker_tell_log();
	for (unsigned i = 0; i < ARRAY_LEN(err); i++) {
		if (!err[i].code)
			continue;
		log_warn("%s: what is open is kept", err[i].text);
		log_info("  remedy: %s, then send SIGHUP again", err[i].hint);
	}
}

/* A parent of another version may send a signal that this program does not know. It is ignored. */
static void end_by(int sig)
{
	char why[80];
	sigset_t known;
	link_signals(&known);
	if (sigismember(&known, sig) != 1)
		return;
	snprintf(why, sizeof(why), "ended by signal %d (%s)", sig, strsignal(sig));
	machine_end(self.m, 128 + sig, why);
}

/* The terminal is gone. Shell and kernel may both report it; the second report changes nothing. */
static void hang_up(void)
{
	if (self.stop.sig)
		return;
	incumbent_cancel("the terminal has hung up");
	stop_ask(self.m, &self.stop, SIGHUP, "the terminal has hung up");
}

static void on_signal(int sig)
{
	bool console_gone = sig == LINK_HANGUP && !strcmp(self.m->opt.console, "stdio");
	if (sig == SIGUSR1) {
		begin_update();
		return;
	}
	worker_tell(LINK_TAKEN, sig);
	if (console_gone) {
		hang_up();
	} else if (sig == SIGHUP || sig == LINK_HANGUP) {
		reopen_files();
	} else if (sig == SIGTERM || sig == SIGINT) {
		incumbent_cancel("the guest was asked to power off");
		stop_on_signal(self.m, &self.stop, sig);
	} else {
		end_by(sig);
	}
}

static void on_message(struct wire_message *msg)
{
	switch (msg->kind) {
	case LINK_ANSWERS:
		incumbent_answers(msg->value);
		break;
	case LINK_STARTED:
		incumbent_started(msg);
		break;
	case LINK_SIGNAL:
		on_signal((int)msg->value);
		break;
	case LINK_PARTING:
		worker_parting();
		break;
	case LINK_BACK:
		worker_back();
		break;
	}
	wire_close_fds(msg);
}

static void listen_to_parent(void)
{
	static struct wire_message msg;
	struct error err;
	int rc = 0;
	while (worker_link_socket() >= 0 && !rc) {
		rc = wire_recv(worker_link_socket(), &msg, 0, &err);
		if (!rc)
			on_message(&msg);
	}
	if (rc == -EPIPE) /* other errors may pass by themselves */
		worker_go_alone(err.text);
}

static void tell_troubles(void)
{
	struct machine *m = self.m;
	for (unsigned i = 0; i < m->ndevices; i++) {
		struct device *dev = m->devices[i];
		pthread_mutex_lock(&m->lock);
		bool told = dev->told, ends = dev->told && dev->ends_guest;
		dev->told = false;
		pthread_mutex_unlock(&m->lock);
		if (told)
			report_trouble(m, dev);
		if (!ends || self.stop.sig)
			continue;
		incumbent_cancel("the guest was asked to power off");
		stop_ask(m, &self.stop, SIGTERM, "the host wants a device back");
	}
}

/* MACHINE_WAKE_SIGNAL, and without a parent also the signals that it would have passed on. */
static void take_signals(void)
{
	struct signalfd_siginfo info;
	bool asked = false;
	while (read(self.signals, &info, sizeof(info)) == sizeof(info)) {
		if (info.ssi_signo == MACHINE_WAKE_SIGNAL)
			asked = true;
		else if (worker_link_socket() < 0)
			on_signal((int)info.ssi_signo);
	}
	if (asked)
		tell_troubles();
	if (asked && serve_request(self.m, self.p) && !self.stop.sig) {
		incumbent_cancel("the guest was asked to power off");
		stop_ask(self.m, &self.stop, SIGTERM, "control socket");
	}
}

/* ---- time ---- */

static void earlier(uint64_t *next, uint64_t at)
{
	if (at && at < *next)
		*next = at;
}

static int time_left_ms(void)
{
	uint64_t next = UINT64_MAX;
	earlier(&next, self.stop.deadline_ns);
	earlier(&next, incumbent_deadline());
	earlier(&next, self.settle_ns);
	earlier(&next, self.inherit_ns);
	earlier(&next, self.look_ns);
	earlier(&next, self.boot_ns);
	earlier(&next, former_deadline());
	earlier(&next, worker_link_deadline(now_ns()));
	return next == UINT64_MAX ? -1 : ms_until(next);
}

/* Retries each second what failed at the take-over. */
static void settle(uint64_t now)
{
	struct machine *m = self.m;
	struct error err;
	if (self.settle_ns && now >= self.settle_ns) {
		self.settle_ns = 0;
		if (m->unsettled && !machine_settle(m, &err))
			log_info("the devices' DMA addresses are this process's now");
		if (m->irq.missing)
			irq_attach_missing(&m->irq);
	}
	if ((m->unsettled || m->irq.missing) && !self.settle_ns)
		self.settle_ns = now + SETTLE_NS;
}

/* There is no notification when a former worker in another PID namespace (--take) ends, so this polls. */
static void inherit(uint64_t now)
{
	struct error err;
	if (former_fd() < 0 && now >= self.inherit_ns)
		self.inherit_ns =
			machine_inherit(self.m, &err) == -EBUSY ? now + INHERIT_NS : UINT64_MAX;
}

/* Logs what would have an update refused as soon as it is so, since nobody may ask for months. Some of it can only be
 * found by looking, such as a limit that was lowered from outside. */
static void look(uint64_t now)
{
	if (now >= self.look_ns)
		self.look_ns = check_look(self.m) ? now + LOOK_NS : UINT64_MAX;
}

static void keep_deadlines(void)
{
	struct machine *m = self.m;
	uint64_t now = now_ns();
	worker_link_keep(now);
	if (self.stop.deadline_ns && now >= self.stop.deadline_ns)
		machine_stop(m, 128 + self.stop.sig, "the guest did not power off in time");
	settle(now);
	inherit(now);
	/* During an update the successor has these descriptors too. The guest's owner closes them afterwards. */
	if (!incumbent_busy())
		devices_release(m);
	look(now);
}

/* Sleeps until a request, a message or a deadline, and serves it. The end of the guest wakes it as well. */
static void serve(void)
{
	keep_deadlines();
	struct pollfd p[] = {{.fd = self.signals, .events = POLLIN},
			     {.fd = worker_link_socket(), .events = POLLIN},
			     {.fd = incumbent_socket(), .events = POLLIN},
			     {.fd = former_fd(), .events = POLLIN}};
	poll(p, ARRAY_LEN(p), time_left_ms());
	if (p[3].revents)
		former_ended();
	take_signals();
	listen_to_parent();
}

/* A guest that has crashed: does it stay as it is? */
static bool keep_crashed(void)
{
	struct machine *m = self.m;
	if (!reboot_instead_kept(m))
		return false;
	incumbent_ended();
	if (!paused_keep(m))
		return false;
	report_crashed(m);
	return true;
}

/* Until the guest has ended. */
static void lead(void)
{
	struct machine *m = self.m;
	while (m->stop_code < 0 || keep_crashed()) {
		if (self.again && !incumbent_busy())
			begin_update();
		serve();
		if (m->stop_code < 0)
			incumbent_step();
	}
	incumbent_ended();
}

/* ---- between two boots ---- */

static void give_up(struct error *err)
{
	struct machine *m = self.m;
	error_prefix(err, "reboot");
	log_error(err);
	snprintf(m->stop_reason, sizeof(m->stop_reason), "%.120s", err->text);
	m->stop_code = (int)err->exit;
}

/* Waits until the guest may boot again: it may be paused or ended meanwhile, and a parent that is about to exec must
 * find this same worker afterwards. Returns whether the guest is to boot. */
static bool await_boot(void)
{
	struct machine *m = self.m;
	uint64_t wait_ns = reboot_wait_ns();
	if (wait_ns)
		log_warn("%s: it did not run for long, and begins anew in %lu s", m->stop_reason,
			 wait_ns / NS_PER_S);
	vcpus_pause(m); /* the vCPUs that still run */
	vcpus_wait_saved(m, NULL);
	former_await();
	self.boot_ns = now_ns() + wait_ns;
	do {
		serve();
		/* Set to 0 only here: serve() sleeps for ever where there is no deadline. */
		if (now_ns() >= self.boot_ns)
			self.boot_ns = 0;
	} while (worker_link_socket() >= 0 && reboot_wanted(m) &&
		 (self.boot_ns || worker_is_parting() || m->paused.since_s ||
		  now_ns() < former_deadline()));
	former_forget();
	return reboot_wanted(m);
}

/* Reboots the guest. Returns only if that fails, or is no longer wanted. */
static void begin_anew(char *argv[])
{
	struct error err;
	if (!await_boot())
		return;
	if (worker_link_socket() < 0) {
		log_warn("no reboot: there is no parent process any more");
		return;
	}
	reboot(self.m, self.p, worker_link_socket(), self.again, argv, &err);
	give_up(&err);
}

/* ---- the life of a worker ---- */

/* Signals of the keyboard reach the whole process group, those of a supervisor the whole cgroup. The parent passes them
 * on, so this process blocks them. */
static int block_signals(struct error *err)
{
	sigset_t set, blocked;
	link_signals(&set);
	sigaddset(&set, MACHINE_WAKE_SIGNAL);
	blocked = set;
	sigdelset(&set, SIGUSR2); /* the kick: vCPU threads unblock it */
	sigaddset(&blocked, SIGPIPE);
	sigaddset(&blocked, SIGXFSZ); /* past RLIMIT_FSIZE a write fails, and that is enough */
	pthread_sigmask(SIG_BLOCK, &blocked, NULL);
	self.signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	return self.signals < 0 ? error_errno(err, errno, "signals") : 0;
}

static int fail(struct machine *m, const struct error *err)
{
	control_close(m->control);
	terminal_restore();
	log_error(err);
	return (int)err->exit;
}

int worker_run(struct machine *m, struct program *p, int argc, char *argv[],
	       const struct role *role)
{
	struct error err;
	bool first = role->kind == ROLE_WORKER;
	self.m = m;
	self.p = p;
	worker_link_init(m, role->link);
	prctl(PR_SET_NAME, first ? "molt-worker" : "molt-successor");
	if (block_signals(&err))
		return fail(m, &err);
	if (!first)
		fault_point("entry");
	if (first && worker_make_guest(m, p, argc, argv, role->peer, &self.again, &err)) {
		if (role->peer < 0)
			return fail(m, &err);
		give_up(&err);
		report_ended(m);
		control_close(m->control);
		terminal_restore();
		return m->stop_code;
	}
	if (!first && successor_run(m, p, role->peer, &err))
		return EXIT_REFUSED; /* the incumbent has been told */
	lead();
	if (reboot_wanted(m))
		begin_anew(argv);
	report_ended(m);
	control_close(m->control);
	machine_destroy(m);
	if (m->stop_code)
		log_warn("%s (exit %d)", m->stop_reason, m->stop_code);
	else
		log_info("%s (exit %d)", m->stop_reason, m->stop_code);
	return m->stop_code;
}
