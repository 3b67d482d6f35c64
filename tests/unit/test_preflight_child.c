/* SPDX-License-Identifier: MIT */
/*
 * The new program's half of a preflight, in a process of its own, on blobs of a real machine that were
 * changed: what it says yes to, and how it names what is in the way. Needs /dev/kvm.
 */
#include "tests/unit/unit.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cpr/adopt.h"
#include "cpr/blob.h"
#include "cpr/preflight.h"
#include "cpr/preflight_verdict.h"
#include "cpr/program.h"
#include "tests/unit/blob.h"
#include "vmm/arch.h"
#include "vmm/base/reasons.h"
#include "vmm/machine.h"

#define ROOM	  (256 * 1024)
#define NO_KERNEL "/nowhere/kernel"

static struct machine machine, trial;
static struct program program, trial_program;
static char blob[ROOM], changed[ROOM];
static size_t blob_len;
static struct reasons reasons;
static struct error err;

/* A machine with two vCPUs and two PCI devices that has all but something to boot. */
static int running(void **state)
{
	static char edge[32], level[48];
	snprintf(edge, sizeof(edge), "trigger=%d", eventfd(0, 0));
	snprintf(level, sizeof(level), "trigger=%d,unmask=%d", eventfd(0, 0), eventfd(0, 0));
	char *argv[] = {"molt",	     "run", "--kernel", NO_KERNEL, "--console", "none",
			"--cpus",    "2",   "--mem",	"4G",	   "--testdev", edge,
			"--testdev", level, "--name",	"test",	   NULL};
	const struct state_header header = {.version = "test", .build_id = "00"};
	int argc = (int)ARRAY_LEN(argv) - 1;

	pthread_mutex_init(&machine.lock, NULL);
	int rc = program_init(&program, argc, argv, &err);
	if (!rc)
		rc = options_parse(&machine.opt, argc - 2, argv + 2, &err);
	if (!rc)
		rc = program_register(&machine, &program, &err);
	if (!rc && machine_build(&machine, NULL, &err) && !strstr(err.text, NO_KERNEL))
		rc = -err.code;
	if (!rc)
		rc = arch_save(&machine, &err);
	if (!rc)
		rc = state_save(&machine.tree, &machine.fds, &header, blob, sizeof(blob), &blob_len,
				&err);
	if (rc)
		print_error("%s\n", err.text);
	return rc;
}

/* A copy to change; ends with ask(). */
static void *copy(void)
{
	assert_int_equal(fdt_open_into(blob, changed, ROOM - BLOB_TRAILER_LEN - 8), 0);
	return changed;
}

static int node(const char *name)
{
	char path[64];
	snprintf(path, sizeof(path), "/%s", name);
	int at = fdt_path_offset(changed, path);
	assert_true(at > 0);
	return at;
}

static int child(int memfd, int answer)
{
	/* Above all places first. */
	int kvm = fcntl(machine.vm.kvm_fd, F_DUPFD, 100);
	memfd = fcntl(memfd, F_DUPFD, 100);
	answer = fcntl(answer, F_DUPFD, 100);
	dup2(memfd, PREFLIGHT_BLOB);
	dup2(answer, PREFLIGHT_ANSWER);
	dup2(kvm, PREFLIGHT_KVM);
	close(answer);
	return preflight_answer(&trial, &trial_program);
}

/* What a new program says to a blob that is all right as a file. 0: yes. */
static int ask_blob(const void *data, size_t len)
{
	static struct preflight_end end;
	int pipes[2], memfd = memfd_create("trial", MFD_ALLOW_SEALING);

	memset(&reasons, 0, sizeof(reasons));
	memset(&err, 0, sizeof(err));
	end = (struct preflight_end){0};
	assert_true(write(memfd, data, len) == (ssize_t)len);
	assert_int_equal(fcntl(memfd, F_ADD_SEALS, BLOB_SEALS), 0);
	assert_int_equal(pipe(pipes), 0);
	fflush(NULL);
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (!pid)
		_exit(child(memfd, pipes[1]));
	close(pipes[1]);
	close(memfd);
	for (ssize_t n = 1; n > 0; end.len += n > 0 ? (size_t)n : 0)
		n = read(pipes[0], end.text + end.len, sizeof(end.text) - end.len);
	close(pipes[0]);
	assert_int_equal(waitpid(pid, &end.status, 0), pid);
	return preflight_judge(&end, "molt", &reasons, &err);
}

/* The changed copy, signed. */
static int ask(void)
{
	assert_int_equal(fdt_pack(changed), 0);
	return ask_blob(changed, blob_seal(changed));
}

static void assert_yes(int rc)
{
	if (rc)
		fail_msg("%s", err.text);
}

/* Exactly these words, each in a reason of its own, in this order. */
static void assert_no(int rc, unsigned n, const char *const words[])
{
	assert_int_equal(rc, -EOPNOTSUPP);
	for (unsigned i = 0; i < reasons.n; i++)
		if (i >= n || !strstr(reasons.text[i], words[i]))
			fail_msg("reason %u is '%s', expected '%s'", i, reasons.text[i],
				 i < n ? words[i] : "no more");
	assert_int_equal(reasons.n, n);
}
#define NO(rc, ...)                                                                                \
	assert_no(rc, ARRAY_LEN(((const char *[]){__VA_ARGS__})), (const char *[]){__VA_ARGS__})

