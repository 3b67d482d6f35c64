/* SPDX-License-Identifier: MIT */
/*
 * The worker that has the guest, against a successor that may be anything: whatever comes, at whatever stage, the
 * guest runs on, what speaks against the update is told in print, and nothing is left of the successor.
 */
#include "tests/unit/incumbent.h"

static void not_begun(void **state)
{
	const struct incumbent_request req = {0};
	hand.check_error = EACCES;
	assert_int_equal(incumbent_begin(&m, &p, &req, &err), -EACCES);
	assert_int_equal(hand.refusals, 1);
	hand.check_error = 0;
	hand.start_error = ESRCH;
	assert_int_equal(incumbent_begin(&m, &p, &req, &err), -ESRCH);
	assert_int_equal(hand.refusals, 2);
	m.ending = true;
	assert_int_equal(incumbent_begin(&m, &p, &req, &err), -EBUSY);
	assert_int_equal(hand.starts, 0);
	assert_false(incumbent_busy());
	incumbent_step(); /* nothing */
	assert_int_equal(hand.refusals, 3);
}

static void not_started(void **state)
{
	static const char text[] = "exec of the program: Exec format error";
	assert_int_equal(incumbent_begin(&m, &p, &(struct incumbent_request){0}, &err), 0);
	peer = hand.peer;
	answer =
		(struct wire_message){.kind = LINK_STARTED, .value = -ENOEXEC, .len = sizeof(text)};
	memcpy(answer.text, text, sizeof(text));
	incumbent_started(&answer);
	assert_false(incumbent_busy());
	assert_non_null(strstr(hand.text, "/usr/bin/molt cannot be started: exec of the program"));
	incumbent_started(&answer); /* once more: of what? */
	assert_int_equal(hand.refusals, 1);
}

/* Who it is has to be known before it is told anything, or it could not be ended. */
static void greeted_before_it_is_known(void **state)
{
	assert_int_equal(incumbent_begin(&m, &p, &(struct incumbent_request){0}, &err), 0);
	peer = hand.peer;
	say(PROTOCOL_HELLO);
	incumbent_step();
	assert_int_equal(wire_recv(peer, &heard, 0, &err), -ETIMEDOUT);
	usleep((PREPARE_MS + 10) * 1000);
	incumbent_step();
	assert_int_equal(hand.refusals, 1);
	assert_non_null(strstr(hand.text, "its process to be started"));
	assert_int_equal(wire_recv(peer, &heard, 1000, &err), -EPIPE);
}

/* A parent that was stopped answers for an update that is off already, and then for the next. */
static void started_too_late(void **state)
{
	assert_int_equal(incumbent_begin(&m, &p, &(struct incumbent_request){0}, &err), 0);
	close(hand.peer);
	incumbent_cancel("too late");
	assert_int_equal(incumbent_begin(&m, &p, &(struct incumbent_request){0}, &err), 0);
	peer = hand.peer;
	int former = (int)syscall(SYS_pidfd_open, getpid(),
				  0); /* this test, should the wrong one be ended */
	answer = (struct wire_message){
		.kind = LINK_STARTED, .value = getpid(), .nfds = 1, .fds = {former}};
	incumbent_started(&answer);
	fork_successor();
	successor[1] = (int)syscall(SYS_pidfd_open, successor[0], 0);
	answer = (struct wire_message){
		.kind = LINK_STARTED, .value = successor[0], .nfds = 1, .fds = {successor[1]}};
	incumbent_started(&answer);
	wire_close_fds(&answer);
	hand.refusals = 0;
	say_text(PROTOCOL_HELLO, 0, "no", 2);
	step();
	assert_refused("says what no molt says");
}

/* A parent that says which request it answers: what it said of the one before is nothing to this update. */
static void answers_of_an_update_that_is_off(void **state)
{
	static const char text[] = "exec of the program: Exec format error";
	assert_int_equal(incumbent_begin(&m, &p, &(struct incumbent_request){0}, &err), 0);
	int64_t first = hand.request;
	close(hand.peer);
	incumbent_cancel("too late");
	assert_int_equal(incumbent_begin(&m, &p, &(struct incumbent_request){0}, &err), 0);
	peer = hand.peer;
	hand.refusals = 0;
	assert_int_not_equal(hand.request, first);
	answer =
		(struct wire_message){.kind = LINK_STARTED, .value = -ENOEXEC, .len = sizeof(text)};
	memcpy(answer.text, text, sizeof(text));
	incumbent_answers(first);
	incumbent_started(&answer);
	assert_true(incumbent_busy());
	answer = (struct wire_message){.kind = LINK_STARTED,
				       .value = getpid(),
				       .nfds = 1,
				       .fds = {(int)syscall(SYS_pidfd_open, getpid(), 0)}};
	incumbent_answers(first);
	incumbent_started(&answer);
	wire_close_fds(&answer);
	assert_int_equal(incumbent_socket(), -1); /* still nobody to be heard */
	answer = (struct wire_message){.kind = LINK_STARTED, .value = -ENOENT};
	incumbent_answers(hand.request);
	incumbent_started(&answer);
	assert_false(incumbent_busy());
	assert_int_equal(hand.refusals, 1);
}

