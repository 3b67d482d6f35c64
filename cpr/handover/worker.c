/* SPDX-License-Identifier: MIT */
/*
 * The leader of a worker. First it gets the guest: it makes a new one, or takes one over as a successor. Then it waits
 * in one loop for what the parent says, what the control socket asks for, and what the other side of an update sends.
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
#include "cpr/handover/outbox.h"
#include "cpr/handover/successor.h"
#include "cpr/handover/wire.h"
#include "cpr/program.h"
#include "cpr/handover/reboot.h"
#include "cpr/handover/report.h"
#include "cpr/handover/serve.h"
#include "cpr/handover/stop.h"
#include "vmm/control/client.h"
#include "vmm/console/console.h"
#include "vmm/console/terminal.h"
#include "vmm/control/control.h"
#include "vmm/machine.h"
#include "vmm/notify.h"
#include "vmm/outfile.h"

#define PARTING_NS (20000 * NS_PER_MS) /* until the parent's new image has spoken */
#define SETTLE_NS  (1000 * NS_PER_MS)
#define LOOK_NS	   (60000 * NS_PER_MS)
#define INHERIT_NS (20 * NS_PER_MS)

static struct worker {
	struct machine *m;
	struct program *p;
	int link; /* -1: there is no parent any more */
	pid_t parent;
	int signals;
	uint64_t parting_ns; /* the parent execs itself since; 0: it does not */
	uint64_t settle_ns;  /* when what failed at the take-over is tried again */
	uint64_t
		inherit_ns; /* when machine_inherit() is tried next; 0: now; UINT64_MAX: it is done */
	uint64_t look_ns;   /* next look for what blocks updates; UINT64_MAX: none */
	uint64_t boot_ns;   /* when a guest that has ended boots again; 0: at once */
	bool again;	    /* SIGUSR1 came during an update, or between two boots */
	struct outbox out; /* to the parent, what it must know */
	struct stopping stop;
} self = {.link = -1, .signals = -1};

/* ---- the parent ---- */

int worker_send(enum link_kind kind, int64_t value, const char *text, const int *fds, unsigned nfds,
		struct error *err)
{
	if (self.link < 0)
		return error_set(err, ESRCH, "there is no parent process any more");
	return wire_send(self.link, kind, value, text, text ? strlen(text) : 0, fds, nfds, err);
}

pid_t worker_known_pid(void)
{
	return self.link < 0 ? getpid() : self.parent;
}

static int notify_parent(const char *text)
{
	struct error err;
	return worker_send(LINK_NOTIFY, 0, text, NULL, 0, &err);
}

/* The parent is gone while it was executing its new program: only then its end does not end this process. The guest
 * runs on here, and the supervisor must learn this process id. At any other time the kernel kills this process too
 * (PR_SET_PDEATHSIG), although it may see the closed socket just before. */
static void go_alone(const char *why)
{
	char assignment[32];
	if (self.link < 0)
		return;
	fd_close(&self.link);
	self.out.n = 0;
	self.parting_ns = 0;
	notify_set_sender(NULL);
	report_set_pid(0);
	log_warn("the parent (pid %d) is lost: %s; the guest runs on in process %d",
		 (int)self.parent, why, (int)getpid());
	log_info("  remedy: molt run --take GUEST, before it is to be updated or to begin anew");
	snprintf(assignment, sizeof(assignment), "MAINPID=%d", (int)getpid());
	notify_send(assignment, "the guest runs on without its parent");
}

/* Sends a message that must arrive: the parent waits for it, and may kill this worker without it. */
static void tell(enum link_kind kind, int64_t value, const char *text, int fd)
{
	struct error err;
	int rc = self.link < 0 ? 0 : outbox_send(&self.out, self.link, kind, value, text, fd, &err);
	if (rc == -EPIPE || rc == -ECONNRESET)
		go_alone(err.text);
}

static void tell_parent(enum link_kind kind, int64_t value)
{
	tell(kind, value, NULL, -1);
}

/* Gives the parent the log file, the level and the guest's name, so that its lines look like the worker's. */
static void tell_log(void)
{
	tell(LINK_LOG, self.m->opt.log_level, self.m->opt.name, log_file());
}

void worker_owns(void)
{
	tell_parent(LINK_OWNER, 0);
	tell_log();
}

static void on_parting(void)
{
	prctl(PR_SET_PDEATHSIG, 0);
	self.parting_ns = now_ns();
	tell_parent(LINK_PARTED, 0);
}

static void on_back(void)
{
	self.parting_ns = 0;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != self.parent)
		go_alone("it ended right after its update");
	else
		tell_log();
}

/* ---- what is asked ---- */

static void begin_update(void)
{
	const struct incumbent_request here = {0};
	struct error err;
	/* The parent keeps the request until a worker serves it: this one, a successor, or this one after a reboot. */
	self.again = incumbent_busy() || self.m->stop_code >= 0;
	if (self.again)
		return;
	tell_parent(LINK_TAKEN, SIGUSR1);
	incumbent_begin(self.m, self.p, &here, &err);
}

