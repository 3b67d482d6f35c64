/* SPDX-License-Identifier: MIT */
/* For test_boot and test_pvh: a machine with memory only, kernel and initrd in files without a
 * name. Include it in one file of a test. */
#ifndef MOLT_BOOT_TEST_H
#define MOLT_BOOT_TEST_H

#include "tests/unit/unit.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vmm/arch.h"
#include "vmm/arch/x86_64/boot.h"
#include "vmm/arch/x86_64/layout.h"
#include "vmm/base/fd.h"
#include "vmm/machine.h"

#ifndef RAM_LEN
#define RAM_LEN (64 * MIB)
#endif

static struct machine machine;
static struct boot_entry entry;
static struct error err;
static char kernel_path[64], initrd_path[64];
static int kernel_fd, initrd_fd;

void arch_pci_layout(const struct machine *m, struct arch_pci_layout *out)
{
	*out = (struct arch_pci_layout){.ecam_base = LAYOUT_ECAM_BASE, .ecam_len = LAYOUT_ECAM_LEN};
}

static void file_put(int fd, const void *data, size_t len)
{
	assert_int_equal(ftruncate(fd, 0), 0);
	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	assert_int_equal(fd_write_all(fd, data, len), 0);
}

static int load(const void *kernel, size_t len)
{
	memset(&err, 0, sizeof(err));
	file_put(kernel_fd, kernel, len);
	return boot_load(&machine, &entry, &err);
}

/* A refusal that names the file, says something and ends the program with the right code. */
static void assert_refused(int rc)
{
	assert_true(rc < 0);
	assert_int_equal(err.exit, EXIT_CONFIG);
	assert_non_null(strstr(err.text, kernel_path));
	assert_true(err.hint[0]);
}

/* The same, and the text or the remedy has these words. */
static inline void assert_refused_with(int rc, const char *words)
{
	assert_refused(rc);
	if (!strstr(err.text, words) && !strstr(err.hint, words))
		fail_msg("%s (%s): expected '%s'", err.text, err.hint, words);
}

static int setup(void **state)
{
	memset(&machine.opt, 0, sizeof(machine.opt));
	memset(machine.ram.hva, 0xa5, RAM_LEN);
	machine.opt.cpus = 1;
	machine.opt.kernel = kernel_path;
	machine.opt.cmdline = "console=ttyS0";
	return arch_ram_layout(&machine.ram.state, RAM_LEN, NULL);
}

static int run_group(const struct CMUnitTest *tests, size_t n)
{
	kernel_fd = memfd_create("kernel", MFD_CLOEXEC);
	initrd_fd = memfd_create("initrd", MFD_CLOEXEC);
	snprintf(kernel_path, sizeof(kernel_path), "/proc/self/fd/%d", kernel_fd);
	snprintf(initrd_path, sizeof(initrd_path), "/proc/self/fd/%d", initrd_fd);
	machine.ram.hva = aligned_alloc(PAGE_LEN, RAM_LEN);
	int rc = _cmocka_run_group_tests("boot", tests, n, NULL, NULL);
	free(machine.ram.hva);
	return rc;
}

#define T(f) cmocka_unit_test_setup(f, setup)

#endif
