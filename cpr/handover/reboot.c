/* SPDX-License-Identifier: MIT */
/* The worker executes itself, and begins the guest anew. */
#include "cpr/handover/reboot.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cpr/handover/blob.h"
#include "cpr/handover/link.h"
#include "cpr/handover/report.h"
#include "cpr/handover/spawn.h"
#include "cpr/handover/worker.h"
#include "cpr/program.h"
#include "vmm/control/control.h"
#include "vmm/machine.h"

/* A guest that resets at once must not fill the log. */
#define BOOT_MS 1000

static struct blob blob = {.fd = -1};
static struct state_blob parsed;
static uint64_t booted_ns;

/* Of the host's side. All other descriptors are opened anew. */
static const char *const kept_fds[] = {
	"std", "console", "control", "report", "log", "kvm", "testdev",
};
/* A tap of the guest's network interface, which somebody else may have opened. */
#define LINK ":link"
static const char *const kept_nodes[] = {"program", "console", "counters"};

/* Of a stream nobody would know where its next frame begins. */
static bool is_tap(const struct fdset_entry *e)
{
	size_t len = strlen(e->name);
	return len > strlen(LINK) && !strcmp(e->name + len - strlen(LINK), LINK) &&
	       !S_ISSOCK(e->mode);
}

static bool is_kept(const struct fdset_entry *e)
{
	for (unsigned i = 0; i < ARRAY_LEN(kept_fds); i++)
		if (!strncmp(e->name, kept_fds[i], strlen(kept_fds[i])))
			return true;
	return is_tap(e);
}

bool reboot_wanted(const struct machine *m)
{
	if (m->ending) /* somebody waits for its end */
		return false;
	switch (m->stop_code) {
	case EXIT_RESET:
		return m->opt.on_reset == ON_RESET_REBOOT;
	case EXIT_CRASH:
	case EXIT_PANIC:
	case EXIT_INTERNAL:
		return m->opt.on_crash == ON_CRASH_REBOOT;
	default:
		return false;
	}
}

static int save(struct machine *m, struct error *err)
{
	static struct state_tree tree;
	for (unsigned i = 0; i < m->tree.n; i++)
		for (unsigned k = 0; k < ARRAY_LEN(kept_nodes); k++)
			if (!strcmp(m->tree.sections[i].node, kept_nodes[k]))
				tree.sections[tree.n++] = m->tree.sections[i];
	/* A device's last descriptor stops its DMA, and resets it. */
	for (unsigned i = 0; i < m->fds.n;) {
		if (is_kept(&m->fds.e[i]))
			i++;
		else
			fdset_close(&m->fds, m->fds.e[i].name);
	}
	return blob_create(&blob, &tree, &m->fds, err) ?: blob_write(&blob, &tree, &m->fds, err);
}

/* Descriptors of the standard ones are not close-on-exec anyway. */
static void let_through(struct machine *m, bool on, int link)
{
	for (unsigned i = 0; i < m->fds.n; i++)
		if (m->fds.e[i].fd > STDERR_FILENO)
			fd_set_cloexec(m->fds.e[i].fd, !on);
	fd_set_cloexec(blob.fd, !on);
	fd_set_cloexec(link, !on);
}

static int exec_again(struct machine *m, int link, char **argv, struct error *err)
{
	char text[ROLE_ENV_LEN];
	const struct role role = {.kind = ROLE_WORKER, .link = link, .peer = blob.fd};
	char **envp = spawn_environment(text, &role);
	if (!envp)
		return error_errno(err, ENOMEM, "reboot");
	let_through(m, true, link);
	execve("/proc/self/exe", argv, envp);
	int code = errno;
	let_through(m, false, link);
	return error_errno(err, code, "reboot: exec of /proc/self/exe");
}

int reboot(struct machine *m, struct program *p, int link, char **argv, struct error *err)
{
	uint64_t ms = (now_ns() - booted_ns) / 1000000;
	p->reboots++;
	report_reboot(m, p->reboots);
	counters_read(m); /* what these vCPUs have done */
	if (machine_halt(m, err))
		return error_prefix(err, "reboot");
	control_park(m->control);
	/* Its file, where it has one of its own, is to be empty when it begins. */
	ram_abandon(&m->fds);
	if (ms < BOOT_MS)
		poll(NULL, 0, (int)(BOOT_MS - ms));
	return save(m, err) ?: exec_again(m, link, argv, err);
}

static int take_fds(struct machine *m, struct error *err)
{
	struct fdset *fds = &m->fds;
	int rc = fdset_list(fds, &parsed, err);
	for (unsigned i = 0; !rc && i < fds->n; i++) {
		if (fds->e[i].fd > STDERR_FILENO && fd_set_cloexec(fds->e[i].fd, true))
			rc = error_errno(err, errno, "reboot: descriptor %s", fds->e[i].name);
		if (fds->e[i].generation > fds->generations)
			fds->generations = fds->e[i].generation;
	}
	return rc;
}

int reboot_resume(struct machine *m, struct program *p, int fd, struct error *err)
{
	int rc = blob_adopt(&blob, fd, err)
			 ?: state_open(&parsed, blob.map, blob.len, err)
			 ?: take_fds(m, err)
			 ?: worker_register(m, p, err)
			 ?: state_load_section(&parsed, &m->tree.sections[m->tree.n - 1], err)
			 ?: program_options(p, &m->opt, err);
	m->kept = &parsed;
	return rc;
}

void reboot_done(struct machine *m)
{
	booted_ns = now_ns();
	m->kept = NULL;
	blob_close(&blob);
}