/* SIGHUP: log, report and console file may have been rotated, so they are reopened. */
static void reopen_files(void)
{
	struct error err[3] = {0};
	report_reopen(self.m, &err[0]);
	console_reopen(self.m->console, &err[1]);
	outfile_log_reopen(self.m, &err[2]);
	tell_log();
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
	tell_parent(LINK_TAKEN, sig);
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
		on_parting();
		break;
	case LINK_BACK:
		on_back();
		break;
	}
	wire_close_fds(msg);
}

static void listen_to_parent(void)
{
	static struct wire_message msg;
	struct error err;
	int rc = 0;
	while (self.link >= 0 && !rc) {
		rc = wire_recv(self.link, &msg, 0, &err);
		if (!rc)
			on_message(&msg);
	}
	if (rc == -EPIPE) /* other errors may pass by themselves */
		go_alone(err.text);
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
		else if (self.link < 0)
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
	uint64_t next = UINT64_MAX, now = now_ns();
	earlier(&next, self.stop.deadline_ns);
	earlier(&next, incumbent_deadline());
	earlier(&next, self.parting_ns ? self.parting_ns + PARTING_NS : 0);
	earlier(&next, self.settle_ns);
	earlier(&next, self.inherit_ns);
	earlier(&next, self.look_ns);
	earlier(&next, self.boot_ns);
	earlier(&next, former_deadline());
	earlier(&next, self.out.n ? now + OUTBOX_NS : 0);
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
	struct error err;
	uint64_t now = now_ns();
	if (self.out.n && self.link >= 0 && outbox_flush(&self.out, self.link, &err))
		go_alone(err.text);
	if (self.stop.deadline_ns && now >= self.stop.deadline_ns)
		machine_stop(m, 128 + self.stop.sig, "the guest did not power off in time");
	if (self.parting_ns && now >= self.parting_ns + PARTING_NS)
		go_alone("its new program does not speak");
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
			     {.fd = self.link, .events = POLLIN},
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
	} while (self.link >= 0 && reboot_wanted(m) &&
		 (self.boot_ns || self.parting_ns || m->paused.since_s ||
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
	if (self.link < 0) {
		log_warn("no reboot: there is no parent process any more");
		return;
	}
	reboot(self.m, self.p, self.link, self.again, argv, &err);
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

int worker_register(struct machine *m, struct program *p, struct error *err)
{
	const struct state_section s = {.node = "program", .cls = &program_state_class, .state = p};
	return state_register(&m->tree, &s, err);
}

/* molt run --take: asks another parent's worker for its guest over the control socket, and becomes its successor. A
 * refusal comes back over that socket too. */
static int take_guest(const char *guest, struct error *err)
{
	char path[PROGRAM_PATH_LEN];
	struct client_link l;
	int ends[2];
	memcpy(path, self.p->path, sizeof(path));
	int rc = client_connect(&l, guest, 0, err);
	if (rc)
		return rc;
	rc = wire_pair(ends, err);
	if (!rc) {
		rc = client_send_fd(&l, "take\n", ends[1], err);
		close(ends[1]);
		if (!rc)
			rc = successor_run(self.m, self.p, ends[0], err);
		else
			close(ends[0]);
	}
	if (rc)
		client_explain(&l, err);
	else
		memcpy(self.p->path, path,
		       sizeof(path)); /* updates are of this program from now on */
	client_close(&l);
	return rc;
}

/* Does what the command line asks for. Returns 1 if this process has taken a guest, which runs. */
static int begin(int argc, char *argv[], struct error *err)
{
	struct machine *m = self.m;
	int rc = program_init(self.p, argc, argv, err)
			 ?: options_parse(&m->opt, argc - 2, argv + 2, err);
	if (!rc && m->opt.take)
		rc = take_guest(m->opt.take, err) ?: 1;
	return rc ? rc : worker_register(m, self.p, err);
}

/* @kept: what the boot before this one has left, or -1. */
static int make_guest(int argc, char *argv[], int kept, struct error *err)
{
	struct machine *m = self.m;
	int rc = kept < 0 ? begin(argc, argv, err)
			  : reboot_resume(m, self.p, kept, &self.again, err);
	if (rc)
		return rc > 0 ? 0 : rc;
	rc = outfile_log(m, err);
	if (!rc)
		tell_log();
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
		serve_warn(m, self.p);
	notify_send(kept < 0 ? "READY=1" : "", "the guest runs");
	return 0;
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
	self.link = role->link;
	self.parent = getppid();
	report_set_pid(self.parent);
	notify_set_sender(notify_parent);
	prctl(PR_SET_NAME, first ? "molt-worker" : "molt-successor");
	if (block_signals(&err))
		return fail(m, &err);
	if (!first)
		fault_point("entry");
	if (first && make_guest(argc, argv, role->peer, &err)) {
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
