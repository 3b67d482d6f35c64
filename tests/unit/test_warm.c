/* SPDX-License-Identifier: MIT */
/* Warming: what, when and whether. KVM and the architecture's reader are fakes. */
#include "tests/unit/folder.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "vmm/arch.h"
#include "vmm/base/error.h"
#include "vmm/machine.h"
#include "vmm/warm.h"

#define SIZE	 (512 * MIB)
#define LOW_LEN	 (384 * MIB)
#define HIGH_GPA (4 * GIB)
#define STEP	 (2 * MIB)

static struct machine *m;
static struct vcpu vcpu;
static struct warm_options opt;
static struct warm_result out;
static struct error err;
static bool cancel;

/* What was asked of the fakes, and what they say. */
static struct {
	uint64_t gpa[1024], len[1024];
	unsigned n;		  /* stretches */
	unsigned opens, closes;	  /* of the reader */
	int nested;		  /* arch_nested_paging */
	long pre_fault;		  /* what the call says: 0, or an error */
	uint64_t pre_fault_most;  /* it stops after so much; 0: never */
	unsigned pre_fault_again; /* so many times it says EAGAIN first */
	unsigned pre_faults;
	int open_error, read_error, close_error;
	unsigned cancel_after; /* stretches; 0: never */
	uint64_t now_ns;       /* the clock */
	unsigned takes_ms;     /* each stretch */
	unsigned calls;	       /* of progress */
	uint64_t done, total;
} fake;

#define MS 1000000ull

/* Nothing else takes any time. */
int __wrap_clock_gettime(clockid_t clock, struct timespec *ts);
int __wrap_clock_gettime(clockid_t clock, struct timespec *ts)
{
	assert_int_equal(clock, CLOCK_MONOTONIC);
	*ts = (struct timespec){.tv_sec = (time_t)(fake.now_ns / (1000 * MS)),
				.tv_nsec = (long)(fake.now_ns % (1000 * MS))};
	return 0;
}

int __wrap_nanosleep(const struct timespec *ts, struct timespec *left);
int __wrap_nanosleep(const struct timespec *ts, struct timespec *left)
{
	fake.now_ns += (uint64_t)ts->tv_sec * 1000 * MS + (uint64_t)ts->tv_nsec;
	return 0;
}

static void note(uint64_t gpa, uint64_t len)
{
	assert_in_range(fake.n, 0, ARRAY_LEN(fake.gpa) - 1);
	fake.gpa[fake.n] = gpa;
	fake.len[fake.n++] = len;
	fake.now_ns += fake.takes_ms * MS;
	if (fake.n == fake.cancel_after)
		__atomic_store_n(&cancel, true, __ATOMIC_RELEASE);
}

/* KVM_PRE_FAULT_MEMORY is the only one. */
long vm_ioctl(int fd, unsigned long request, void *arg)
{
	struct {
		uint64_t gpa, size, flags, padding[5];
	} *range = arg;
	assert_int_equal(request, 0xc040aed5ul); /* as linux/kvm.h of 6.11 has it */
	assert_int_equal(fd, vcpu.fd);
	fake.pre_faults++;
	if (fake.pre_fault_again && fake.pre_fault_again--)
		return -EAGAIN;
	if (fake.pre_fault)
		return fake.pre_fault;
	uint64_t now = fake.pre_fault_most && range->size > fake.pre_fault_most
			       ? fake.pre_fault_most
			       : range->size;
	note(range->gpa, now);
	range->gpa += now;
	range->size -= now;
	return 0;
}

int arch_nested_paging(const char *root)
{
	return fake.nested;
}

int arch_warm_open(struct machine *machine, struct error *e)
{
	fake.opens++;
	return fake.open_error ? error_set(e, fake.open_error, "no reader here") : 0;
}

int arch_warm_read(struct machine *machine, uint64_t gpa, uint64_t len, const bool *c,
		   struct error *e)
{
	if (fake.read_error)
		return error_set(e, fake.read_error, "the reader fell over");
	note(gpa, len);
	return 0;
}

int arch_warm_close(struct machine *machine, struct error *e)
{
	fake.closes++;
	return fake.close_error ? error_set(e, fake.close_error, "no rest") : 0;
}

int arch_warm_follow(struct machine *machine, struct error *e)
{
	return 0;
}

static void progress(void *opaque, uint64_t done, uint64_t total)
{
	assert_ptr_equal(opaque, &fake);
	assert_true(done >= fake.done && done <= total);
	fake.calls++;
	fake.done = done;
	fake.total = total;
}

static void map_file(int fd)
{
	m->ram.fd = fd;
	m->ram.hva = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_true(m->ram.hva != MAP_FAILED);
}

