/* SPDX-License-Identifier: MIT */
/*
 * The pause as the incumbent sees it. The successor is a thread that gets STATE and then does what it likes: the guest
 * is either its, by the word in the page, or runs on here within the time that it may stand still.
 */
#include "tests/unit/incumbent.h"

#include <pthread.h>

static struct handover *page;
static int state_fd;
static void (*script)(void);
static bool stop;

static void *run_script(void *unused)
{
	static struct wire_message msg;
	const struct protocol_fd *list = (const struct protocol_fd *)msg.text;
	while (!wire_recv(peer, &msg, 3000, NULL)) {
		wire_close_fds(&msg);
		if (msg.kind == PROTOCOL_FDS && strcmp(list->name, "unanswered"))
			wire_send(peer, PROTOCOL_GOT, 0, NULL, 0, NULL, 0, NULL);
		if (msg.kind != PROTOCOL_STATE)
			continue;
		heard.value = msg.value;
		script();
		break;
	}
	return NULL;
}

/* READY, with @value; @what is what the successor does with STATE. True: this process has no guest any more. */
static bool into_the_pause(void (*what)(void), int64_t value)
{
	pthread_t thread;
	say(PROTOCOL_HELLO);
	step();
	hear(PROTOCOL_OFFER);
	page = handover_map(heard.fds[2], &err);
	state_fd = wire_take_fd(&heard, 1);
	wire_close_fds(&heard);
	for (bool all = false; !all;) {
		assert_int_equal(wire_recv(peer, &heard, 1000, &err), 0);
		wire_close_fds(&heard);
		all = heard.kind == PROTOCOL_BUILD;
		if (!all) {
			say(PROTOCOL_GOT);
			step();
		}
	}
	int more = fds_new(); /* which READY has no use for */
	assert_int_equal(wire_send(peer, PROTOCOL_READY, value, NULL, 0, &more, 1, &err), 0);
	close(more);
	script = what;
	__atomic_store_n(&stop, false, __ATOMIC_SEQ_CST);
	pthread_create(&thread, NULL, run_script, NULL);
	bool left = step();
	__atomic_store_n(&stop, true, __ATOMIC_SEQ_CST);
	pthread_join(thread, NULL);
	return left;
}

static void after_the_pause(void)
{
	handover_unmap(page);
	close(state_fd);
}

static void assert_resumed(const char *text, unsigned most_ms)
{
	assert_int_equal(handover_owner(page), HANDOVER_TAKEN);
	assert_false(handover_decide(page, HANDOVER_COMMITTED));
	assert_int_equal(hand.pauses, 1);
	assert_in_range(hand.pause_ns, 1, most_ms * NS_PER_MS);
	assert_refused(text);
	after_the_pause();
}

static void commit_and_say_so(void)
{
	handover_decide(page, HANDOVER_COMMITTED);
	wire_send(peer, PROTOCOL_DONE, 0, NULL, 0, NULL, 0, NULL);
}

static void handed_over(void **state)
{
	static struct state_blob parsed;
	static struct fdset theirs;
	struct blob blob;
	begun();
	assert_true(into_the_pause(commit_and_say_so, 0));
	assert_int_equal(hand.exit_code, LINK_STATUS_HANDED);
	assert_true(hand.paused); /* never again here */
	assert_int_equal(hand.resumes + hand.refusals, 0);
	assert_int_equal(p.updates, 1);
	/* What was sent is a state, sealed, of as many bytes as was said, and lists all descriptors. */
	assert_int_equal(blob_adopt(&blob, state_fd, &err), 0);
	assert_int_equal(state_open(&parsed, blob.map, (size_t)heard.value, &err), 0);
	assert_int_equal(fdset_list(&theirs, &parsed, &err), 0);
	assert_int_equal(theirs.n, m.fds.n);
	pool_free(theirs.e);
	blob_close(&blob);
	handover_unmap(page);
	assert_int_equal(kill(successor[0], 0), 0); /* it lives */
}

/* The program that the state names, which is the next update's. */
static void assert_next_program(const char *path)
{
	static struct state_blob parsed;
	static struct program theirs;
	const struct state_section s = {
		.node = "program", .cls = &program_state_class, .state = &theirs};
	struct blob blob;
	assert_int_equal(blob_adopt(&blob, state_fd, &err), 0);
	assert_int_equal(state_open(&parsed, blob.map, (size_t)heard.value, &err), 0);
	assert_int_equal(state_load_section(&parsed, &s, &err), 0);
	assert_string_equal(theirs.path, path);
	blob_close(&blob);
	handover_unmap(page);
}

static void another_program_stays(void **state)
{
	begin_with(&(struct incumbent_request){.path = "/opt/molt"});
	assert_true(into_the_pause(commit_and_say_so, 0));
	assert_next_program("/opt/molt");
}

