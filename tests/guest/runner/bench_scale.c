/* SPDX-License-Identifier: MIT */
/* The pause against memory, vCPUs, devices and vectors: sizes in turn, in rounds, as machines are noisy. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "tests/guest/runner/bench.h"
#include "tests/guest/cases/drives.h"
#include "tests/guest/runner/session.h"

#define BOOT_MS	    120000 /* the host may make huge pages first */
#define TOUCH_MS    120000
#define SETTLE_US   5000
#define MAX_DEVICES 8
#define GROUP_LOOKS 1000
#define ROUNDS	    2

static int start_gap(struct session *s)
{
	return session_expect(s, "READY", BOOT_MS);
}

static int end_gap(struct session *s)
{
	return session_send(s, "q", 1) || session_finish(s) ? -1 : 0;
}

static unsigned of_round(unsigned updates, unsigned round)
{
	return updates / ROUNDS + (round < updates % ROUNDS);
}

/* ---- memory, in MiB ---- */

static const struct {
	unsigned mib;
	bool huge; /* the host makes huge pages of it, which takes a while; ordinary ones take long to touch */
} sizes[] = {{256, true}, {12288, true}, {4096, true}, {256, false}, {1024, false}};

#define ORDINARY_SHARE 5 /* they get that much fewer updates */

static unsigned size_now;

static uint64_t available_mib(void)
{
	uint64_t kib = 0;
	char line[128];
	FILE *f = fopen("/proc/meminfo", "re");

	while (f && fgets(line, sizeof(line), f))
		sscanf(line, "MemAvailable: %" SCNu64, &kib);
	if (f)
		fclose(f);
	return kib >> 10;
}

static int touch(struct session *s, const char *series)
{
	char name[64];
	uint64_t ns;

	if (session_send(s, "m", 1) || session_expect(s, "TOUCHED ", TOUCH_MS))
		return -1;
	if (sscanf(s->line, "TOUCHED %*u %" SCNu64, &ns) != 1)
		return session_fail(s, "'%s'", s->line);
	snprintf(name, sizeof(name), "memory_%s%s_ns", sizes[size_now].huge ? "huge_" : "", series);
	bench_sample(name, sizes[size_now].mib, ns);
	return 0;
}

/* All of it is touched before each update, so that both programs have all of it mapped. */
static int drive_touched(struct session *s, unsigned updates)
{
	bool huge = sizes[size_now].huge;
	unsigned n = huge ? updates : (updates + ORDINARY_SHARE - 1) / ORDINARY_SHARE;
	uint64_t gap;

	if (start_gap(s) || touch(s, "first_touch") || touch(s, "touch"))
		return -1;
	for (unsigned i = 0; i < n; i++) {
		if (gap_update(s, &gap) || touch(s, "refault"))
			return -1;
		bench_sample(huge ? "memory_huge_pause_ns" : "memory_pause_ns", sizes[size_now].mib,
			     gap);
	}
	return end_gap(s);
}

int bench_memory(const struct settings *set, const char *floor, unsigned updates)
{
	const char *most = getenv("BENCH_MOST_MIB");

	(void)floor;
	for (unsigned r = 0; r < ROUNDS && of_round(updates, r); r++)
		for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
			char mem[32];
			const struct test_case test = {"bench", "gap", drive_touched, 1, 0,
						       5000,	10000, {"--mem", mem}};
			if (most && *most && sizes[i].mib > strtoul(most, NULL, 10))
				continue;
			/* A guest that makes the host look for memory measures that. */
			if (sizes[i].mib + sizes[i].mib / 8 + 512 > available_mib()) {
				fprintf(stderr,
					"bench: %u MiB left out: only %" PRIu64 " are available\n",
					sizes[i].mib, available_mib());
				continue;
			}
			size_now = i;
			snprintf(mem, sizeof(mem), "%uM%s", sizes[i].mib,
				 sizes[i].huge ? ",collapse" : "");
			if (bench_guest(set, &test, of_round(updates, r)))
				return -1;
		}
	return 0;
}