static int setup(void **state)
{
	memset(&fake, 0, sizeof(fake));
	fake.nested = 1;
	cancel = false;
	vcpu.fd = 77;
	m = calloc(1, sizeof(*m));
	m->vcpus = &vcpu;
	m->ram.state = (struct ram_state){.size = SIZE,
					  .page_len = PAGE_LEN,
					  .nregions = 2,
					  .gpa = {0, HIGH_GPA},
					  .len = {LOW_LEN, SIZE - LOW_LEN},
					  .offset = {0, LOW_LEN}};
	map_file(memfd_create("ram", MFD_CLOEXEC));
	assert_int_equal(ftruncate(m->ram.fd, SIZE), 0);
	folder_make();
	folder_put("proc/meminfo", "MemTotal: 99 kB\nMemAvailable:    4194304 kB\n");
	opt = (struct warm_options){.budget_ms = WARM_BUDGET_MS,
				    .cancel = &cancel,
				    .root = folder,
				    .progress = progress,
				    .opaque = &fake};
	return 0;
}

static int teardown(void **state)
{
	munmap(m->ram.hva, SIZE);
	close(m->ram.fd);
	free(m);
	return folder_remove();
}

static void fill(uint64_t page, uint64_t n)
{
	memset(m->ram.hva + page * PAGE_LEN, 1, n * PAGE_LEN);
}

static uint64_t blocks(void)
{
	struct stat st;
	assert_int_equal(fstat(m->ram.fd, &st), 0);
	return (uint64_t)st.st_blocks * 512;
}

static int run(void)
{
	memset(&err, 0, sizeof(err));
	return warm_run(m, &opt, &out, &err);
}

static bool said(const char *text)
{
	if (strstr(out.why, text))
		return true;
	print_error("why: \"%s\"\n", out.why);
	return false;
}

/* Was nothing done? */
static bool skipped(const char *text)
{
	assert_int_equal(run(), 0);
	assert_int_equal(out.way, WARM_NONE);
	assert_true(out.warmed == 0);
	assert_int_equal(fake.n, 0);
	return said(text);
}

/* ---- which stretches ---- */

static void stretches_of_a_sparse_file(void **state)
{
	static const uint64_t page[] = {0, 10, 5000, SIZE / PAGE_LEN - 1}, n[] = {3, 1, 4000, 1};
	struct warm_map map;
	uint64_t off, len, at = 0;
	for (unsigned i = 0; i < 4; i++)
		fill(page[i], n[i]);
	warm_map_init(&map, &m->ram, false);
	assert_false(map.whole);
	assert_true(map.look);
	for (unsigned i = 0; i < 4; i++, at = off + len) {
		assert_true(warm_map_next(&map, at, &off, &len));
		assert_int_equal(off, page[i] * PAGE_LEN);
		assert_int_equal(len, n[i] * PAGE_LEN);
	}
	assert_false(warm_map_next(&map, at, &off, &len));
	assert_false(warm_map_next(&map, SIZE + PAGE_LEN, &off, &len));
	assert_true(warm_map_next(&map, 5001 * PAGE_LEN, &off, &len)); /* from within */
	assert_int_equal(off, 5001 * PAGE_LEN);
	assert_int_equal(len, 3999 * PAGE_LEN);
	assert_int_equal(warm_map_total(&map), 4005 * PAGE_LEN);
}

static void files_that_have_all_of_it_or_do_not_tell(void **state)
{
	struct warm_map map;
	struct ram other = m->ram;
	warm_map_init(&map, &m->ram, false);
	assert_int_equal(warm_map_total(&map), 0);
	warm_map_init(&map, &m->ram, true); /* pinned */
	assert_false(map.look);
	assert_int_equal(warm_map_total(&map), SIZE);
	other.state.page_len = 2 * MIB; /* hugetlbfs: calls it data, or a hole */
	warm_map_init(&map, &other, false);
	assert_false(map.look);
	assert_int_equal(warm_map_total(&map), SIZE);
	other = m->ram;
	other.fd =
		open("/dev/null", O_RDWR | O_CLOEXEC); /* as of a device DAX: lseek does nothing */
	warm_map_init(&map, &other, false);
	assert_int_equal(warm_map_total(&map), SIZE);
	close(other.fd);
}

