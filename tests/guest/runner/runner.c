/* SPDX-License-Identifier: MIT */
/*
 * Runs test guests under molt while it is updated: `guest-runner CASE...`, all cases without one.
 * One line per case. Exit code 0: all passed; 1: some failed; 77: some skipped, none failed.
 */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/guest/runner/bench.h"
#include "tests/guest/cases/cases.h"
#include "tests/guest/runner/cgroup.h"
#include "tests/guest/runner/direct.h"
#include "tests/guest/runner/session.h"
#include "tests/guest/runner/session_user.h"

enum verdict { PASSED = 0, FAILED = 1, SKIPPED = 77 };

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

/* Is /dev/kvm backed by the processor's virtualisation? */
static bool kvm_is_hardware(void)
{
	static char text[1 << 20];
	int fd = open("/proc/cpuinfo", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? 0 : read(fd, text, 8192);

	if (fd >= 0)
		close(fd);
	text[n > 0 ? n : 0] = 0;
	return strstr(text, " svm") || strstr(text, " vmx");
}

/* May guests have guests, with AMD's SVM? */
static bool kvm_gives_svm(void)
{
	char text[2] = "";
	int fd = open("/sys/module/kvm_amd/parameters/nested", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? 0 : read(fd, text, 1);

	if (fd >= 0)
		close(fd);
	return n == 1 && (text[0] == '1' || text[0] == 'Y');
}

/* QEMU's TCG names itself at the hypervisor leaf. */
static bool host_is_emulated(void)
{
	uint32_t a = 0x40000000, b, c, d;

	__asm__ volatile("cpuid" : "+a"(a), "=b"(b), "=c"(c), "=d"(d));
	return b == 0x54474354; /* "TCGT" */
}

/* Static programs name no interpreter. */
static bool is_static(const char *path)
{
	Elf64_Ehdr elf = {0};
	Elf64_Phdr ph;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	bool found = fd < 0 || read(fd, &elf, sizeof(elf)) != sizeof(elf);

	for (unsigned i = 0; !found && i < elf.e_phnum; i++)
		found = pread(fd, &ph, sizeof(ph), (off_t)(elf.e_phoff + i * sizeof(ph))) !=
				sizeof(ph) ||
			ph.p_type == PT_INTERP;
	if (fd >= 0)
		close(fd);
	return !found;
}

static volatile pid_t running;

static void deadline(int sig)
{
	(void)sig;
	if (running > 0)
		kill(running, SIGKILL); /* the case then fails: molt was ended by signal 9 */
}

/* Why case @t cannot be run here, or NULL. */
static const char *why_not(const struct settings *set, const struct test_case *t)
{
	static char text[160];
	if (t->soft_kvm_note && set->soft_kvm) {
		snprintf(text, sizeof(text), "this KVM is software: %s", t->soft_kvm_note);
		return text;
	}
	if (t->user && !session_user_possible())
		return "becoming another user with a /dev/kvm of its own needs root and a mount "
		       "namespace";
	if (t->container && !session_container_possible())
		return "a pid namespace needs root, and to be allowed";
	if (t->svm && !kvm_gives_svm())
		return "only with kvm_amd whose parameter nested is on, as in the bed "
		       "(nested/bare-guests)";
	if (t->emulated && !set->emulated)
		return "it takes memory from the host: in the bed only (nested/bare-guests)";
	if (t->shipped && !is_static(set->molt))
		return "only for the release build, which is static: set MOLT";
	if (t->strict && !direct_is_strict())
		return "the file system of TMPDIR (/tmp) takes direct I/O of memory that is not "
		       "aligned, "
		       "or has none";
	return t->cgroup ? cgroup_make() : NULL;
}

static void show_passed(struct session *s, double seconds)
{
	qsort(s->pauses_ns, s->updates, sizeof(*s->pauses_ns), compare);
	printf("ok guest/%s updates=%u", s->test->name, s->updates);
	if (s->updates)
		printf(" pause_us median=%.0f min=%.0f max=%.0f",
		       (double)s->pauses_ns[s->updates / 2] / 1e3, (double)s->pauses_ns[0] / 1e3,
		       (double)s->pauses_ns[s->updates - 1] / 1e3);
	printf(" seconds=%.1f | %s\n", seconds, s->line);
	if (s->set->verbose)
		printf("    slowest: %s\n", s->slowest);
}

static void show_failed(const struct session *s, double seconds, unsigned deadline_s)
{
	if (seconds >= deadline_s)
		printf("    deadline of %u s passed\n", deadline_s);
	printf("not ok guest/%s after %u updates: %s (--seed %llu)\n", s->test->name, s->updates,
	       s->error, (unsigned long long)s->set->seed);
	session_show(s);
}

static enum verdict case_run(const struct settings *set, const struct test_case *t)
{
	struct session s;
	unsigned updates = set->long_run && t->long_updates ? t->long_updates : t->updates;
	unsigned deadline_s = TEST_DEADLINE_S * set->slow * (set->long_run ? 10 : 1);

	if (set->updates && set->updates < updates)
		updates = set->updates;
	const char *why = why_not(set, t);
	if (why) {
		printf("SKIP guest/%s: %s\n", t->name, why);
		return SKIPPED;
	}
	uint64_t start = clock_ns();
	int rc = session_start(&s, set, t, updates);
	running = rc ? 0 : s.pid;
	alarm(deadline_s);
	if (!rc)
		rc = t->drive(&s, updates);
	alarm(0);
	running = 0;
	double seconds = (double)(clock_ns() - start) / 1e9;
	if (rc)
		show_failed(&s, seconds, deadline_s);
	else
		show_passed(&s, seconds);
	session_end(&s);
	if (t->cgroup)
		cgroup_remove();
	return rc ? FAILED : PASSED;
}

static const struct test_case *case_find(const char *name)
{
	if (!strncmp(name, "guest/", 6))
		name += 6;
	for (unsigned i = 0; i < test_cases_len; i++)
		if (!strcmp(test_cases[i].name, name))
			return &test_cases[i];
	return NULL;
}

static int usage(int code)
{
	fprintf(code ? stderr : stdout,
		"usage: guest-runner [options] [CASE...]\n"
		"  --molt FILE     program to test; $MOLT goes before it\n"
		"  --molt-b FILE   second program, updates alternate between the two ($MOLT_B)\n"
		"  --guests DIR    folder of the bare-metal guests ($MOLT_GUESTS)\n"
		"  --updates N     at most N updates per case\n"
		"  --slow N        all deadlines N times longer ($MOLT_SLOW)\n"
		"  --seed N        of the random waits\n"
		"  --long          the long versions of the cases ($MOLT_LONG, not empty)\n"
		"  --bench NAME    samples of pause (beside the program --floor), memory, sizes, "
		"cpus, "
		"devices,\n"
		"                  io or stall (bench.h)\n"
		"  --list          names of the cases\n"
		"  --verbose       the guest's console\n");
	return code;
}

static unsigned number(const char *text)
{
	return text ? (unsigned)strtoul(text, NULL, 10) : 0;
}

enum {
	OPT_MOLT = 256,
	OPT_MOLT_B,
	OPT_GUESTS,
	OPT_UPDATES,
	OPT_SLOW,
	OPT_SEED,
	OPT_LONG,
	OPT_BENCH,
	OPT_FLOOR,
	OPT_LIST,
	OPT_VERBOSE,
	OPT_HELP
};

static const struct option options[] = {
	{"molt", required_argument, NULL, OPT_MOLT},
	{"molt-b", required_argument, NULL, OPT_MOLT_B},
	{"guests", required_argument, NULL, OPT_GUESTS},
	{"updates", required_argument, NULL, OPT_UPDATES},
	{"slow", required_argument, NULL, OPT_SLOW},
	{"seed", required_argument, NULL, OPT_SEED},
	{"long", no_argument, NULL, OPT_LONG},
	{"bench", required_argument, NULL, OPT_BENCH},
	{"floor", required_argument, NULL, OPT_FLOOR},
	{"list", no_argument, NULL, OPT_LIST},
	{"verbose", no_argument, NULL, OPT_VERBOSE},
	{"help", no_argument, NULL, OPT_HELP},
	{0},
};

struct bench_choice {
	const char *name, *floor; /* NULL: none */
};

/* Returns -1, or the exit status where there is nothing to run. */
static int parse(struct settings *set, struct bench_choice *bench, int argc, char **argv)
{
	for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
		switch (c) {
		case OPT_MOLT:
			set->molt = optarg;
			break;
		case OPT_MOLT_B:
			set->molt_b = optarg;
			break;
		case OPT_GUESTS:
			set->guests = optarg;
			break;
		case OPT_UPDATES:
			set->updates = number(optarg);
			break;
		case OPT_SLOW:
			set->slow = number(optarg);
			break;
		case OPT_SEED:
			set->seed = strtoull(optarg, NULL, 10);
			break;
		case OPT_LONG:
			set->long_run = true;
			break;
		case OPT_BENCH:
			bench->name = optarg;
			break;
		case OPT_FLOOR:
			bench->floor = optarg;
			break;
		case OPT_VERBOSE:
			set->verbose = true;
			break;
		case OPT_LIST:
			for (unsigned i = 0; i < test_cases_len; i++)
				printf("%s\n", test_cases[i].name);
			return 0;
		case OPT_HELP:
			return usage(0);
		default:
			return usage(2);
		}
	}
	return -1;
}

/* What the environment says goes before the command line's --molt, and its --long. */
static void look_around(struct settings *set)
{
	const char *longer = getenv("MOLT_LONG");
	set->soft_kvm = !kvm_is_hardware();
	set->emulated = host_is_emulated();
	if (longer && longer[0])
		set->long_run = true;
	if (getenv("MOLT"))
		set->molt = getenv("MOLT");
	if (!set->slow)
		set->slow = 1;
}

/* Those named, or all. */
static int run_cases(const struct settings *set, char **names, unsigned n)
{
	unsigned passed = 0, failed = 0, skipped = 0;
	for (unsigned i = 0; i < (n ? n : test_cases_len); i++) {
		const struct test_case *t = n ? case_find(names[i]) : &test_cases[i];
		if (!t) {
			fprintf(stderr, "guest-runner: no case '%s'\n", names[i]);
			return 2;
		}
		enum verdict v = case_run(set, t);
		passed += v == PASSED;
		failed += v == FAILED;
		skipped += v == SKIPPED;
	}
	if (passed + failed + skipped > 1)
		printf("%u passed, %u failed, %u skipped\n", passed, failed, skipped);
	return failed ? FAILED : passed ? PASSED : SKIPPED;
}

int main(int argc, char **argv)
{
	struct settings set = {.molt = "molt",
			       .molt_b = getenv("MOLT_B"),
			       .guests = getenv("MOLT_GUESTS") ?: "guests",
			       .slow = number(getenv("MOLT_SLOW")),
			       .seed = clock_ns()};
	struct bench_choice bench = {0};
	const struct sigaction alarm_action = {.sa_handler = deadline};

	int rc = parse(&set, &bench, argc, argv);
	if (rc >= 0)
		return rc;
	look_around(&set);
	setvbuf(stdout, NULL, _IOLBF, 0);
	signal(SIGPIPE, SIG_IGN);
	sigaction(SIGALRM, &alarm_action, NULL);
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (kvm < 0) {
		printf("SKIP guest: /dev/kvm cannot be opened: %s\n", strerror(errno));
		return SKIPPED;
	}
	close(kvm);
	if (bench.name)
		return bench_run(&set, bench.name, bench.floor);
	return run_cases(&set, argv + optind, (unsigned)(argc - optind));
}