/* Memory that nobody touches: what of the pause is its size alone. */
static int drive_sizes(struct session *s, unsigned updates)
{
	if (session_expect(s, "HELLO", BOOT_MS) || session_wait_us(s, SETTLE_US))
		return -1;
	for (unsigned i = 0; i < updates; i++) {
		if (session_update(s) || session_wait_us(s, SETTLE_US))
			return -1;
		bench_sample("size_pause_ns", size_now, s->pauses_ns[i]);
		bench_sample("size_build_ns", size_now,
			     (uint64_t)record_number(s->record, "build"));
	}
	return 0; /* it never ends by itself */
}

int bench_sizes(const struct settings *set, const char *floor, unsigned updates)
{
	static const unsigned mib[] = {256, 4096, 12288};
	char mem[32], x[16];
	const struct test_case test = {"bench", "hello", drive_sizes, 1, 0, 0, 0, {"--mem", mem}};

	for (unsigned r = 0; r < ROUNDS && of_round(updates, r); r++)
		for (unsigned i = 0; i < sizeof(mib) / sizeof(mib[0]); i++) {
			size_now = mib[i];
			snprintf(x, sizeof(x), "%u", mib[i]);
			snprintf(mem, sizeof(mem), "%uM", mib[i]);
			if (bench_guest(set, &test, of_round(updates, r)) ||
			    (floor &&
			     bench_floor(floor, of_round(updates, r), mib[i], "size_floor_ns", x)))
				return -1;
		}
	return 0;
}

/* ---- vCPUs ---- */

/* All vCPUs look at the time. Were they more than processors, they would see the host's scheduler. */
static int drive_busy_cpus(struct session *s, unsigned updates)
{
	uint64_t gap;

	if (start_gap(s))
		return -1;
	for (unsigned i = 0; i < updates; i++) {
		if (gap_update(s, &gap))
			return -1;
		/* Where vCPUs have all processors, the successor takes one of theirs now and then. */
		bench_sample("cpus_pause_ns", s->test->cpus, gap);
		bench_sample("cpus_busy_ns", s->test->cpus, s->pauses_ns[i]);
	}
	return end_gap(s);
}