static void no_molt(void **state)
{
	static char noise[WIRE_TEXT_MAX];
	static const char *const texts[] = {
		"",
		"GET / HTTP/1.1\r\n\r\n",
		"molt-handover",
		"molt-handover ",
		"molt-handover 1",
		"molt-handover one two\n",
		"Molt-handover 1 1\n",
		"\033[2Jmolt-handover 1 1\n",
		noise,
	};
	memset(noise, '1', sizeof(noise) - 1);
	begun();
	for (unsigned i = 0; i < ARRAY_LEN(texts); i++) {
		int fd = fds_new();
		assert_int_equal(wire_send(peer, PROTOCOL_HELLO, 0, texts[i], strlen(texts[i]), &fd,
					   1, &err),
				 0);
		close(fd);
		step();
		assert_refused("says what no molt says");
		again();
	}
}

/* No descriptor leaves before. */
static void another_protocol(void **state)
{
	static const char *const windows[] = {"2 9", "0 0", "4294967295 4294967295", "-1 -1",
					      "1 0"};
	char text[64];
	begun();
	for (unsigned i = 0; i < ARRAY_LEN(windows); i++) {
		snprintf(text, sizeof(text), "molt-handover %s\n", windows[i]);
		say_text(PROTOCOL_HELLO, 0, text, strlen(text));
		step();
		assert_refused("this molt 1 to 1");
		assert_non_null(strstr(hand.text, "speaks the hand-over protocol"));
		assert_int_equal(heard.nfds, 0);
		again();
	}
}

/* The newest that both know. */
static void protocols_that_overlap(void **state)
{
	static const char *const windows[] = {"1 1", "0 1", "1 9", "0 4294967295"};
	char text[64];
	begun();
	for (unsigned i = 0; i < ARRAY_LEN(windows); i++) {
		snprintf(text, sizeof(text), "molt-handover %s\n", windows[i]);
		say_text(PROTOCOL_HELLO, 0, text, strlen(text));
		step();
		hear(PROTOCOL_OFFER);
		assert_int_equal(heard.value, 1);
		wire_close_fds(&heard);
		again();
	}
}

/* All kinds of messages at each stage: but for the one that is due, and a refusal, each ends the update. */
static void out_of_order(void **state)
{
	static const struct {
		enum stage stage;
		uint32_t due, also;
	} stages[] = {
		{STAGE_HELLO, PROTOCOL_HELLO, PROTOCOL_NO},
		{STAGE_FDS, PROTOCOL_GOT, PROTOCOL_NO},
		{STAGE_BUILD, PROTOCOL_READY, PROTOCOL_PROGRESS},
	};
	begun();
	for (unsigned i = 0; i < ARRAY_LEN(stages); i++)
		for (uint32_t kind = 0; kind < KINDS; kind++) {
			if (kind == stages[i].due || kind == stages[i].also || kind == PROTOCOL_NO)
				continue;
			to_stage(stages[i].stage);
			say(kind);
			step();
			assert_refused("says what makes no sense now");
			assert_int_equal(hand.pauses, 0);
			again();
		}
	to_stage(STAGE_BUILD);
	say(UINT32_MAX);
	step();
	assert_refused("message 4294967295");
}

static void silent(void **state)
{
	static const char *const waiting[] = {[STAGE_HELLO] = "to say that it is a molt",
					      [STAGE_FDS] = "to take the descriptors",
					      [STAGE_BUILD] = "to build the machine"};
	begun();
	for (enum stage stage = STAGE_HELLO; stage <= STAGE_BUILD; stage++) {
		to_stage(stage);
		step();
		assert_true(incumbent_busy());
		usleep((PREPARE_MS + 10) * 1000);
		step();
		assert_refused("did not answer in time (150 ms)");
		assert_non_null(strstr(hand.text, waiting[stage]));
		assert_non_null(strstr(hand.hint, "--prepare-timeout"));
		again();
	}
}