static void commit_and_die(void)
{
	handover_decide(page, HANDOVER_COMMITTED);
	shutdown(peer, SHUT_RDWR);
}

/* The guest is the successor's also where that ends right after: an ordinary crash. */
static void handed_over_to_the_dead(void **state)
{
	begun();
	assert_true(into_the_pause(commit_and_die, 0));
	assert_int_equal(hand.exit_code, LINK_STATUS_HANDED);
	assert_int_equal(hand.resumes + hand.refusals, 0);
	after_the_pause();
}

static void do_nothing(void)
{
}

static void silent_in_the_pause(void **state)
{
	begun();
	m.opt.update_timeout_ms = 0; /* as by default */
	assert_false(into_the_pause(do_nothing, 0));
	assert_resumed("did not take over in time (200 ms)", 1000);
}

/* More vCPUs than the usual time is for have more of it. */
static void many_vcpus(void **state)
{
	static const struct {
		uint32_t cpus;
		uint64_t load_ms, deadline_ms;
	} cases[] = {{1, 0, 200}, {40, 0, 200}, {64, 0, 320}, {255, 1, 1275}, {64, 100, 2000}};
	struct update u = {.m = &m};
	m.opt.update_timeout_ms = 0; /* as by default */
	for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
		m.opt.cpus = cases[i].cpus;
		u.load_ns = cases[i].load_ms * NS_PER_MS;
		assert_int_equal(pause_commit_ns(&u), cases[i].deadline_ms * NS_PER_MS);
	}
	m.opt.cpus = 1;
}

/* The successor says how long it needed; but the guest is not its to hold. */
static void absurd_values(void **state)
{
	static const int64_t values[] = {-1, INT64_MIN, 1};
	begun();
	for (unsigned i = 0; i < ARRAY_LEN(values); i++) {
		m.opt.update_timeout_ms = 0; /* as by default */
		assert_false(into_the_pause(do_nothing, values[i]));
		assert_resumed("(200 ms)", 1000);
		again();
	}
	static const int64_t huge[] = {INT64_MAX, INT64_MAX / 20, 1ll << 60, 3600000000000,
				       1000000000};
	for (unsigned i = 0; i < ARRAY_LEN(huge); i++) {
		self.load_ns = 0;
		self.m->opt.update_timeout_ms = 1; /* not to wait for it here */
		assert_false(into_the_pause(do_nothing, huge[i]));
		assert_resumed("did not take over in time", 1000);
		self.m->opt.update_timeout_ms = 0;
		assert_in_range(pause_commit_ns(&self), 200 * NS_PER_MS, 10000 * NS_PER_MS);
		again();
	}
	m.opt.update_timeout_ms = 0;
	assert_false(into_the_pause(do_nothing, 20000000));
	assert_resumed("(400 ms)", 1500);
}

static void die(void)
{
	shutdown(peer, SHUT_RDWR);
}

static void dead_in_the_pause(void **state)
{
	begun();
	assert_false(into_the_pause(die, 0));
	assert_resumed("ended before it had taken over", UPDATE_MS / 2);
}

static void say_garbage(void)
{
	assert_int_equal(send(peer, "\033[2J", 4, 0), 4);
}

static void garbage_in_the_pause(void **state)
{
	begun();
	assert_false(into_the_pause(say_garbage, 0));
	assert_resumed("4 bytes that are no message", UPDATE_MS / 2);
}

static void say_no(void)
{
	wire_send(peer, PROTOCOL_NO, 0, "\033[2Jno\rway\nsecond", 16, NULL, 0, NULL);
}

static void refused_in_the_pause(void **state)
{
	begun();
	assert_false(into_the_pause(say_no, 0));
	assert_resumed("cannot take over: ?[2Jno?way", UPDATE_MS / 2);
}

static void say_done(void)
{
	wire_send(peer, PROTOCOL_DONE, 0, NULL, 0, NULL, 0, NULL);
}

static void a_refused_program_is_not_the_next(void **state)
{
	begin_with(&(struct incumbent_request){.path = "/opt/molt"});
	assert_false(into_the_pause(say_no, 0));
	assert_resumed("/opt/molt cannot take over", UPDATE_MS / 2);
	assert_string_equal(p.path, "/usr/bin/molt");
	again();
	assert_true(into_the_pause(commit_and_say_so, 0));
	assert_next_program("/usr/bin/molt");
}

/* The word decides, whatever is said. */
static void done_without_the_word(void **state)
{
	begun();
	assert_false(into_the_pause(say_done, 0));
	assert_resumed("makes no sense now (message 10)", UPDATE_MS / 2);
}

static void say_got_for_ever(void)
{
	int fd = fds_new();
	while (!__atomic_load_n(&stop, __ATOMIC_SEQ_CST))
		wire_send(peer, PROTOCOL_GOT, 0, NULL, 0, &fd, 1, NULL);
	close(fd);
}