/* The processor's time that the worker has had since it was started as a successor. */
static int worker_ns(struct session *s, uint64_t *ns)
{
	struct timespec ts;
	clockid_t clock;

	if (clock_getcpuclockid(session_worker(s), &clock) || clock_gettime(clock, &ts))
		return session_fail(s, "molt's CPU time cannot be read");
	*ns = (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
	return 0;
}

/* The first number of a task's schedstat: the ns that it has run. */
static uint64_t task_ns(int pid, const char *tid)
{
	char path[64];
	uint64_t ns = 0;

	snprintf(path, sizeof(path), "/proc/%d/task/%.20s/schedstat", pid, tid);
	FILE *f = fopen(path, "re");
	if (f && fscanf(f, "%" SCNu64, &ns) != 1)
		ns = 0;
	if (f)
		fclose(f);
	return ns;
}

static bool is_vcpu(int pid, const char *tid)
{
	char path[64], comm[32] = "";

	snprintf(path, sizeof(path), "/proc/%d/task/%.20s/comm", pid, tid);
	FILE *f = fopen(path, "re");
	if (f && !fgets(comm, sizeof(comm), f))
		comm[0] = 0;
	if (f)
		fclose(f);
	return !strncmp(comm, "molt-cpu", 8);
}

/* What the vCPUs' threads have had. */
static uint64_t vcpus_ns(int pid)
{
	char path[32];
	uint64_t sum = 0;
	struct dirent *e;

	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	DIR *dir = opendir(path);
	while (dir && (e = readdir(dir)))
		if (e->d_name[0] != '.' && is_vcpu(pid, e->d_name))
			sum += task_ns(pid, e->d_name);
	if (dir)
		closedir(dir);
	return sum;
}

/* All vCPUs are halted or wait to be started: what a new worker does is the update. */
static int drive_idle_cpus(struct session *s, unsigned updates)
{
	uint64_t work = 0;

	if (session_expect(s, "HELLO", BOOT_MS) || session_wait_us(s, SETTLE_US))
		return -1;
	for (unsigned i = 0; i < updates; i++) {
		if (session_update(s) || session_wait_us(s, SETTLE_US) || worker_ns(s, &work))
			return -1;
		bench_sample("cpus_idle_pause_ns", s->test->cpus, s->pauses_ns[i]);
		bench_sample("cpus_work_ns", s->test->cpus, work);
		bench_sample("cpus_threads_ns", s->test->cpus, vcpus_ns(session_worker(s)));
	}
	return 0; /* it never ends by itself */
}

static const unsigned cpu_counts[] = {1, 2, 4, 8, 16, 64, 240};

int bench_cpus(const struct settings *set, const char *floor, unsigned updates)
{
	(void)floor;
	for (unsigned r = 0; r < ROUNDS && of_round(updates, r); r++)
		for (unsigned i = 0; i < sizeof(cpu_counts) / sizeof(cpu_counts[0]); i++) {
			unsigned cpus = cpu_counts[i];
			const struct test_case busy = {"bench", "gap", drive_busy_cpus,	 cpus, 0,
						       5000,	10000, {"--mem", "256M"}};
			/* Many vCPUs on a few processors are late now and then. */
			const struct test_case idle = {
				"bench",
				"hello",
				drive_idle_cpus,
				cpus,
				0,
				0,
				0,
				{"--mem", "256M", "--update-timeout", "20000"}};
			bool room = cpus <= (unsigned long)sysconf(_SC_NPROCESSORS_ONLN);
			if ((room && bench_guest(set, &busy, of_round(updates, r))) ||
			    bench_guest(set, &idle, of_round(updates, r)))
				return -1;
		}
	return 0;
}

/* ---- devices by VFIO, $BENCH_VFIO: their addresses ---- */

static const char *series_now;
static uint64_t x_now;

static int drive_devices(struct session *s, unsigned updates)
{
	uint64_t gap;

	if (start_gap(s))
		return -1;
	for (unsigned i = 0; i < updates; i++) {
		if (gap_update(s, &gap))
			return -1;
		bench_sample(series_now, x_now, s->pauses_ns[i]);
	}
	return end_gap(s);
}

/* The program before may still be letting go of it. */
static void group_wait(const char *bdf)
{
	char link[96], group[256];

	snprintf(link, sizeof(link), "/sys/bus/pci/devices/%s/iommu_group", bdf);
	ssize_t n = readlink(link, group, sizeof(group) - 1);
	group[n > 0 ? n : 0] = 0;
	snprintf(link, sizeof(link), "/dev/vfio/%.80s",
		 strrchr(group, '/') ? strrchr(group, '/') + 1 : "");
	for (unsigned i = 0; i < GROUP_LOOKS; i++) {
		int fd = open(link, O_RDWR | O_CLOEXEC);
		bool busy = fd < 0 && errno == EBUSY;
		if (fd >= 0)
			close(fd);
		if (!busy)
			return;
		usleep(10000);
	}
}

static int devices_run(const struct settings *set, char *const bdf[], unsigned devices,
		       unsigned vectors, unsigned updates)
{
	char line[32];
	struct test_case test = {"bench", "gap", drive_devices,	   1,	0,
				 5000,	  10000, {"--mem", "32M"}, line};

	snprintf(line, sizeof(line), "vectors=%u", vectors);
	for (unsigned i = 0; i < devices; i++) {
		test.args[2 + 2 * i] = "--vfio";
		test.args[3 + 2 * i] = bdf[i];
		group_wait(bdf[i]);
	}
	return bench_guest(set, &test, updates);
}

int bench_devices(const struct settings *set, const char *floor, unsigned updates)
{
	static const unsigned vectors[] = {1, 64, 128, 256};
	char *bdf[MAX_DEVICES], *save, *list = getenv("BENCH_VFIO");
	unsigned n = 0;
	int rc = 0;

	(void)floor;
	for (char *p = list ? strtok_r(list, " ", &save) : NULL; p && n < MAX_DEVICES;
	     p = strtok_r(NULL, " ", &save))
		bdf[n++] = p;
	if (!n) {
		printf("bench: no devices in $BENCH_VFIO\n");
		return -1;
	}
	series_now = "devices_pause_ns";
	for (unsigned i = 1; i <= n && !rc; i *= 2) {
		x_now = i;
		rc = devices_run(set, bdf, i, 0, updates);
	}
	series_now = "vectors_pause_ns";
	for (unsigned i = 0; i < sizeof(vectors) / sizeof(vectors[0]) && !rc; i++) {
		x_now = vectors[i];
		rc = devices_run(set, bdf, n, vectors[i], updates);
	}
	return rc;
}
