/* SPDX-License-Identifier: MIT */
/* molt host-check on a made-up host: everything that is wrong is a line, with its remedy; the exit status tells. */
#define FAKE_LINKAGE /* the fakes, though the real ones are linked in */
#include "tests/unit/fake_machine.h"

#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "cpr/host_check.h"
#include "devices/vfio/vfio.h"
#include "vmm/base/json.h"

#define BDF	   "0000:00:05.0"
#define DEVICE_DIR "sys/bus/pci/devices/" BDF

static char root[64], sys_dir[80], proc_dir[80], dev_dir[80], said[16384];
static bool no_kvm, no_svm;

int vm_open(struct vm *vm, struct fdset *fds, struct error *err)
{
	if (!no_kvm)
		return 0;
	error_end(err, EXIT_HOST, EACCES, "/dev/kvm: closed");
	return error_hint(err, "open it");
}

int vm_create(struct vm *vm, struct error *err)
{
	return 0;
}

int arch_init(struct machine *m, struct error *err)
{
	return no_svm ? error_end(err, EXIT_HOST, ENOTSUP, "no SVM") : 0;
}

int vcpus_init(struct machine *m, struct error *err)
{
	return 0;
}

static int setup(void **state)
{
	char path[128];
	snprintf(root, sizeof(root), "/tmp/molt-host-check-XXXXXX");
	if (!mkdtemp(root))
		return -1;
	snprintf(sys_dir, sizeof(sys_dir), "%s/sys", root);
	snprintf(proc_dir, sizeof(proc_dir), "%s/proc", root);
	snprintf(dev_dir, sizeof(dev_dir), "%s/dev", root);
	vfio_host = (struct vfio_host){sys_dir, proc_dir, dev_dir};
	static const char *const dirs[] = {
		"sys", "sys/bus", "sys/bus/pci", "sys/bus/pci/devices", DEVICE_DIR, "proc", "dev"};
	for (unsigned i = 0; i < ARRAY_LEN(dirs); i++) {
		snprintf(path, sizeof(path), "%s/%s", root, dirs[i]);
		if (mkdir(path, 0755))
			return -1;
	}
	no_kvm = no_svm = false;
	return 0;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	return remove(path);
}

static int teardown(void **state)
{
	return nftw(root, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* molt run --dry-run does the same with all options. */
static int dry_run(struct machine *m, int argc, char *argv[])
{
	struct error err;
	if (options_parse(&m->opt, argc - 2, argv + 2, &err))
		return EXIT_USAGE;
	m->opt.kernel = NULL;
	return host_check(m, false);
}

/* Runs that command of molt in a child, whose output is in said. Returns its exit status. */
static int run(int (*command)(struct machine *m, int argc, char *argv[]), int argc, char *argv[])
{
	static struct machine m;
	int ends[2], status;
	size_t n = 0;
	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	fflush(NULL);
	pid_t pid = fork();
	if (!pid) {
		dup2(ends[1], STDOUT_FILENO);
		status = command(&m, argc, argv);
		fflush(NULL);
		_exit(status);
	}
	close(ends[1]);
	for (ssize_t k; (k = read(ends[0], said + n, sizeof(said) - 1 - n)) > 0;)
		n += (size_t)k;
	said[n] = 0;
	close(ends[0]);
	waitpid(pid, &status, 0);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

/* molt host-check with two words (NULL: none). */
static int check(const char *a, const char *b)
{
	char *argv[] = {"molt", "host-check", (char *)a, (char *)b, NULL};
	return run(host_check_run, 2 + (a != NULL) + (b != NULL), argv);
}

static void assert_said(const char *text)
{
	if (!strstr(said, text))
		fail_msg("'%s' is not in: %s", text, said);
}

static void all_is_well(void **state)
{
	assert_int_equal(check(NULL, NULL), 0);
	assert_string_equal(said, "ok       KVM\nok       guest memory\nok       processors\n");
}

static void without_svm(void **state)
{
	no_svm = true;
	assert_int_equal(check(NULL, NULL), EXIT_HOST);
	assert_said("error    processors: no SVM\n");
}

static void without_kvm(void **state)
{
	no_kvm = true;
	assert_int_equal(check(NULL, NULL), EXIT_HOST);
	assert_said("error    KVM: /dev/kvm: closed\n         remedy: open it\n");
	assert_said("ok       guest memory\n");
}

/* The container is missing, and the device would be no good anyway: both are told. */
static void a_device(void **state)
{
	assert_int_equal(check(BDF, NULL), EXIT_HOST);
	assert_said("ok       KVM\n");
	assert_said("/dev/vfio/vfio: No such file");
	assert_said("error    vfio " BDF ": the device is in no IOMMU group\n         remedy: ");
	assert_int_equal(check("0000:00:06.0", NULL), EXIT_HOST);
	assert_said("there is no such PCI device");
}

/* Devices of molt's own, which watch descriptors. */
static void dry_runs(void **state)
{
	char *own[] = {"molt", "run", "-k", "-", "--rng", "--balloon", NULL};
	assert_int_equal(run(dry_run, 6, own), 0);
	assert_said("ok       rng\nok       balloon\n");
	char *both[] = {"molt", "run", "-k", "-", "--balloon", "--vfio", BDF, NULL};
	assert_int_equal(run(dry_run, 7, both), EXIT_CONFIG);
	assert_said("error    balloon: --balloon: guest memory is pinned for a passed-through "
		    "device");
	assert_said("remedy: leave --balloon out, or --vfio");
}

static void as_json(void **state)
{
	char text[400];
	unsigned n = 0;
	assert_int_equal(check("--json", BDF), EXIT_HOST);
	assert_string_equal(json_get_text(said, "result", text, sizeof(text)), "error");
	for (const char *c = json_first(json_get(said, "checks")); c; c = json_next(c), n++) {
		bool ok = n < 3; /* KVM, memory, processors; container, device */
		assert_string_equal(json_get_text(c, "result", text, sizeof(text)),
				    ok ? "ok" : "error");
		assert_int_equal(strlen(json_get_text(c, "remedy", text, sizeof(text))) > 0, !ok);
	}
	assert_int_equal(n, 5);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(all_is_well, setup, teardown),
		cmocka_unit_test_setup_teardown(without_kvm, setup, teardown),
		cmocka_unit_test_setup_teardown(without_svm, setup, teardown),
		cmocka_unit_test_setup_teardown(a_device, setup, teardown),
		cmocka_unit_test_setup_teardown(dry_runs, setup, teardown),
		cmocka_unit_test_setup_teardown(as_json, setup, teardown),
	};
	return cmocka_run_group_tests_name("host_check", tests, NULL, NULL);
}