static void hung_up(void **state)
{
	begun();
	for (enum stage stage = STAGE_HELLO; stage <= STAGE_BUILD; stage++) {
		to_stage(stage);
		close(peer);
		peer = -1;
		step();
		assert_refused("ended, or said what is no message");
		assert_int_equal(hand.pauses, 0);
		again();
	}
}

static void garbage(void **state)
{
	begun();
	for (enum stage stage = STAGE_HELLO; stage <= STAGE_BUILD; stage++) {
		to_stage(stage);
		assert_int_equal(send(peer, "garbage", 7, 0), 7);
		step();
		assert_refused("what is no message");
		assert_non_null(strstr(hand.hint, "--version"));
		again();
	}
}

static void called_off(void **state)
{
	begun();
	for (enum stage stage = STAGE_HELLO; stage <= STAGE_BUILD; stage++) {
		to_stage(stage);
		incumbent_cancel("the guest was asked to power off: /usr/bin/molt");
		assert_refused("asked to power off");
		incumbent_cancel("again");
		assert_int_equal(hand.refusals, 1);
		again();
	}
}

static void reasons_without_end(void **state)
{
	static char text[WIRE_TEXT_MAX];
	size_t len = 0;
	begun();
	to_stage(STAGE_BUILD);
	for (unsigned i = 0; i < 900; i++)
		len += (size_t)snprintf(text + len, sizeof(text) - len, "reason %u\n", i);
	say_text(PROTOCOL_NO, 0, text, len);
	step();
	assert_refused("cannot take over: reason 0 (and 15 more)");
	assert_int_equal(hand.reasons.n, REASONS_MAX);
	assert_string_equal(hand.reasons.text[REASONS_MAX - 1], "and 885 more");
}

static void reasons_that_are_none(void **state)
{
	static char text[WIRE_TEXT_MAX];
	static const struct {
		const char *text;
		size_t len;
	} none[] = {{"", 0}, {"\0molt", 5}};
	begun();
	for (unsigned i = 0; i < ARRAY_LEN(none); i++) {
		say_text(PROTOCOL_NO, 0, none[i].text, none[i].len);
		step();
		assert_refused("it gives no reason");
		again();
	}
	/* Every byte there is, in one line and in hundreds of them. */
	for (unsigned lines = 0; lines < 2; lines++) {
		for (size_t i = 0; i < sizeof(text); i++)
			text[i] = (char)(i % 255 + 1 == '\n' && !lines ? 'x' : i % 255 + 1);
		say_text(PROTOCOL_NO, -1, text, sizeof(text));
		step();
		assert_refused("cannot take over: ????");
		assert_in_range(hand.reasons.n, 1, REASONS_MAX);
		again();
	}
	say_text(PROTOCOL_NO, 0, "\n\n\n", 3);
	step();
	assert_refused("cannot take over: ");
}

/* Only what goes forward counts. */
static void progress_without_end(void **state)
{
	uint64_t start = now_ns();
	char text[600];
	begun();
	to_stage(STAGE_BUILD);
	for (unsigned i = 0; incumbent_busy(); i++) {
		if (now_ns() - start > 5 * PREPARE_MS * NS_PER_MS)
			fail_msg("it goes on for ever");
		say_text(PROTOCOL_PROGRESS, i % 2 ? 7 : INT64_MAX - i, "\033[2Jbuilding\n", 13);
		step();
		assert_printable(incumbent_text(text, sizeof(text)));
	}
	assert_refused("did not answer in time");
	assert_int_equal(hand.progresses, 1);
	assert_printable(hand.progress);
	again();
	to_stage(STAGE_BUILD);
	for (int64_t i = -5; i < 200; i++) {
		memset(text, 'a', sizeof(text));
		say_text(PROTOCOL_PROGRESS, i, text, sizeof(text));
		step();
	}
	assert_true(incumbent_busy());
	assert_int_equal(hand.progresses, 100);
	incumbent_text(text, sizeof(text));
	assert_non_null(strstr(text, "waiting for it to build the machine: aaa"));
}

static void only_a_check(void **state)
{
	begin_with(&(struct incumbent_request){.check = true});
	to_stage(STAGE_BUILD);
	say(PROTOCOL_READY);
	step();
	assert_int_equal(hand.checks, 1);
	assert_string_equal(hand.text, "");
	assert_int_equal(hand.pauses + hand.refusals + hand.started, 0);
	assert_false(incumbent_busy());
	hand.checks = 0;
	peer = -1;
	close(hand.peer);
	waitpid(successor[0], NULL, 0);
	begin_with(&(struct incumbent_request){.check = true});
	say_text(PROTOCOL_NO, 0, "a\nb", 3);
	step();
	assert_int_equal(hand.checks, 1);
	assert_int_equal(hand.refusals, 0);
	assert_int_equal(hand.reasons.n, 2);
	assert_non_null(strstr(hand.text, "cannot take over: a (and 1 more)"));
}

