/* SPDX-License-Identifier: MIT */
/* The same (test_successor.c): the order of what is said, the state of the pause, and the word. */
#include "tests/unit/successor.h"

/* ---- order ---- */

static void out_of_order(void **state)
{
	const uint32_t due[] = {PROTOCOL_OFFER, PROTOCOL_BUILD, PROTOCOL_STATE};
	char text[64];
	for (unsigned stage = 0; stage < ARRAY_LEN(due); stage++)
		for (uint32_t kind = 0; kind < 13; kind++) {
			if (kind == due[stage] || kind == PROTOCOL_FDS)
				continue;
			if (stage > 0)
				say_offer();
			if (stage > 1) {
				say_fds(0);
				say_build();
			}
			say_to(kind, 1, NULL, 0, &inc.page_fd, 1);
			snprintf(text, sizeof(text), "message %u where %u was due", kind,
				 due[stage]);
			assert_no(run(), text);
			assert_int_equal(hand.loads, stage > 1);
			again();
		}
}

static void gone(void **state)
{
	for (unsigned stage = 0; stage < 4; stage++) {
		if (stage > 0)
			say_offer();
		if (stage > 1)
			say_fds(0);
		if (stage > 2)
			say_build();
		shutdown(inc.peer, SHUT_WR);
		assert_int_equal(run(), -EPIPE);
		assert_int_equal(handover_owner(inc.page), HANDOVER_OPEN);
		assert_int_equal(hand.takes, 0);
		again();
	}
	/* But once the state is whole the guest has nobody else. */
	say_all_but_state();
	say_state();
	shutdown(inc.peer, SHUT_WR);
	assert_int_equal(run(), 0);
	assert_int_equal(hand.takes, 1);
}

static void garbage(void **state)
{
	for (unsigned stage = 0; stage < 3; stage++) {
		if (stage > 0)
			say_offer();
		if (stage > 1) {
			say_fds(0);
			say_build();
		}
		assert_int_equal(send(inc.peer, "garbage", 7, 0), 7);
		assert_no(run(), "7 bytes that are no message");
		again();
	}
}

/* ---- STATE ---- */

static void states_of_other_lengths(void **state)
{
	const int64_t lens[] = {0, -1, INT64_MIN, INT64_MAX, 1, 16};
	for (unsigned i = 0; i < ARRAY_LEN(lens); i++) {
		say_all_but_state();
		assert_int_equal(blob_write(&inc.state, &inc.tree, &inc.fds, &err), 0);
		say_to(PROTOCOL_STATE, lens[i], NULL, 0, NULL, 0);
		assert_no(run(), "state blob: ");
		again();
	}
	say_all_but_state();
	assert_int_equal(blob_write(&inc.state, &inc.tree, &inc.fds, &err), 0);
	say_to(PROTOCOL_STATE, (int64_t)inc.state.len - 1, NULL, 0, NULL, 0);
	assert_no(run(), "truncated");
	again();
	say_all_but_state();
	assert_int_equal(blob_write(&inc.state, &inc.tree, &inc.fds, &err), 0);
	say_to(PROTOCOL_STATE, (int64_t)inc.state.size + 1, NULL, 0, NULL, 0);
	assert_no(run(), "bytes of ");
}

static void a_state_that_may_change(void **state)
{
	say_all_but_state();
	assert_int_equal(pwrite(inc.state.fd, "x", 1, 0), 1);
	say_to(PROTOCOL_STATE, 4096, NULL, 0, NULL, 0);
	assert_no(run(), "is not sealed");
}

static void a_state_that_is_none(void **state)
{
	say_all_but_state();
	assert_int_equal(fcntl(inc.state.fd, F_ADD_SEALS, BLOB_SEALS), 0);
	say_to(PROTOCOL_STATE, (int64_t)inc.state.size, NULL, 0, NULL, 0);
	assert_no(run(), "no flattened device tree");
	again();
	say_all_but_state();
	set_args("molt\0run", 8); /* not terminated, and a checksum that is right */
	say_state();
	assert_int_equal(run(), 0); /* the options of a machine that is built do not change */
}

static void descriptors_of_another_state(void **state)
{
	say_all_but_state();
	fdset_close(&inc.fds, "irq:1");
	assert_int_equal(fdset_keep(&inc.fds, "irq:1", eventfd(0, EFD_CLOEXEC), &err), 0);
	say_state();
	assert_no(run(), "descriptor irq:1 is another than the state's");
	again();
	say_all_but_state();
	keep_some(1);
	say_state();
	assert_no(run(), "descriptor irq:4 was not sent");
}

static void hostile_arguments(void **state)
{
	static const struct {
		const char *args;
		size_t len;
		const char *text;
	} cases[] = {
		{"molt\0run", 8, "not terminated"},
		{"", 0, "not terminated"},
		{"molt", 5, "1 arguments"},
		{"molt\0run", 9, "kernel"},
		{"molt\0run\0--nonsense", 20, "nonsense"},
	};
	for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
		set_args(cases[i].args, cases[i].len);
		write_offer();
		say_all_but_state();
		assert_no(run(), cases[i].text);
		assert_int_equal(hand.builds, 0);
		again();
	}
}

/* ---- the word ---- */

static void taken_back(void **state)
{
	say_all_but_state();
	say_state();
	assert_true(handover_decide(inc.page, HANDOVER_TAKEN));
	assert_int_equal(run(), -ETIMEDOUT);
	assert_int_equal(hand.loads, 2);
	assert_int_equal(hand.takes + hand.owners + hand.dones, 0);
	assert_int_equal(handover_owner(inc.page), HANDOVER_TAKEN);
}

static void fails_here(void **state)
{
	say_all_but_state();
	hand.build_error = ENOMEM;
	assert_no(run(), "fake build");
	again();
	say_all_but_state();
	say_state();
	hand.load_error = EINVAL;
	assert_no(run(), "fake load");
	/* Before the pause: no state was sent. */
	again();
	say_all_but_state();
	hand.spawn_error = EAGAIN;
	assert_no(run(), "fake spawn");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(out_of_order),
		TEST(gone),
		TEST(garbage),
		TEST(states_of_other_lengths),
		TEST(a_state_that_may_change),
		TEST(a_state_that_is_none),
		TEST(descriptors_of_another_state),
		TEST(hostile_arguments),
		TEST(taken_back),
		TEST(fails_here),
	};
	return cmocka_run_group_tests_name("successor-state", tests, NULL, NULL);
}
