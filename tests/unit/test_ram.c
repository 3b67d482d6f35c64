/* SPDX-License-Identifier: MIT */
#include "tests/unit/unit.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/mempolicy.h>
#include <signal.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cpr/state/fdset.h"
#include "vmm/arch.h"
#include "vmm/base/error.h"
#include "vmm/base/pool.h"
#include "vmm/ram.h"

#define SIZE (64 * MIB)
#define HOLE (48 * MIB) /* where the second region begins in the file */

static struct fdset fds;
static struct ram ram;
static struct error err;
static char folder[32];

/* Two regions, as on a machine with a hole below 4 GiB. */
int arch_ram_layout(struct ram_state *state, uint64_t size, struct error *e)
{
	state->nregions = size > HOLE ? 2 : 1;
	state->len[0] = size > HOLE ? HOLE : size;
	state->gpa[1] = 4 * GIB;
	state->len[1] = size > HOLE ? size - HOLE : 0;
	state->offset[1] = HOLE;
	return 0;
}

static int setup(void **state)
{
	strcpy(folder, "/tmp/molt-ram.XXXXXX");
	return mkdtemp(folder) ? 0 : -1;
}

static int teardown(void **state)
{
	char command[64];
	if (ram.hva)
		munmap(ram.hva, ram.state.size);
	ram.hva = NULL;
	fdset_close(&fds, "ram0");
	snprintf(command, sizeof(command), "rm -r %s", folder);
	return system(command);
}

static int create(const char *path, uint64_t size)
{
	struct ram_options opt = {.size = size};
	if (path)
		snprintf(opt.path, sizeof(opt.path), "%s", path);
	memset(&err, 0, sizeof(err));
	return ram_create(&ram, &opt, &fds, &err);
}

static uint64_t file_size(void)
{
	struct stat st;
	fstat(ram.fd, &st);
	return (uint64_t)st.st_size;
}

static void a_sealed_memfd(void **state)
{
	assert_int_equal(create(NULL, SIZE), 0);
	assert_true(file_size() == SIZE);
	assert_true(ram.state.page_len == PAGE_LEN);
	assert_int_equal(fcntl(ram.fd, F_GETFD), FD_CLOEXEC);
	assert_int_equal(ftruncate(ram.fd, SIZE - 4096), -1);
	assert_int_equal(ftruncate(ram.fd, SIZE + 4096), -1);
	assert_int_equal(fcntl(ram.fd, F_ADD_SEALS, F_SEAL_WRITE), -1);
	assert_int_equal(fdset_get(&fds, "ram0"), ram.fd);
}

static bool vm_flag(const void *hva, const char *flag)
{
	char line[512], start[32];
	bool inside = false, found = false;
	snprintf(start, sizeof(start), "%lx-", (unsigned long)hva);
	FILE *f = fopen("/proc/self/smaps", "r");
	while (fgets(line, sizeof(line), f)) {
		if (strchr(line, '-') && strspn(line, "0123456789abcdef") > 6)
			inside = !strncmp(line, start, strlen(start));
		if (inside && !strncmp(line, "VmFlags:", 8))
			found = strstr(line, flag);
	}
	fclose(f);
	return found;
}

static void mapped_aligned_and_not_dumped(void **state)
{
	char text[64];
	assert_int_equal(create(NULL, SIZE), 0);
	assert_int_equal(ram_map(&ram, &err), 0);
	assert_true((uintptr_t)ram.hva % (2 * MIB) == 0);
	assert_true(vm_flag(ram.hva, " dd"));
	ram.hva[0] = 1;
	ram.hva[SIZE - 1] = 2;
	assert_int_equal(pread(ram.fd, text, 1, SIZE - 1), 1);
	assert_int_equal(text[0], 2);
	ram_page_text(&ram, text, sizeof(text));
	assert_memory_equal(text, "4K", 2);
}

