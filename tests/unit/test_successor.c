/* SPDX-License-Identifier: MIT */
/*
 * The worker that is to have the guest, against an incumbent that may be anything: what is offered, and the
 * descriptors. Until all is right it has taken nothing, says why not, and the word in the page stays as it is.
 */
#include "tests/unit/successor.h"

static void greets_first(void **state)
{
	unsigned oldest, newest;
	shutdown(inc.peer, SHUT_WR);
	assert_int_equal(run(), -EPIPE);
	hear(PROTOCOL_HELLO);
	assert_int_equal(sscanf(heard.text, "molt-handover %u %u\n", &oldest, &newest), 2);
	assert_int_equal(oldest, PROTOCOL_OLDEST);
	assert_int_equal(newest, PROTOCOL_NEWEST);
	assert_non_null(strstr(heard.text, build_version()));
	assert_int_equal(heard.nfds, 0);
}

static void takes_over(void **state)
{
	keep_some(WIRE_FDS + 20);
	write_offer();
	blob_close(&inc.state);
	keep_some(20); /* between offer and pause */
	assert_int_equal(blob_create(&inc.state, &inc.tree, &inc.fds, &err), 0);
	say_all_but_state();
	inc.p.updates++;
	say_state();
	assert_int_equal(run(), 0);
	hear(PROTOCOL_HELLO);
	for (unsigned got = 0; got < inc.fds.n; got += heard.value) {
		hear(PROTOCOL_GOT);
		assert_in_range(heard.value, 1, WIRE_FDS);
	}
	hear(PROTOCOL_READY);
	assert_in_range(heard.value, 1, 10000000000);
	hear(PROTOCOL_DONE);
	assert_int_equal(wire_recv(inc.peer, &heard, 0, &err), -EPIPE);
	assert_int_equal(handover_owner(inc.page), HANDOVER_COMMITTED);
	assert_int_equal(hand.builds, 1);
	assert_int_equal(hand.loads, 2); /* the rehearsal, and the one that counts */
	assert_int_equal(hand.takes, 1);
	assert_int_equal(hand.owners, 1);
	assert_int_equal(hand.dones, 1);
	assert_int_equal(p.updates, 42);
	assert_string_equal(m.opt.kernel, "k");
}

/* What the options' paths are relative to, whoever starts the successor. */
/* What is short while there are two workers comes back: then clients find their socket again. */
static void what_is_short_is_tried_again(void **state)
{
	hand.serve_failures = 2;
	hand.control_failures = 3;
	assert_int_equal(fdset_keep(&inc.fds, "control", fds_new(), &err), 0);
	write_offer();
	say_all_but_state();
	say_state();
	assert_int_equal(run(), 0);
	assert_int_equal(hand.serves, 1);
	assert_int_equal(hand.opens, 1);
	assert_int_equal(hand.dones, 1);
	assert_true(fdset_get(&m.fds, "control") >= 0);
}

static void goes_to_the_guests_folder(void **state)
{
	char was[PATH_MAX], is[PATH_MAX];
	assert_non_null(getcwd(was, sizeof(was)));
	for (unsigned there = 0; there < 2; there++) {
		snprintf(inc.p.folder, sizeof(inc.p.folder), there ? "/proc" : "/proc/none");
		write_offer();
		say_all_but_state();
		say_state();
		assert_int_equal(run(), 0);
		assert_non_null(getcwd(is, sizeof(is)));
		assert_string_equal(is, there ? "/proc" : was);
		again();
	}
	assert_int_equal(chdir(was), 0);
}

/* Closed, opened anew under the same name, renamed: as the state has it, not as the offer had. */
static void what_came_and_went_meanwhile(void **state)
{
	say_all_but_state();
	fdset_close(&inc.fds, "irq:1");
	assert_int_equal(fdset_keep(&inc.fds, "irq:1", eventfd(0, EFD_CLOEXEC), &err), 0);
	fdset_close(&inc.fds, "irq:2");
	fdset_rename(&inc.fds, "irq:0", "renamed");
	say_fds(0);
	say_state();
	assert_int_equal(run(), 0);
	assert_int_equal(hand.takes, 1);
	assert_int_equal(m.fds.n, inc.fds.n);
	for (unsigned i = 0; i < inc.fds.n; i++)
		assert_true(fdset_get(&m.fds, inc.fds.e[i].name) >= 0);
}