static void unchanged(void **state)
{
	assert_yes(ask_blob(blob, blob_len));
	copy();
	assert_yes(ask());
}

static void harmless(void **state)
{
	/* A field, a class version and an optional node of a later program. */
	copy();
	fdt_setprop_u32(changed, node("serial@3f8"), "later", 7);
	fdt_setprop_u32(changed, node("cmos@70"), "version", 9);
	int at = fdt_add_subnode(changed, 0, "later@1");
	fdt_setprop_string(changed, at, "class", "later");
	fdt_setprop_empty(changed, at, "optional");
	assert_yes(ask());
}

static void missing_field(void **state)
{
	copy();
	fdt_delprop(changed, node("serial@3f8"), "divisor");
	NO(ask(), "serial.divisor: the field is missing");
}

static void newer_version_needed(void **state)
{
	copy();
	fdt_setprop_u32(changed, node("serial@3f8"), "needs", 2);
	NO(ask(), "serial@3f8: needs version 2 of class serial, this program has 1");
}

static void unknown_node(void **state)
{
	copy();
	fdt_setprop_string(changed, fdt_add_subnode(changed, 0, "later@1"), "class", "later");
	NO(ask(), "later@1: this program does not know it");
}

static void missing_node(void **state)
{
	copy();
	fdt_del_node(changed, node("power@600"));
	NO(ask(), "power@600: the node is missing");
}

static void other_class(void **state)
{
	copy();
	fdt_setprop_string(changed, node("cmos@70"), "class", "clock");
	NO(ask(), "class clock, expected cmos");
}

static void bad_value(void **state)
{
	copy();
	fdt_setprop_u32(changed, node("serial@3f8"), "irq_level", 2);
	NO(ask(), "serial@3f8: values out of range");
}

static void all_at_once(void **state)
{
	copy();
	fdt_delprop(changed, node("console"), "escape");
	fdt_setprop_u32(changed, node("serial@3f8"), "irq_level", 2);
	fdt_setprop_string(changed, fdt_add_subnode(changed, 0, "later@1"), "class", "later");
	uint32_t msr = cpu_to_fdt32(0x12345678);
	fdt_setprop_inplace_namelen_partial(changed, node("cpu@1"), "msr_index", 9, 0, &msr, 4);
	NO(ask(), "console.escape", "serial@3f8", "later@1", "vCPU 1: this host refuses");
}

static void bad_format(void **state)
{
	copy();
	fdt_setprop_string(changed, 0, "compatible", "molt,state-2");
	NO(ask(), "format molt,state-2, this program reads molt,state-1");
}

static void damaged(void **state)
{
	memcpy(changed, blob, blob_len);
	changed[blob_len / 2] ^= 1;
	NO(ask_blob(changed, blob_len), "checksum");
}

/* What the host cannot do is found on a VM of its own. */
static void host_refuses(void **state)
{
	uint32_t msr = cpu_to_fdt32(0x12345678);
	copy();
	fdt_setprop_inplace_namelen_partial(changed, node("cpu@0"), "msr_index", 9, 0, &msr, 4);
	NO(ask(), "for MSR 0x12345678");
	copy();
	fdt_setprop(changed, node("cpu@0"), "xsave", blob, 8192);
	NO(ask(), "XSAVE area of 8192 bytes");
}

static void bad_irqchip(void **state)
{
	uint32_t chip = 1;
	copy();
	fdt_setprop_inplace_namelen_partial(changed, node("x86"), "irqchip", 7, 0, &chip, 4);
	NO(ask(), "chip 1 stands at 0");
}

static void bad_ram(void **state)
{
	copy();
	fdt_setprop_u64(changed, node("ram"), "size", 1);
	NO(ask(), "guest memory: state: wrong size");
}

/* Options travel in the blob: a program that does not know one cannot go on with it. */
static void unknown_option(void **state)
{
	static const char args[] = "molt\0run\0--kernel\0k\0--later";
	copy();
	fdt_setprop(changed, node("program"), "args", args, sizeof(args));
	NO(ask(), "unknown option --later");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(unchanged),	  cmocka_unit_test(harmless),
		cmocka_unit_test(missing_field),  cmocka_unit_test(newer_version_needed),
		cmocka_unit_test(unknown_node),	  cmocka_unit_test(missing_node),
		cmocka_unit_test(other_class),	  cmocka_unit_test(bad_value),
		cmocka_unit_test(all_at_once),	  cmocka_unit_test(bad_format),
		cmocka_unit_test(damaged),	  cmocka_unit_test(host_refuses),
		cmocka_unit_test(bad_irqchip),	  cmocka_unit_test(bad_ram),
		cmocka_unit_test(unknown_option),
	};
	if (access("/dev/kvm", R_OK | W_OK)) {
		printf("SKIP preflight child: /dev/kvm cannot be opened: %s\n", strerror(errno));
		return 77;
	}
	return cmocka_run_group_tests_name("preflight child", tests, running, NULL);
}