static void lookups_stay_inside_one_region(void **state)
{
	assert_int_equal(create(NULL, SIZE), 0);
	assert_int_equal(ram_map(&ram, &err), 0);
	assert_ptr_equal(ram_at(&ram, 0, HOLE), ram.hva);
	assert_ptr_equal(ram_at(&ram, HOLE - 1, 1), ram.hva + HOLE - 1);
	assert_null(ram_at(&ram, HOLE - 1, 2));
	assert_null(ram_at(&ram, HOLE, 0));
	assert_null(ram_at(&ram, HOLE, 1));
	assert_ptr_equal(ram_at(&ram, 4 * GIB, SIZE - HOLE), ram.hva + HOLE);
	assert_null(ram_at(&ram, 4 * GIB, SIZE - HOLE + 1));
	assert_null(ram_at(&ram, 4 * GIB - 1, 1));
	assert_null(ram_at(&ram, 4 * GIB + 8, UINT64_MAX - 4));
	assert_null(ram_at(&ram, UINT64_MAX, 1));
	assert_null(ram_at(&ram, UINT64_MAX, UINT64_MAX));
}

static void an_unnamed_file_in_a_folder(void **state)
{
	assert_int_equal(create(folder, SIZE), 0);
	assert_true(file_size() == SIZE);
	assert_int_equal(rmdir(folder), 0); /* it is empty */
	assert_int_equal(mkdir(folder, 0700), 0);
}

static char file[64]; /* in the folder, not there yet */

static int setup_file(void **state)
{
	int rc = setup(state);
	snprintf(file, sizeof(file), "%s/file", folder);
	return rc;
}

static void write_file(const char *text)
{
	FILE *f = fopen(file, "w");
	assert_non_null(f);
	assert_int_equal(fwrite(text, 1, strlen(text), f), strlen(text));
	assert_int_equal(fclose(f), 0);
}