/* What is in flight in devices is waited for while the guest runs. */
static void devices_finish_first(void **state)
{
	begun();
	to_stage(STAGE_BUILD);
	hand.in_flight = 2;
	say(PROTOCOL_READY);
	step();
	step();
	assert_int_equal(self.stage, STAGE_QUIESCE);
	assert_true(hand.quiet);
	assert_int_equal(hand.pauses, 0);
	hand.in_flight = 0;
	hand.detach_error = EIO; /* the pause has begun */
	step();
	assert_string_equal(hand.text, "fake detach");
	assert_false(hand.quiet);
}

static void devices_that_do_not_finish(void **state)
{
	begun();
	to_stage(STAGE_BUILD);
	hand.in_flight = 2;
	say(PROTOCOL_READY);
	step();
	usleep((PREPARE_MS + 10) * 1000);
	step();
	assert_refused("disk a.raw: 2 in flight");
	assert_non_null(strstr(hand.text, "150 ms"));
	assert_int_equal(hand.pauses, 0);
	assert_false(hand.quiet);
}

/* Whatever ends the update meanwhile, the devices go on. */
static void called_off_while_devices_finish(void **state)
{
	begun();
	for (unsigned how = 0; how < 4; how++) {
		to_stage(STAGE_BUILD);
		hand.in_flight = 1;
		say(PROTOCOL_READY);
		step();
		assert_true(hand.quiet);
		if (how == 0)
			incumbent_cancel("the guest was asked to power off: /usr/bin/molt");
		else if (how == 1)
			say_text(PROTOCOL_NO, 0, "no more", 7);
		else if (how == 2)
			say(PROTOCOL_READY);
		else
			fd_close(&peer);
		step();
		assert_refused("");
		assert_false(hand.quiet);
		assert_int_equal(hand.pauses, 0);
		again();
	}
}

/* More than one message holds: each is acknowledged before the next, and all have names and generations. */
static void many_descriptors(void **state)
{
	const struct protocol_fd *list = (const struct protocol_fd *)heard.text;
	unsigned batches = 0, n = 0;
	keep_some(WIRE_FDS + 47);
	begun();
	handover_unmap(to_offer());
	for (; n < m.fds.n; batches++) {
		hear(PROTOCOL_FDS);
		assert_int_equal(heard.nfds, n ? 50 : WIRE_FDS);
		assert_int_equal(heard.len, heard.nfds * sizeof(*list));
		for (unsigned i = 0; i < heard.nfds; i++, n++) {
			assert_string_equal(list[i].name, m.fds.e[n].name);
			assert_int_equal(list[i].generation, m.fds.e[n].generation);
		}
		wire_close_fds(&heard);
		step(); /* nothing more without the answer */
		assert_int_equal(wire_recv(peer, &heard, 0, &err), -ETIMEDOUT);
		say(PROTOCOL_GOT);
		step();
	}
	assert_int_equal(batches, 2);
	hear(PROTOCOL_BUILD);
}

/* Its greetings are read after its end, too: each wants an offer, which nobody gets. */
static void greeted_twice_by_the_dead(void **state)
{
	begun();
	say(PROTOCOL_HELLO);
	say(PROTOCOL_HELLO);
	fd_close(&peer);
	for (unsigned i = 0; i < 3; i++)
		assert_false(step());
	assert_refused("ended, or said what is no message");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(not_begun),
		TEST(not_started),
		TEST(greeted_before_it_is_known),
		TEST(started_too_late),
		TEST(answers_of_an_update_that_is_off),
		TEST(no_molt),
		TEST(another_protocol),
		TEST(protocols_that_overlap),
		TEST(out_of_order),
		TEST(silent),
		TEST(hung_up),
		TEST(garbage),
		TEST(called_off),
		TEST(reasons_without_end),
		TEST(reasons_that_are_none),
		TEST(progress_without_end),
		TEST(only_a_check),
		TEST(devices_finish_first),
		TEST(devices_that_do_not_finish),
		TEST(called_off_while_devices_finish),
		TEST(many_descriptors),
		TEST(greeted_twice_by_the_dead),
	};
	return cmocka_run_group_tests_name("incumbent", tests, NULL, NULL);
}
