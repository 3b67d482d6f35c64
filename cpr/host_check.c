/* SPDX-License-Identifier: MIT */
/* A machine is made as far as a start can go without running anything, and all that fails is told. */
#include "cpr/host_check.h"

#include <fcntl.h>

#include "devices/vfio/vfio.h"
#include "vmm/base/json.h"
#include "vmm/machine.h"

#define TEXT_LEN 65536
#define WORDS	 (2 * OPTIONS_MAX_DEVICES + 8)

struct checks {
	struct machine *m;
	bool json;
	struct json j;
	int status; /* of the first thing that is wrong */
};

/* @what: has been looked at, with that outcome. @warning: a guest can be started all the same. */
static void tell(struct checks *c, const char *what, int rc, bool warning, const struct error *err)
{
	const char *result = !rc ? "ok" : warning ? "warning" : "error";
	if (rc && !warning && !c->status)
		c->status = (int)err->exit ?: EXIT_INTERNAL;
	if (!c->json) {
		bool named = rc && !strncmp(err->text, what, strlen(what));
		printf("%-8s %s%s%s\n", result, named ? "" : what, rc && !named ? ": " : "",
		       rc ? err->text : "");
		if (rc && err->hint[0])
			printf("%-8s remedy: %s\n", "", err->hint);
		return;
	}
	json_open(&c->j, NULL, '{');
	json_string(&c->j, "what", what);
	json_string(&c->j, "result", result);
	if (rc) {
		json_string(&c->j, "reason", err->text);
		json_string(&c->j, "remedy", err->hint);
	}
	json_close(&c->j, '}');
}

static bool check_kvm(struct checks *c)
{
	struct error err;
	int rc = vm_open(&c->m->vm, &c->m->fds, &err) ?: vm_create(&c->m->vm, &err);
	tell(c, "KVM", rc, false, &err);
	return !rc;
}

/* A file that exists is not opened: to open it for a guest is to lock it and to make it longer. */
static bool check_memory(struct checks *c)
{
	struct machine *m = c->m;
	struct error err;
	if (m->opt.mem.path[0])
		return false;
	int rc = ram_create(&m->ram, &m->opt.mem, &m->fds, &err) ?: ram_map(&m->ram, &err);
	tell(c, "guest memory", rc, false, &err);
	return !rc;
}

/* What the guest's processors are to have, and how far they reach, which memory must be there for. */
static void check_processors(struct checks *c)
{
	struct error err;
	int rc = arch_init(c->m, &err) ?: vcpus_init(c->m, &err);
	tell(c, "processors", rc, false, &err);
}

static void check_file(struct checks *c, const char *what, const char *path)
{
	struct error err;
	if (!path)
		return;
	fd_auto int fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	int rc = fd < 0 ? error_file(&err, errno, "--%s %.300s", what, path) : 0;
	tell(c, what, rc, false, &err);
}

/* Where there is no access to any IOMMU a device may still be told from one that could not be used at all. */
static int open_device(struct device *dev, bool iommu, struct error *err)
{
	if (dev->cls == &vfio_class && !iommu)
		return vfio_explain_device(((struct vfio_dev *)dev)->id, NULL, err);
	return dev->cls->open(dev, err);
}

static void check_iommu(struct checks *c, struct vfio_container *container)
{
	struct error err;
	int rc = vfio_explain_memlock(c->m->opt.mem.size * container->iommu->locked_times, &err);
	tell(c, "locked memory", rc, false, &err);
}

static int check_updates(struct machine *m, struct error *err)
{
	for (unsigned i = 0; i < m->ndevices; i++) {
		struct device *dev = m->devices[i];
		int rc = dev->cls->check ? dev->cls->check(dev, err) : 0;
		if (rc)
			return error_prefix(err, "%s", dev->name);
	}
	return 0;
}

static void check_devices(struct checks *c)
{
	struct machine *m = c->m;
	struct vfio_container *container = NULL;
	struct error err;
	for (unsigned i = 0; i < m->ndevices; i++) {
		struct device *dev = m->devices[i];
		if (!dev->cls->open)
			continue;
		int failed = open_device(dev, container != NULL, &err);
		tell(c, dev->name, failed, false, &err);
		if (failed || dev->cls != &vfio_container_class)
			continue;
		container = (struct vfio_container *)dev;
		check_iommu(c, container);
	}
	if (container)
		tell(c, "updates", check_updates(m, &err), true, &err);
}

static int fail(const struct error *err)
{
	log_error(err);
	return (int)err->exit;
}

int host_check(struct machine *m, bool json)
{
	static char text[TEXT_LEN];
	struct checks c = {.m = m, .json = json};
	struct error err;
	if (machine_create_devices(m, &err)) /* the command line is at fault, not the host */
		return fail(&err);
	/* It never runs, but devices put what they watch there. */
	if (loop_init(&m->loop, "molt-loop", SECCOMP_LOOP, &m->lock, &err))
		return fail(&err);
	json_begin(&c.j, text, sizeof(text));
	json_open(&c.j, NULL, '{');
	json_string(&c.j, "event", "host-check");
	json_open(&c.j, "checks", '[');
	m->fresh = true;
	check_file(&c, "kernel", m->opt.kernel);
	check_file(&c, "initrd", m->opt.initrd);
	bool kvm = check_kvm(&c);
	bool memory = check_memory(&c);
	if (kvm && memory)
		check_processors(&c);
	if (kvm)
		check_devices(&c);
	json_close(&c.j, ']');
	json_string(&c.j, "result", c.status ? "error" : "ok");
	json_close(&c.j, '}');
	if (json && json_end(&c.j))
		fputs(text, stdout);
	return c.status;
}

static int usage(void)
{
	puts("usage: molt host-check [DEVICE...] [--mem SIZE] [--json]\n"
	     "Says whether this host can run a guest with these devices, and what to do where it\n"
	     "cannot. DEVICE and SIZE as for molt run --vfio and --mem. Exit status: 0 it can, 3 "
	     "the\n"
	     "host is unfit, 4 something is not there, 2 usage.");
	return 0;
}

/* The words are parsed as options of molt run are: both have one grammar. */
int host_check_run(struct machine *m, int argc, char *argv[])
{
	char *words[WORDS] = {"--kernel", "-"};
	unsigned n = 2;
	bool json = false;
	struct error err;
	for (int i = 2; i < argc; i++) {
		bool mem = !strcmp(argv[i], "--mem") || !strcmp(argv[i], "-m");
		if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h"))
			return usage();
		if (!strcmp(argv[i], "--json")) {
			json = true;
			continue;
		}
		if (n + 2 > WORDS || (argv[i][0] == '-' && !mem) || (mem && i + 1 == argc)) {
			error_end(&err, EXIT_USAGE, EINVAL, "molt host-check: unexpected '%.200s'",
				  argv[i]);
			error_hint(&err, "molt host-check [DEVICE...] [--mem SIZE] [--json]");
			return fail(&err);
		}
		words[n++] = mem ? "--mem" : "--vfio";
		words[n++] = argv[mem ? ++i : i];
	}
	if (options_parse(&m->opt, (int)n, words, &err))
		return fail(&err);
	m->opt.kernel = NULL; /* none is wanted */
	return host_check(m, json);
}