/* ---- OFFER ---- */

static int plain_memfd(size_t len, int seals)
{
	int fd = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	assert_int_equal(ftruncate(fd, (off_t)len), 0);
	if (seals)
		assert_int_equal(fcntl(fd, F_ADD_SEALS, seals), 0);
	return fd;
}

static int event(void)
{
	return eventfd(0, EFD_CLOEXEC);
}

enum { OFFERED, STATE, PAGE };

static void offers_of_other_things(void **state)
{
	static const struct {
		unsigned which;
		int seals;
		size_t len;
		const char *text;
	} cases[] = {
		{OFFERED, 0, PAGE_LEN, "no sealed memfd"},
		{OFFERED, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL, PAGE_LEN, "no sealed memfd"},
		{OFFERED, BLOB_SEALS, 0, "is empty"},
		{OFFERED, BLOB_SEALS, 10, "10 bytes are no blob"},
		{OFFERED, BLOB_SEALS, PAGE_LEN, "no flattened device tree"},
		{STATE, F_SEAL_SHRINK, 0, "is empty"},
		{STATE, 0, PAGE_LEN, "no sealed memfd"}, /* it could shrink under us */
		{PAGE, 0, PAGE_LEN, "is not it"},
		{PAGE, F_SEAL_SHRINK, 0, "is not it"},
		{PAGE, F_SEAL_SHRINK, PAGE_LEN - 1, "is not it"},
		{PAGE, F_SEAL_SHRINK, 2 * PAGE_LEN, "is not it"},
		{PAGE, F_SEAL_SHRINK | F_SEAL_WRITE, PAGE_LEN, "handover page: "},
	};
	for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
		int fds[] = {inc.offer.fd, inc.state.fd, inc.page_fd};
		int other = plain_memfd(cases[i].len, cases[i].seals);
		fds[cases[i].which] = other;
		say_to(PROTOCOL_OFFER, 1, NULL, 0, fds, 3);
		close(other);
		say_fds(0);
		say_build();
		assert_no(run(), cases[i].text);
		assert_int_equal(hand.builds, 0);
		again();
	}
	for (unsigned which = OFFERED; which <= PAGE; which++) { /* no memfd at all */
		int fds[] = {inc.offer.fd, inc.state.fd, inc.page_fd}, other = event();
		fds[which] = other;
		say_to(PROTOCOL_OFFER, 1, NULL, 0, fds, 3);
		close(other);
		assert_no(run(), "descriptor");
		again();
	}
}

static void offers_of_too_little(void **state)
{
	const int64_t values[] = {0, 2, -1, INT64_MIN, INT64_MAX};
	for (unsigned n = 0; n < 3; n++) {
		const int fds[] = {inc.offer.fd, inc.state.fd, inc.page_fd};
		say_to(PROTOCOL_OFFER, 1, NULL, 0, fds, n);
		assert_no(run(), "an offer that makes no sense");
		again();
	}
	for (unsigned i = 0; i < ARRAY_LEN(values); i++) {
		const int fds[] = {inc.offer.fd, inc.state.fd, inc.page_fd};
		say_to(PROTOCOL_OFFER, values[i], NULL, 0, fds, 3);
		assert_no(run(), "makes no sense (protocol ");
		again();
	}
}

/* A newer one may have more to say: what is not known is closed. */
static void offers_of_more(void **state)
{
	int more = event();
	const int fds[] = {inc.offer.fd, inc.state.fd, inc.page_fd, more, more};
	say_to(PROTOCOL_OFFER, 1, "text", 4, fds, 5);
	say_fds(0);
	say_to(PROTOCOL_BUILD, 0, "text", 4, &more, 1);
	assert_int_equal(blob_write(&inc.state, &inc.tree, &inc.fds, &err), 0);
	say_to(PROTOCOL_STATE, (int64_t)inc.state.len, "text", 4, &more, 1);
	close(more);
	assert_int_equal(run(), 0);
}