/* Exactly the pages that are there, at the guest's addresses; none is made. */
static void holes_stay_holes(void **state)
{
	uint64_t edge = LOW_LEN / PAGE_LEN;
	fill(1, 2);
	fill(STEP / PAGE_LEN - 1, 2); /* over the end of a step */
	fill(edge - 1, 2);	      /* over the end of a region */
	uint64_t before = blocks();
	assert_int_equal(run(), 0);
	assert_string_equal(out.why, "");
	assert_int_equal(out.way, WARM_PRE_FAULT);
	static const struct {
		uint64_t gpa, len;
	} want[] = {
		{PAGE_LEN, PAGE_LEN}, /* asks for the way */
		{PAGE_LEN, 2 * PAGE_LEN},	{STEP - PAGE_LEN, PAGE_LEN}, {STEP, PAGE_LEN},
		{LOW_LEN - PAGE_LEN, PAGE_LEN}, {HIGH_GPA, PAGE_LEN},
	};
	assert_int_equal(fake.n, ARRAY_LEN(want));
	for (unsigned i = 0; i < ARRAY_LEN(want); i++) {
		assert_int_equal(fake.gpa[i], want[i].gpa);
		assert_int_equal(fake.len[i], want[i].len);
	}
	assert_int_equal(out.warmed, 6 * PAGE_LEN);
	assert_int_equal(out.total, 6 * PAGE_LEN);
	assert_int_equal(blocks(), before);
	assert_int_equal(fake.opens, 0);
	assert_int_equal(fake.closes, 1);
}

/* Pages that are on a disk only are not fetched. */
static void what_is_not_in_memory_stays_there(void **state)
{
	char path[64];
	unsigned char present[2];
	munmap(m->ram.hva, SIZE);
	close(m->ram.fd);
	snprintf(path, sizeof(path), "%s/ram", folder);
	map_file(open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600));
	assert_int_equal(ftruncate(m->ram.fd, SIZE), 0);
	assert_int_equal(pwrite(m->ram.fd, "x", 1, 0), 1);
	assert_int_equal(pwrite(m->ram.fd, "x", 1, 64 * MIB), 1);
	assert_int_equal(fsync(m->ram.fd), 0);
	posix_fadvise(m->ram.fd, 64 * MIB, PAGE_LEN, POSIX_FADV_DONTNEED);
	assert_int_equal(mincore(m->ram.hva, PAGE_LEN, present), 0);
	assert_int_equal(mincore(m->ram.hva + 64 * MIB, PAGE_LEN, present + 1), 0);
	if (!(present[0] & 1) || present[1] & 1)
		skip(); /* a file system in memory */
	assert_int_equal(run(), 0);
	assert_int_equal(mincore(m->ram.hva + 64 * MIB, PAGE_LEN, present + 1), 0);
	assert_int_equal(present[1] & 1, 0);
	for (unsigned i = 0; i < fake.n; i++)
		assert_true(fake.gpa[i] < 64 * MIB);
	assert_true(out.warmed >= PAGE_LEN && out.warmed < out.total);
}

/* ---- which way ---- */

static void the_reader_where_the_call_is_not_known(void **state)
{
	static const int codes[] = {-EINVAL, -ENOTTY};
	fill(0, 3);
	for (unsigned i = 0; i < 2; i++) {
		fake.n = fake.opens = fake.closes = 0;
		fake.pre_fault = codes[i];
		assert_int_equal(run(), 0);
		assert_int_equal(out.way, WARM_READER);
		assert_string_equal(warm_way_text(out.way), "reader");
		assert_int_equal(out.warmed, 3 * PAGE_LEN);
		assert_int_equal(fake.n, 1);
		assert_int_equal(fake.opens, 1);
		assert_int_equal(fake.closes, 1);
	}
}

static void a_call_that_stops_early_is_made_again(void **state)
{
	fill(0, 100);
	fake.pre_fault_most = 7 * PAGE_LEN;
	fake.pre_fault_again = 5;
	assert_int_equal(run(), 0);
	assert_int_equal(out.warmed, 100 * PAGE_LEN);
	assert_string_equal(out.why, "");
	uint64_t sum = 0;
	for (unsigned i = 1; i < fake.n; i++, sum += 7 * PAGE_LEN)
		assert_int_equal(fake.gpa[i], sum);
	assert_int_equal(fake.n, 1 + 15);
}

static void a_call_that_gets_nowhere_ends(void **state)
{
	fill(0, 1);
	fake.pre_fault_again = 1000000;
	assert_int_equal(run(), 0);
	assert_int_equal(out.warmed, 0);
	assert_true(said("KVM_PRE_FAULT_MEMORY at 0x0"));
	assert_in_range(fake.pre_faults, 1, 10000);
}

