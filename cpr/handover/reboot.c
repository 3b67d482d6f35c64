/* SPDX-License-Identifier: MIT */
/* The worker executes itself, and begins the guest anew. */
#include "cpr/handover/reboot.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cpr/handover/blob.h"
#include "cpr/handover/link.h"
#include "cpr/handover/report.h"
#include "cpr/handover/spawn.h"
#include "cpr/handover/worker_guest.h"
#include "cpr/program.h"
#include "vmm/control/control.h"
#include "vmm/machine.h"

static struct blob blob = {.fd = -1};
static struct state_blob parsed;
static uint64_t booted_ns;

/* What one boot leaves to the next. It is no state of the guest: no update carries it. */
static struct boots {
	uint32_t quick; /* how many in a row have not lasted */
	uint32_t asked; /* an update was */
	uint32_t gone;	/* slots whose devices it has ejected */
} boots;

static const struct field boots_fields[] = {
	FIELD_U(struct boots, quick),
	FIELD_U(struct boots, asked),
	FIELD_U(struct boots, gone),
};
static STATE_CLASS(boots_class, "boots", 1, struct boots, boots_fields);
static const struct state_section boots_section = {
	.node = "boots", .cls = &boots_class, .state = &boots};

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

uint64_t reboot_wait_ns(void)
{
	return reboot_backoff_ns(&boots.quick, now_ns() - booted_ns);
}

static int save(struct machine *m, struct error *err)
{
	static struct state_tree tree;
	tree.sections[tree.n++] = boots_section;
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
		return error_errno(err, ENOMEM, "environment");
	let_through(m, true, link);
	execve("/proc/self/exe", argv, envp);
	int code = errno;
	let_through(m, false, link);
	return error_errno(err, code, "exec of /proc/self/exe");
}

int reboot(struct machine *m, struct program *p, int link, bool asked, char **argv,
	   struct error *err)
{
	boots.asked = asked;
	boots.gone = m->gone_slots;
	p->reboots++;
	report_reboot(m, p->reboots);
	counters_read(m); /* what these vCPUs have done */
	int rc = machine_halt(m, err);
	if (rc)
		return rc;
	control_park(m->control);
	/* Its file, where it has one of its own, is to be empty when it begins. */
	ram_abandon(&m->fds);
	return save(m, err) ?: exec_again(m, link, argv, err);
}

static int take_fds(struct machine *m, struct error *err)
{
	struct fdset *fds = &m->fds;
	int rc = fdset_list(fds, &parsed, err);
	for (unsigned i = 0; !rc && i < fds->n; i++) {
		if (fds->e[i].fd > STDERR_FILENO && fd_set_cloexec(fds->e[i].fd, true))
			rc = error_errno(err, errno, "descriptor %s", fds->e[i].name);
		if (fds->e[i].generation > fds->generations)
			fds->generations = fds->e[i].generation;
	}
	return rc;
}

int reboot_resume(struct machine *m, struct program *p, int fd, bool *asked, struct error *err)
{
	int rc = blob_adopt(&blob, fd, err)
			 ?: state_open(&parsed, blob.map, blob.len, err)
			 ?: state_load_section(&parsed, &boots_section, err)
			 ?: take_fds(m, err)
			 ?: worker_register(m, p, err)
			 ?: state_load_section(&parsed, &m->tree.sections[m->tree.n - 1], err)
			 ?: program_options(p, &m->opt, err);
	m->kept = &parsed;
	*asked = boots.asked;
	m->gone_slots = boots.gone;
	return rc;
}

void reboot_done(struct machine *m)
{
	booted_ns = now_ns();
	m->kept = NULL;
	blob_close(&blob);
}