static void a_new_file_and_an_empty_one(void **state)
{
	struct stat st;
	assert_int_equal(create(file, SIZE), 0);
	assert_int_equal(stat(file, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_true(st.st_size == SIZE);
	fdset_close(&fds, "ram0");
	write_file("");
	assert_int_equal(create(file, SIZE), 0);
	assert_true(file_size() == SIZE);
}

/* A former guest's memory, or any file at all: it stays as it is, smaller or larger than the guest. */
static void a_file_that_is_not_empty_is_nobodys(void **state)
{
	static const uint64_t sizes[] = {SIZE / 2, SIZE, 2 * SIZE};
	char text[8] = "";
	for (unsigned i = 0; i < ARRAY_LEN(sizes); i++) {
		struct stat st;
		write_file("precious");
		assert_int_equal(truncate(file, (off_t)sizes[i]), 0);
		assert_int_equal(create(file, SIZE), -EEXIST);
		assert_int_equal(err.exit, EXIT_CONFIG);
		assert_non_null(strstr(err.text, file));
		assert_non_null(strstr(err.hint, "remove this one"));
		assert_int_equal(stat(file, &st), 0);
		assert_true((uint64_t)st.st_size == sizes[i]);
		int fd = open(file, O_RDONLY);
		assert_int_equal(read(fd, text, sizeof(text)), sizeof(text));
		assert_memory_equal(text, "precious", sizeof(text));
		close(fd);
	}
}

/* The start has failed after all: the next one may take the file. */
static void a_file_without_a_guest_is_empty_again(void **state)
{
	assert_int_equal(create(file, SIZE), 0);
	assert_int_equal(ram_map(&ram, &err), 0);
	ram.hva[12345] = 77;
	ram_abandon(&fds);
	fdset_close(&fds, "ram0");
	munmap(ram.hva, SIZE);
	assert_int_equal(create(file, SIZE), 0);
	assert_int_equal(ram_map(&ram, &err), 0);
	assert_int_equal(ram.hva[12345], 0);
	fdset_close(&fds, "ram0");
	ram_abandon(&fds); /* there is none: nothing */
	assert_int_equal(create(NULL, SIZE), 0);
	ram_abandon(&fds); /* sealed */
	assert_true(file_size() == SIZE);
}

/* Its descriptor is handed over as this one is: while one is left another guest gets nothing. */
static void a_file_in_use_is_not_taken(void **state)
{
	struct ram_options opt = {.size = SIZE};
	struct fdset other = {0};
	struct ram second;
	snprintf(opt.path, sizeof(opt.path), "%s", file);
	assert_int_equal(create(file, SIZE), 0);
	int successors = fcntl(ram.fd, F_DUPFD_CLOEXEC, 0);
	fdset_close(&fds, "ram0");
	assert_int_equal(ram_create(&second, &opt, &other, &err), -EBUSY);
	assert_int_equal(err.exit, EXIT_CONFIG);
	assert_non_null(strstr(err.text, "in use"));
	assert_int_equal(truncate(file, 0), 0); /* it is the lock that counts */
	assert_int_equal(ram_create(&second, &opt, &other, &err), -EBUSY);
	close(successors);
	assert_int_equal(ram_create(&second, &opt, &other, &err), 0);
	fdset_close(&other, "ram0");
	pool_free(other.e);
}

static void who_has_the_file_is_named(void **state)
{
	char user[128];
	assert_int_equal(create(file, SIZE), 0);
	assert_int_equal(pwrite(ram.fd, "1", 1, 0), 1);
	pid_t pid = fork();
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		prctl(PR_SET_NAME, "molt-other");
		while (pwrite(ram.fd, "", 1, 0) == 1)
			pause();
		_exit(1);
	}
	for (char named = 1; named; usleep(1000))
		assert_int_equal(pread(ram.fd, &named, 1, 0), 1);
	fdset_close(&fds, "ram0");
	assert_int_equal(create(file, SIZE), -EBUSY);
	snprintf(user, sizeof(user), "%s is in use by process %d (molt-other)", file, (int)pid);
	if (!strstr(err.text, user))
		fail_msg("'%s' does not say '%s'", err.text, user);
	assert_non_null(strstr(err.hint, "end that process"));
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

static void a_device_begins_with_zeros(void **state)
{
	static uint8_t memory[2][PAGE_LEN];
	struct ram device = {.fd = open("/dev/null", O_RDWR), .hva = memory[0]};
	device.state.size = PAGE_LEN;
	memset(memory, 0xa5, sizeof(memory));
	ram_clear(&device);
	assert_int_equal(memory[0][0] | memory[0][PAGE_LEN - 1], 0);
	assert_int_equal(memory[1][0], 0xa5);
	close(device.fd);
}

static void files_of_other_kinds(void **state)
{
	char path[64];
	snprintf(path, sizeof(path), "%s/fifo", folder);
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_int_equal(create(path, SIZE), -EINVAL);
	assert_int_equal(create("/dev/null", SIZE), -EINVAL);
	assert_non_null(strstr(err.hint, "DAX"));
	snprintf(path, sizeof(path), "%s/missing/file", folder);
	assert_int_equal(create(path, SIZE), -ENOENT);
	assert_non_null(strstr(err.text, path));
}

/* On a host without that many reserved pages: told at start, with the number; no SIGBUS later. */
static void huge_pages_that_are_not_there(void **state)
{
	static const struct {
		uint32_t mib;
		const char *text, *hint;
	} sizes[] = {
		{2, "524288 huge pages of 2 MiB", "vm.nr_hugepages"},
		{1024, "1024 huge pages of 1024 MiB", "hugepagesz=1G"},
	};
	unsigned done = 0;
	for (unsigned i = 0; i < ARRAY_LEN(sizes); i++) {
		struct ram_options opt = {.size = 1024 * GIB, .hugetlb = sizes[i].mib};
		int rc = ram_create(&ram, &opt, &fds, &err);
		if (rc == -ENOSYS || strstr(err.text, "memfd of pages"))
			continue; /* a kernel without hugetlbfs, or a processor without such pages */
		assert_int_not_equal(rc, 0);
		assert_non_null(strstr(err.text, sizes[i].text));
		assert_non_null(strstr(err.hint, sizes[i].hint));
		assert_int_equal(err.exit, EXIT_HOST);
		done++;
	}
	if (!done)
		skip();
}

/* The file keeps its node for whoever maps it: a successor has nothing to set. */
static void memory_of_one_node(void **state)
{
	struct ram_options opt = {.size = SIZE, .bind = true};
	unsigned long mask[RAM_MAX_NODES / 64] = {0};
	int mode = -1;
	int rc = ram_create(&ram, &opt, &fds, &err);
	if (rc == -ENOSYS)
		skip(); /* a kernel without NUMA */
	assert_int_equal(rc, 0);
	assert_int_equal(ram_map(&ram, &err), 0);
	assert_int_equal(
		syscall(SYS_get_mempolicy, &mode, mask, RAM_MAX_NODES + 1, ram.hva, MPOL_F_ADDR),
		0);
	assert_int_equal(mode, MPOL_BIND);
	assert_int_equal(mask[0], 1);
	assert_int_equal(mask[1], 0);
}

static void a_node_that_is_not_there(void **state)
{
	struct ram_options opt = {.size = SIZE, .bind = true, .node = RAM_MAX_NODES - 1};
	int rc = ram_create(&ram, &opt, &fds, &err);
	if (rc == -ENOSYS)
		skip();
	assert_int_equal(rc, -EINVAL);
	assert_non_null(strstr(err.text, "NUMA node 1023"));
	assert_non_null(strstr(err.hint, "are among 0"));
	assert_int_equal(err.exit, EXIT_HOST);
}

static void collapsing_keeps_the_contents(void **state)
{
	char text[64];
	assert_int_equal(create(NULL, SIZE), 0);
	assert_int_equal(ram_map(&ram, &err), 0);
	for (uint64_t at = 0; at < SIZE; at += 4096)
		store_le(ram.hva + at, at + 1, 8);
	assert_int_equal(ram_collapse(&ram, &err), 0);
	for (uint64_t at = 0; at < SIZE; at += 4096)
		assert_true(load_le(ram.hva + at, 8) == at + 1);
	ram_page_text(&ram, text, sizeof(text));
	print_message("pages: %s\n", text);
}

static void adopted(void **state)
{
	struct ram other = {0};
	assert_int_equal(create(NULL, SIZE), 0);
	assert_int_equal(ram_map(&ram, &err), 0);
	ram.hva[12345] = 77;
	other.state = ram.state;
	assert_int_equal(ram_adopt(&other, &fds, &err), 0);
	assert_int_equal(ram_map(&other, &err), 0);
	assert_ptr_not_equal(other.hva, ram.hva);
	assert_int_equal(((uint8_t *)ram_at(&other, 12345, 1))[0], 77);
	munmap(other.hva, SIZE);
}

static void hostile_state_is_not_adopted(void **state)
{
	assert_int_equal(create(NULL, SIZE), 0);
	const struct ram_state good = ram.state;
	struct ram_state bad[] = {good, good, good, good, good, good, good,
				  good, good, good, good, good, good, good};
	bad[0].size = 0;
	bad[1].size = SIZE + PAGE_LEN;
	bad[2].size = SIZE - 2 * MIB;
	bad[3].page_len = 0;
	bad[4].page_len = 2 * MIB;
	bad[5].nregions = 0;
	bad[6].nregions = RAM_MAX_REGIONS + 1;
	bad[7].len[1] += PAGE_LEN;
	bad[8].offset[0] = UINT64_MAX - PAGE_LEN + 1;
	bad[9].gpa[1] = HOLE - PAGE_LEN;
	bad[10].gpa[1] = (uint64_t)1 << 52; /* wider than any processor */
	bad[11].gpa[1] += 1;
	bad[12].len[0] = 0;
	bad[13].offset[1] = HOLE - PAGE_LEN;
	for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
		struct ram other = {.state = bad[i]};
		if (ram_adopt(&other, &fds, &err) != -EBADMSG)
			fail_msg("case %u was adopted", i);
	}
	struct ram other = {.state = good};
	assert_int_equal(ram_adopt(&other, &fds, &err), 0);
	fdset_close(&fds, "ram0");
	assert_int_equal(ram_adopt(&other, &fds, &err), -EBADMSG);
}

static void the_state_table_is_whole(void **state)
{
	assert_int_equal(unit_uncovered(&ram_state_class), sizeof(struct ram_state));
}

#define TEST(name)	cmocka_unit_test_setup_teardown(name, setup, teardown)
#define TEST_FILE(name) cmocka_unit_test_setup_teardown(name, setup_file, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_sealed_memfd),
		TEST(mapped_aligned_and_not_dumped),
		TEST(lookups_stay_inside_one_region),
		TEST(an_unnamed_file_in_a_folder),
		TEST_FILE(a_new_file_and_an_empty_one),
		TEST_FILE(a_file_that_is_not_empty_is_nobodys),
		TEST_FILE(a_file_without_a_guest_is_empty_again),
		TEST_FILE(a_file_in_use_is_not_taken),
		TEST_FILE(who_has_the_file_is_named),
		TEST(a_device_begins_with_zeros),
		TEST(files_of_other_kinds),
		TEST(huge_pages_that_are_not_there),
		TEST(memory_of_one_node),
		TEST(a_node_that_is_not_there),
		TEST(collapsing_keeps_the_contents),
		TEST(adopted),
		TEST(hostile_state_is_not_adopted),
		TEST(the_state_table_is_whole),
	};
	int rc = cmocka_run_group_tests(tests, NULL, NULL);
	pool_free(fds.e);
	return rc;
}
