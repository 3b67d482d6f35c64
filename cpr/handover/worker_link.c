/* SPDX-License-Identifier: MIT */
/*
 * A worker's side of its link to the parent: messages that must arrive, the moment in which the parent executes its
 * new program, and what to do when the parent is lost.
 */
#include "cpr/handover/worker_link.h"

#include <signal.h>
#include <sys/prctl.h>

#include "cpr/handover/outbox.h"
#include "cpr/handover/report.h"
#include "cpr/handover/wire.h"
#include "vmm/machine.h"
#include "vmm/notify.h"

#define PARTING_NS (20000 * NS_PER_MS) /* until the parent's new image has spoken */

static struct {
	const struct machine *m;
	int sock; /* -1: there is no parent any more */
	pid_t pid;
	uint64_t parting_ns; /* the parent execs itself since; 0: it does not */
	struct outbox out;   /* what it must know */
} parent = {.sock = -1};

static int notify_parent(const char *text)
{
	struct error err;
	return worker_send(LINK_NOTIFY, 0, text, NULL, 0, &err);
}

void worker_link_init(const struct machine *m, int sock)
{
	parent.m = m;
	parent.sock = sock;
	parent.pid = getppid();
	report_set_pid(parent.pid);
	notify_set_sender(notify_parent);
}

int worker_link_socket(void)
{
	return parent.sock;
}

int worker_send(enum link_kind kind, int64_t value, const char *text, const int *fds, unsigned nfds,
		struct error *err)
{
	if (parent.sock < 0)
		return error_set(err, ESRCH, "there is no parent process any more");
	return wire_send(parent.sock, kind, value, text, text ? strlen(text) : 0, fds, nfds, err);
}

pid_t worker_known_pid(void)
{
	return parent.sock < 0 ? getpid() : parent.pid;
}

/* The parent is gone while it was executing its new program: only then its end does not end this process. The
 * supervisor must learn this process id. At any other time the kernel kills this process too (PR_SET_PDEATHSIG),
 * although it may see the closed socket just before. */
void worker_go_alone(const char *why)
{
	char assignment[32];
	if (parent.sock < 0)
		return;
	fd_close(&parent.sock);
	parent.out.n = 0;
	parent.parting_ns = 0;
	notify_set_sender(NULL);
	report_set_pid(0);
	log_warn("the parent (pid %d) is lost: %s; the guest runs on in process %d",
		 (int)parent.pid, why, (int)getpid());
	log_info("  remedy: molt run --take GUEST, before it is to be updated or to begin anew");
	snprintf(assignment, sizeof(assignment), "MAINPID=%d", (int)getpid());
	notify_send(assignment, "the guest runs on without its parent");
}

static void tell(enum link_kind kind, int64_t value, const char *text, int fd)
{
	struct error err;
	int rc = parent.sock < 0
			 ? 0
			 : outbox_send(&parent.out, parent.sock, kind, value, text, fd, &err);
	if (rc == -EPIPE || rc == -ECONNRESET)
		worker_go_alone(err.text);
}

void worker_tell(enum link_kind kind, int64_t value)
{
	tell(kind, value, NULL, -1);
}

void worker_tell_log(void)
{
	tell(LINK_LOG, parent.m->opt.log_level, parent.m->opt.name, log_file());
}

void worker_owns(void)
{
	worker_tell(LINK_OWNER, 0);
	worker_tell_log();
}

void worker_parting(void)
{
	prctl(PR_SET_PDEATHSIG, 0);
	parent.parting_ns = now_ns();
	worker_tell(LINK_PARTED, 0);
}

void worker_back(void)
{
	parent.parting_ns = 0;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent.pid)
		worker_go_alone("it ended right after its update");
	else
		worker_tell_log();
}

bool worker_is_parting(void)
{
	return parent.parting_ns;
}

uint64_t worker_link_deadline(uint64_t now)
{
	uint64_t end = parent.parting_ns ? parent.parting_ns + PARTING_NS : 0;
	uint64_t again = parent.out.n ? now + OUTBOX_NS : 0;
	return end && (!again || end < again) ? end : again;
}

void worker_link_keep(uint64_t now)
{
	struct error err;
	if (parent.out.n && parent.sock >= 0 && outbox_flush(&parent.out, parent.sock, &err))
		worker_go_alone(err.text);
	if (parent.parting_ns && now >= parent.parting_ns + PARTING_NS)
		worker_go_alone("its new program does not speak");
}