static void failures_leave_it_cold(void **state)
{
	fill(0, 1);
	fill(STEP / PAGE_LEN, 1);
	fake.pre_fault = -EFAULT;
	assert_int_equal(run(), 0);
	assert_true(said("Bad address"));
	assert_int_equal(fake.pre_faults, 2); /* the question, and the first stretch */
	fake.pre_fault = -EINVAL;
	fake.open_error = EEXIST;
	assert_int_equal(run(), 0);
	assert_int_equal(out.way, WARM_NONE);
	assert_true(said("no reader here"));
	fake.open_error = 0;
	fake.read_error = EIO;
	assert_int_equal(run(), 0);
	assert_true(said("the reader fell over"));
	assert_int_equal(out.warmed, 0);
	/* But a reader that is not at rest is no guest's. */
	fake.close_error = EIO;
	assert_int_equal(run(), -EIO);
	assert_string_equal(err.text, "no rest");
}

/* ---- whether ---- */

static void skipped_and_says_why(void **state)
{
	assert_true(skipped("nothing of guest memory"));
	fill(0, 1);
	opt.budget_ms = 0;
	assert_true(skipped("turned off"));
	opt.budget_ms = 1000;
	fake.nested = 0;
	assert_true(skipped("KVM shadows"));
	fake.nested = -1; /* not known: the call tells */
	fake.pre_fault = -EOPNOTSUPP;
	assert_true(skipped("KVM shadows"));
	assert_int_equal(fake.opens, 0);
	fake.pre_fault = 0;
	assert_int_equal(run(), 0);
	assert_int_equal(out.warmed, PAGE_LEN);
}

static void no_room_for_page_tables(void **state)
{
	fill(0, 1);
	folder_put("proc/meminfo", "MemAvailable: 16000 kB\n");
	assert_true(skipped("MemAvailable leaves 15 MiB"));
	folder_put("proc/meminfo", "MemAvailable: 17000 kB\n");
	assert_int_equal(run(), 0);
	assert_int_equal(out.warmed, PAGE_LEN);
}

/* ---- when ---- */

static void one_page_a_step(void)
{
	for (uint64_t at = 0; at < SIZE; at += STEP)
		fill(at / PAGE_LEN, 1);
}

static void a_budget_that_is_used_up(void **state)
{
	one_page_a_step();
	fake.takes_ms = 5;
	opt.budget_ms = 40;
	assert_int_equal(run(), 0);
	assert_true(said("budget of 40 ms"));
	assert_int_equal(out.total, SIZE / STEP * PAGE_LEN);
	assert_int_equal(out.warmed, 7 * PAGE_LEN); /* and one that asked for the way */
	assert_int_equal(out.ns, 40 * MS);
	assert_int_equal(fake.closes, 1);
}

static void called_off(void **state)
{
	one_page_a_step();
	fake.cancel_after = 4;
	assert_int_equal(run(), 0);
	assert_true(said("called off"));
	assert_int_equal(out.warmed, 3 * PAGE_LEN); /* the first was asked for twice */
	assert_int_equal(fake.n, 4);
	assert_int_equal(fake.closes, 1);
	fake.n = 0; /* before it began */
	fake.done = 0;
	assert_int_equal(run(), 0);
	assert_int_equal(fake.n, 0);
}

static void progress_is_told_ten_times_a_second(void **state)
{
	one_page_a_step();
	fake.takes_ms = 2;
	assert_int_equal(run(), 0);
	assert_int_equal(out.ns, (SIZE / STEP + 1) * 2 * MS); /* 514 ms */
	assert_int_equal(fake.calls, 5 + 1);		      /* and at the end */
	assert_int_equal(fake.done, SIZE / STEP * PAGE_LEN);
	assert_int_equal(fake.total, fake.done);
	opt.progress = NULL;
	fake.takes_ms = 0;
	assert_int_equal(run(), 0);
}

static void it_rests_as_it_is_told(void **state)
{
	one_page_a_step();
	fake.takes_ms = 1;
	opt.rest_percent = 200;
	assert_int_equal(run(), 0);
	assert_int_equal(out.ns, 3 * (SIZE / STEP + 1) * MS);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(stretches_of_a_sparse_file),
		TEST(files_that_have_all_of_it_or_do_not_tell),
		TEST(holes_stay_holes),
		TEST(what_is_not_in_memory_stays_there),
		TEST(the_reader_where_the_call_is_not_known),
		TEST(a_call_that_stops_early_is_made_again),
		TEST(a_call_that_gets_nowhere_ends),
		TEST(failures_leave_it_cold),
		TEST(skipped_and_says_why),
		TEST(no_room_for_page_tables),
		TEST(a_budget_that_is_used_up),
		TEST(called_off),
		TEST(progress_is_told_ten_times_a_second),
		TEST(it_rests_as_it_is_told),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
