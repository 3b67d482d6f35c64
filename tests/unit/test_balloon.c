/* SPDX-License-Identifier: MIT */
/* Free memory that the guest reports: what the host takes back, and what stays. */
#include "tests/unit/fake_virtio.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "devices/virtio/balloon.h"

#define FEATURE	  (1ull << VIRTIO_BALLOON_F_REPORTING)
#define REPORTING 2
#define PATTERN	  0x5a

static struct balloon *balloon;

static void balloon_new(bool fresh, int fd, uint8_t *hva)
{
	m = virtio_machine(fresh, &balloon_class, NULL, hva);
	m->ram.fd = fd;
	balloon = (struct balloon *)m->devices[1];
}

static int setup(void **state)
{
	memset(&fake, 0, sizeof(fake));
	int fd = memfd_create("ram", MFD_CLOEXEC);
	assert_int_equal(ftruncate(fd, LOW_LEN + HIGH_LEN), 0);
	uint8_t *hva = mmap(NULL, LOW_LEN + HIGH_LEN, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	memset(hva, PATTERN, LOW_LEN + HIGH_LEN);
	balloon_new(true, fd, hva);
	return 0;
}

static int teardown(void **state)
{
	int fd = m->ram.fd;
	virtio_free();
	close(fd);
	return 0;
}

/* The driver has queue @q alone, whose rings are where the helpers look for them. */
static void start(unsigned q)
{
	virtio_run();
	assert_true(negotiate(FEATURE));
	queue_set_up(q, RING_GPA, QUEUE_LEN, VIRTIO_NO_VECTOR);
	driver_ok();
}

static void kick(unsigned q)
{
	ring_bell(&balloon->virtio, q);
	serve_loop();
}

static void report(uint64_t gpa, uint32_t len, uint16_t flags)
{
	desc_put(0, gpa, len, flags, 0);
	offer(0);
	kick(REPORTING);
}

static bool all(uint64_t gpa, uint64_t len, uint8_t value)
{
	const uint8_t *p = mem(gpa);
	for (uint64_t i = 0; i < len; i++)
		if (p[i] != value)
			return false;
	return true;
}

/* In pages, as the host has them. */
static uint64_t there(void)
{
	struct stat st;
	assert_int_equal(fstat(m->ram.fd, &st), 0);
	return (uint64_t)st.st_blocks * 512 / PAGE_LEN;
}

static void reported_memory_is_taken_back(void **state)
{
	start(REPORTING);
	uint64_t before = there();
	desc_put(0, DATA_GPA, PAGE_LEN, VRING_DESC_F_WRITE | VRING_DESC_F_NEXT, 1);
	desc_put(1, HIGH_GPA + PAGE_LEN, 3 * PAGE_LEN, VRING_DESC_F_WRITE, 0);
	offer(0);
	kick(REPORTING);
	assert_int_equal(used_ring()->idx, 1);
	assert_int_equal(used_ring()->ring[0].len, 0);
	assert_int_equal(there(), before - 4);
	assert_int_equal(m->counters.state.reported, 4 * PAGE_LEN);
	assert_true(all(DATA_GPA, PAGE_LEN, 0));
	assert_true(all(DATA_GPA - PAGE_LEN, PAGE_LEN, PATTERN));
	assert_true(all(DATA_GPA + PAGE_LEN, PAGE_LEN, PATTERN));
	assert_true(all(HIGH_GPA, PAGE_LEN, PATTERN));
	assert_true(all(HIGH_GPA + PAGE_LEN, 3 * PAGE_LEN, 0));
	assert_true(all(HIGH_GPA + 4 * PAGE_LEN, PAGE_LEN, PATTERN));
	assert_int_equal(balloon->virtio.in_flight, 0);
}

static void of_whole_pages_only(void **state)
{
	start(REPORTING);
	report(DATA_GPA + 1, 2 * PAGE_LEN, VRING_DESC_F_WRITE);
	assert_true(all(DATA_GPA, PAGE_LEN, PATTERN));
	assert_true(all(DATA_GPA + PAGE_LEN, PAGE_LEN, 0));
	assert_true(all(DATA_GPA + 2 * PAGE_LEN, PAGE_LEN, PATTERN));
	report(DATA_GPA + 4 * PAGE_LEN + 1, PAGE_LEN, VRING_DESC_F_WRITE);
	report(DATA_GPA + 4 * PAGE_LEN + 8, 16, VRING_DESC_F_WRITE);
	assert_true(all(DATA_GPA + 4 * PAGE_LEN, 2 * PAGE_LEN, PATTERN));
	assert_int_equal(used_ring()->idx, 3);
}

/* What the device may only read is not its to change. */
static void of_buffers_to_be_written_only(void **state)
{
	start(REPORTING);
	desc_put(0, DATA_GPA, PAGE_LEN, VRING_DESC_F_NEXT, 1);
	desc_put(1, DATA_GPA + PAGE_LEN, PAGE_LEN, VRING_DESC_F_WRITE, 0);
	offer(0);
	kick(REPORTING);
	assert_int_equal(used_ring()->idx, 1);
	assert_true(all(DATA_GPA, PAGE_LEN, PATTERN));
	assert_true(all(DATA_GPA + PAGE_LEN, PAGE_LEN, 0));
}

/* Pages that the driver puts into the balloon were not asked for, and are given back as they are. */
static void what_is_inflated_stays(void **state)
{
	for (unsigned q = 0; q < REPORTING; q++) {
		start(q);
		desc_put(0, DATA_GPA, PAGE_LEN, q ? VRING_DESC_F_WRITE : 0, 0);
		offer(0);
		kick(q);
		assert_int_equal(used_ring()->idx, 1);
		assert_true(all(DATA_GPA, PAGE_LEN, PATTERN));
		teardown(NULL);
		setup(NULL);
	}
	virtio_run();
}

static void memory_of_others_is_broken(void **state)
{
	start(REPORTING);
	report(HIGH_GPA + HIGH_LEN - PAGE_LEN, 2 * PAGE_LEN, VRING_DESC_F_WRITE);
	assert_true(needs_reset());
	assert_true(all(HIGH_GPA + HIGH_LEN - PAGE_LEN, PAGE_LEN, PATTERN));
}

static void a_turn_is_one_chain(void **state)
{
	start(REPORTING);
	desc_put(0, DATA_GPA, PAGE_LEN, VRING_DESC_F_WRITE, 0);
	for (unsigned i = 0; i < QUEUE_LEN; i++)
		offer(0);
	reg_put(AT_DOORBELLS + 4 * REPORTING, 2, REPORTING);
	assert_int_equal(used_ring()->idx, 1);
	serve_loop();
	assert_int_equal(used_ring()->idx, QUEUE_LEN);
}

/* Of a kind that has no holes. The guest does not wait for ever, and the operator is told. */
static void a_host_that_takes_none(void **state)
{
	start(REPORTING);
	int fd = m->ram.fd;
	m->ram.fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	report(DATA_GPA, PAGE_LEN, VRING_DESC_F_WRITE);
	assert_int_equal(used_ring()->idx, 1);
	assert_non_null(balloon->dev.trouble);
	assert_true(balloon->dev.told);
	assert_int_equal(m->counters.state.reported, 0);
	close(m->ram.fd);
	m->ram.fd = fd;
	report(DATA_GPA, PAGE_LEN, VRING_DESC_F_WRITE);
	assert_true(all(DATA_GPA, PAGE_LEN, PATTERN));
}

static void no_page_is_asked_for(void **state)
{
	virtio_run();
	reg_put(VIRTIO_PCI_COMMON_DFSELECT, 4, 0);
	assert_int_equal(reg_get(VIRTIO_PCI_COMMON_DF, 4) & 0x3f, FEATURE);
	assert_int_equal(reg_get(AT_CONFIG, 4), 0);
	reg_put(AT_CONFIG, 4, 1000);
	reg_put(AT_CONFIG + 4, 4, 1000);
	assert_int_equal(reg_get(AT_CONFIG, 4), 0);
	assert_int_equal(reg_get(VIRTIO_PCI_COMMON_NUMQ, 2), REPORTING + 1);
}

/* The next program has the same file, and goes on behind the last chain. */
static void an_update_between_two_reports(void **state)
{
	struct error err = {0};
	start(REPORTING);
	struct fake_blob offered = fake_save(m);
	report(DATA_GPA, PAGE_LEN, VRING_DESC_F_WRITE);
	memset(mem(DATA_GPA), 0x77, PAGE_LEN); /* the guest uses it again */
	desc_put(0, DATA_GPA + PAGE_LEN, PAGE_LEN, VRING_DESC_F_WRITE, 0);
	offer(0); /* and the doorbell was not rung yet */
	struct machine *old = m;
	struct balloon_state saved = balloon->state;
	struct fake_blob b = fake_save(old);
	balloon_new(false, old->ram.fd, old->ram.hva);
	if (fake_load(m, &offered, &err) || fake_load_again(m, &b, &err) || fake_start(m, &err))
		fail_msg("%s", err.text);
	assert_memory_equal(&balloon->state, &saved, sizeof(saved));
	assert_true(all(DATA_GPA + PAGE_LEN, PAGE_LEN, PATTERN));
	assert_int_equal(balloon_class.serve(&balloon->dev, &err), 0);
	serve_loop();
	assert_int_equal(used_ring()->idx, 2);
	assert_true(all(DATA_GPA, PAGE_LEN, 0x77));
	assert_true(all(DATA_GPA + PAGE_LEN, PAGE_LEN, 0));
	virtio_leave(old);
	free(offered.data);
	free(b.data);
}

static const struct device_class passed_through = {.name = "vfio", .size = sizeof(struct device)};

static void refused(const char *word)
{
	struct error err = {0};
	assert_int_equal(fake_realize(m, &err), -EOPNOTSUPP);
	assert_int_equal(err.exit, EXIT_CONFIG);
	assert_non_null(strstr(err.text, "--balloon"));
	assert_non_null(strstr(err.text, word));
	assert_true(err.hint[0]);
}

static void not_beside_a_device_that_pins(void **state)
{
	struct error err;
	assert_int_equal(machine_add_device(m, &passed_through, NULL, &err), 0);
	refused("pinned");
}

/* The state of a guest with both, which no molt has saved. */
static void nor_in_a_successor(void **state)
{
	m->fresh = false;
	not_beside_a_device_that_pins(state);
	m->fresh = true;
}

static void not_of_huge_pages(void **state)
{
	m->ram.state.page_len = 2 * MIB;
	refused("huge pages");
	m->ram.state.page_len = PAGE_LEN;
}

static void not_of_a_device(void **state)
{
	int fd = m->ram.fd;
	m->ram.fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	refused("on a device");
	close(m->ram.fd);
	m->ram.fd = fd;
}

static void one_is_enough(void **state)
{
	struct error err;
	assert_int_equal(machine_add_device(m, &balloon_class, NULL, &err), -EEXIST);
	assert_int_equal(err.exit, EXIT_USAGE);
	virtio_run();
	assert_int_equal(unit_uncovered(balloon_class.state), balloon_class.state->size);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {TEST(reported_memory_is_taken_back),
					   TEST(of_whole_pages_only),
					   TEST(of_buffers_to_be_written_only),
					   TEST(what_is_inflated_stays),
					   TEST(memory_of_others_is_broken),
					   TEST(a_turn_is_one_chain),
					   TEST(a_host_that_takes_none),
					   TEST(no_page_is_asked_for),
					   TEST(an_update_between_two_reports),
					   TEST(not_beside_a_device_that_pins),
					   TEST(nor_in_a_successor),
					   TEST(not_of_huge_pages),
					   TEST(not_of_a_device),
					   TEST(one_is_enough)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