static void acknowledged_for_ever(void **state)
{
	begun();
	m.opt.update_timeout_ms = 0; /* as by default */
	assert_false(into_the_pause(say_got_for_ever, 0));
	assert_resumed("did not take over in time", 1000);
}

static void open_more(struct machine *m_)
{
	keep_some(2 * WIRE_FDS + 10);
}

/* What was opened between offer and pause goes before the state. */
static void opened_meanwhile(void **state)
{
	begun();
	hand.on_pause = open_more;
	assert_true(into_the_pause(commit_and_say_so, 0));
	for (unsigned i = 0; i < m.fds.n; i++)
		assert_true(m.fds.e[i].sent);
	assert_int_equal(hand.exit_code, LINK_STATUS_HANDED);
	after_the_pause();
}

static void open_unanswered(struct machine *m_)
{
	fdset_keep(&m_->fds, "unanswered", eventfd(0, EFD_CLOEXEC), &err);
	keep_some(2 * WIRE_FDS);
}

static void opened_and_never_acknowledged(void **state)
{
	begun();
	m.opt.update_timeout_ms = 0; /* as by default */
	hand.on_pause = open_unanswered;
	assert_false(into_the_pause(do_nothing, 0));
	assert_false(fcntl(state_fd, F_GET_SEALS) & F_SEAL_SEAL); /* no state follows then */
	assert_resumed("did not take over in time", 1000);
}

static void power_off(struct machine *m_)
{
	m_->stop_code = 0;
}

static void fails_here(void **state)
{
	begun();
	hand.detach_error = EIO;
	assert_false(into_the_pause(do_nothing, 0));
	assert_int_equal(handover_owner(page), HANDOVER_TAKEN);
	assert_string_equal(hand.text, "fake detach");
	assert_int_equal(hand.resumes, 0);
	after_the_pause();
	again();
	hand.still_error = EIO;
	assert_false(into_the_pause(do_nothing, 0));
	assert_string_equal(hand.text, "fake still");
	assert_int_equal(hand.resumes, 1);
	after_the_pause();
	again();
	hand.save_error = EIO;
	assert_false(into_the_pause(do_nothing, 0));
	assert_int_equal(handover_owner(page), HANDOVER_TAKEN);
	assert_string_equal(hand.text, "fake save");
	after_the_pause();
	again();
	hand.on_pause = power_off;
	assert_false(into_the_pause(do_nothing, 0));
	assert_string_equal(hand.text, "the guest has ended");
	assert_int_equal(hand.resumes, 1);
	after_the_pause();
}

static struct device failing = {
	.cls = &(const struct device_class){.name = "fake"},
	.name = "vfio 0000:00:05.0",
	.trouble = "is wanted back by the host",
};

static void report_failure(struct machine *m_)
{
	failing.told = true;
	m_->devices[0] = &failing;
	m_->ndevices = 1;
}

/* A successor would take it as told: and a guest that should end for it would not. */
static void a_device_reports_in_the_pause(void **state)
{
	begun();
	hand.on_pause = report_failure;
	assert_false(into_the_pause(commit_and_say_so, 0));
	assert_int_equal(handover_owner(page), HANDOVER_TAKEN);
	assert_string_equal(hand.text, "vfio 0000:00:05.0 is wanted back by the host");
	assert_int_equal(hand.resumes, 1);
	after_the_pause();
}

/* Another parent's worker (--take): it is not our parent's child, and our end is not handed on to it. */
static void taken_by_another(void **state)
{
	int ends[2];
	fork_successor();
	assert_int_equal(wire_pair(ends, &err), 0);
	const struct incumbent_request req = {.taker = ends[0], .taker_pid = successor[0]};
	assert_int_equal(incumbent_begin(&m, &p, &req, &err), 0);
	assert_int_equal(hand.starts, 0);
	peer = ends[1];
	assert_true(into_the_pause(commit_and_say_so, 0));
	assert_int_equal(hand.exit_code, EXIT_POWEROFF);
	assert_next_program("/usr/bin/molt"); /* that sets its own */
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(handed_over),
		TEST(another_program_stays),
		TEST(handed_over_to_the_dead),
		TEST(silent_in_the_pause),
		cmocka_unit_test(many_vcpus),
		TEST(absurd_values),
		TEST(dead_in_the_pause),
		TEST(garbage_in_the_pause),
		TEST(refused_in_the_pause),
		TEST(a_refused_program_is_not_the_next),
		TEST(done_without_the_word),
		TEST(acknowledged_for_ever),
		TEST(opened_meanwhile),
		TEST(opened_and_never_acknowledged),
		TEST(fails_here),
		TEST(a_device_reports_in_the_pause),
		TEST(taken_by_another),
	};
	return cmocka_run_group_tests_name("incumbent-pause", tests, NULL, NULL);
}