/* ---- FDS ---- */

static void names_that_are_none(void **state)
{
	struct protocol_fd list[3] = {{.name = "a"}, {.name = ""}, {.name = "c"}};
	const int fds[] = {inc.fds.e[0].fd, inc.fds.e[1].fd, inc.fds.e[2].fd};
	say_offer();
	say_to(PROTOCOL_FDS, 0, list, sizeof(list), fds, 3);
	assert_no(run(), "a descriptor without a name");
	again();
	memset(list[0].name, 'x', sizeof(list[0].name)); /* without an end */
	say_offer();
	say_to(PROTOCOL_FDS, 0, list, sizeof(list[0]), fds, 1);
	assert_no(run(), "name has no end");
}

static void names_and_descriptors_of_other_numbers(void **state)
{
	static const struct {
		unsigned nfds;
		size_t len;
	} cases[] = {
		{0, 0},
		{0, sizeof(struct protocol_fd)},
		{1, 0},
		{1, sizeof(struct protocol_fd) - 1},
		{1, sizeof(struct protocol_fd) + 1},
		{2, sizeof(struct protocol_fd)},
		{1, 2 * sizeof(struct protocol_fd)},
		{WIRE_FDS, (WIRE_FDS - 1) * sizeof(struct protocol_fd)},
		{1, WIRE_TEXT_MAX},
	};
	static union {
		struct protocol_fd list[WIRE_FDS];
		char room[WIRE_TEXT_MAX];
	} text = {.list = {{.name = "a"}, {.name = "b"}}};
	for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
		int fds[WIRE_FDS];
		for (unsigned k = 0; k < WIRE_FDS; k++)
			fds[k] = inc.fds.e[0].fd;
		say_offer();
		say_to(PROTOCOL_FDS, 0, &text, cases[i].len, fds, cases[i].nfds);
		assert_no(run(), "bytes of names");
		again();
	}
}

/* The second one counts, and the first is closed: as where it was opened anew. */
static void a_name_twice(void **state)
{
	struct protocol_fd list[2] = {{.name = "irq:0", .generation = 77}, {.name = "irq:0"}};
	const int fds[] = {inc.fds.e[3].fd, inc.fds.e[0].fd};
	list[1].generation = inc.fds.e[0].generation;
	say_offer();
	say_fds(1);
	say_to(PROTOCOL_FDS, 0, list, sizeof(list), fds, 2);
	say_build();
	say_state();
	assert_int_equal(run(), 0);
	assert_int_equal(m.fds.n, inc.fds.n);
}

/* Descriptors come and go between offer and pause: what counts is what the state lists. */
static void not_those_that_are_listed(void **state)
{
	struct protocol_fd one = {.name = "irq:0", .generation = 77};
	say_offer();
	say_build();
	say_state();
	assert_no(run(), "was not sent");
	again();
	say_offer();
	say_fds(1);
	say_build();
	say_state();
	assert_no(run(), "descriptor irq:0 was not sent");
	again();
	say_all_but_state();
	say_to(PROTOCOL_FDS, 0, &one, sizeof(one), &inc.fds.e[0].fd, 1);
	say_state();
	assert_no(run(), "descriptor irq:0 is another than the state's");
	again();
	say_all_but_state();
	one.generation = inc.fds.e[0].generation; /* the right one, of another file */
	say_to(PROTOCOL_FDS, 0, &one, sizeof(one), &inc.fds.e[3].fd, 1);
	say_state();
	assert_no(run(), "descriptor irq:0 is another than the state's");
	assert_int_equal(hand.loads, 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(greets_first),
		TEST(takes_over),
		TEST(what_is_short_is_tried_again),
		TEST(goes_to_the_guests_folder),
		TEST(what_came_and_went_meanwhile),
		TEST(offers_of_other_things),
		TEST(offers_of_too_little),
		TEST(offers_of_more),
		TEST(names_that_are_none),
		TEST(names_and_descriptors_of_other_numbers),
		TEST(a_name_twice),
		TEST(not_those_that_are_listed),
	};
	return cmocka_run_group_tests_name("successor", tests, NULL, NULL);
}
