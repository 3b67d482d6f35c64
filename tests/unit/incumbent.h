/* SPDX-License-Identifier: MIT */
/*
 * incumbent.c with a successor that is the test (fake_handover.h has the rest): what the files test_incumbent*.c
 * share.
 */
#ifndef MOLT_TESTS_INCUMBENT_H
#define MOLT_TESTS_INCUMBENT_H

#include "tests/unit/unit.h"

#include "tests/unit/fake_handover.h"

#include "cpr/handover/incumbent.c" /* NOLINT: its states are set up here */
#include "cpr/handover/pause.c"	    /* NOLINT */

#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "tests/unit/fds.h"
#include "vmm/base/pool.h"

#define PREPARE_MS 150
#define UPDATE_MS                                                                                  \
	10000 /* a thread of the test answers, on a machine that does other things as well */
#define GREETING "molt-handover 1 1\nother\n00\n"
#define KINDS	 12 /* PROTOCOL_HELLO to PROTOCOL_DONE, and one more on either side */

static struct machine m;
static struct program p;
static int peer;	 /* the successor's end */
static int successor[2]; /* a process that stands for it: its id, its pidfd */
static unsigned before;
static struct wire_message heard, answer;
static struct error err;

static void keep_some(unsigned n)
{
	char name[FDSET_NAME_LEN];
	for (unsigned i = 0; i < n; i++) {
		snprintf(name, sizeof(name), "irq:%u", m.fds.n);
		assert_int_equal(fdset_keep(&m.fds, name, eventfd(0, EFD_CLOEXEC), &err), 0);
	}
}

static int setup(void **state)
{
	static const char args[] = "molt\0run\0-k\0k";
	before = fds_open();
	hand_reset();
	memset(&m, 0, sizeof(m));
	memset(&p, 0, sizeof(p));
	memset(&successor, 0, sizeof(successor));
	peer = -1;
	pthread_mutex_init(&m.lock, NULL);
	m.stop_code = -1;
	m.opt.prepare_timeout_ms = PREPARE_MS;
	m.opt.update_timeout_ms = UPDATE_MS;
	snprintf(p.path, sizeof(p.path), "/usr/bin/molt");
	memcpy(p.args, args, sizeof(args));
	p.args_len = sizeof(args);
	assert_int_equal(worker_register(&m, &p, &err), 0);
	keep_some(3);
	return 0;
}

static int teardown(void **state)
{
	incumbent_cancel("the test is over");
	send_away(); /* where it has left */
	if (successor[0]) {
		kill(successor[0], SIGKILL);
		waitpid(successor[0], NULL, 0);
	}
	if (peer >= 0)
		close(peer);
	while (m.fds.n)
		fdset_close(&m.fds, m.fds.e[0].name);
	pool_free(m.fds.e);
	if (fds_open() == before)
		return 0;
	print_error("%u descriptors, %u before\n", fds_open(), before);
	return -1;
}

/* It does nothing, and does not outlive this process. */
static void fork_successor(void)
{
	pid_t parent = getpid();
	int closed[2];
	char none;
	assert_int_equal(pipe(closed), 0);
	successor[0] = fork();
	if (successor[0]) { /* until it has none of our descriptors */
		close(closed[1]);
		assert_int_equal(read(closed[0], &none, 1), 0);
		close(closed[0]);
		return;
	}
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	syscall(SYS_close_range, 0, ~0u, 0);
	while (getppid() == parent)
		pause();
	_Exit(0);
}

/* Until the successor's process is there. */
static inline void begin_with(const struct incumbent_request *req)
{
	assert_int_equal(incumbent_begin(&m, &p, req, &err), 0);
	assert_true(incumbent_busy());
	assert_int_equal(incumbent_socket(), -1); /* until it is known whom to end */
	peer = hand.peer;
	fork_successor();
	successor[1] = (int)syscall(SYS_pidfd_open, successor[0], 0);
	answer = (struct wire_message){
		.kind = LINK_STARTED, .value = successor[0], .nfds = 1, .fds = {successor[1]}};
	incumbent_started(&answer);
	assert_true(incumbent_socket() >= 0);
}

static void begun(void)
{
	begin_with(&(struct incumbent_request){0});
}

static void say_text(uint32_t kind, int64_t value, const char *text, size_t len)
{
	if (wire_send(peer, kind, value, text, len, NULL, 0, &err))
		fail_msg("message %u: %s", kind, err.text);
}

static void say(uint32_t kind)
{
	const char *text = kind == PROTOCOL_HELLO ? GREETING : "";
	say_text(kind, 0, text, strlen(text));
}

/* True: this process has no guest any more. */
static bool step(void)
{
	static jmp_buf out;
	hand.out = &out;
	if (!setjmp(out)) {
		incumbent_step();
		return false;
	}
	return true;
}

static inline void hear(uint32_t kind)
{
	if (wire_recv(peer, &heard, 2000, &err))
		fail_msg("no message %u: %s", kind, err.text);
	assert_int_equal(heard.kind, kind);
}

/* As a successor that is one. */
static inline struct handover *to_offer(void)
{
	say(PROTOCOL_HELLO);
	step();
	hear(PROTOCOL_OFFER);
	assert_int_equal(heard.nfds, 3);
	struct handover *page_ = handover_map(heard.fds[2], &err);
	assert_non_null(page_);
	wire_close_fds(&heard);
	return page_;
}

static inline void to_stage(enum stage stage)
{
	if (stage >= STAGE_FDS) {
		handover_unmap(to_offer());
		hear(PROTOCOL_FDS);
		wire_close_fds(&heard);
	}
	if (stage >= STAGE_BUILD) {
		say(PROTOCOL_GOT);
		step();
		hear(PROTOCOL_BUILD);
	}
	assert_int_equal(self.stage, stage);
}

static void assert_printable(const char *text)
{
	for (const char *c = text; *c; c++)
		if (*c < 0x20 || *c > 0x7e)
			fail_msg("character 0x%02x in '%s'", (unsigned char)*c, text);
}

/* The guest runs here, the successor has been ended, and has been told nothing more. */
static inline void assert_refused(const char *text)
{
	int status;
	assert_false(incumbent_busy());
	assert_int_equal(incumbent_socket(), -1);
	assert_int_equal(incumbent_deadline(), 0);
	assert_int_equal(hand.refusals, 1);
	if (!strstr(hand.text, text))
		fail_msg("'%s', not '%s'", hand.text, text);
	assert_non_null(strstr(hand.text, self.path));
	assert_printable(hand.text);
	assert_printable(hand.hint);
	for (unsigned i = 0; i < hand.reasons.n; i++)
		assert_printable(hand.reasons.text[i]);
	assert_false(hand.paused);
	assert_int_equal(hand.resumes, hand.pauses);
	assert_int_equal(p.updates, 0);
	assert_int_equal(hand.exit_code, -1);
	assert_int_equal(waitpid(successor[0], &status, 0), successor[0]);
	assert_int_equal(status, SIGKILL);
	successor[0] = 0;
	if (peer < 0)
		return;
	int rc;
	while (!(rc = wire_recv(peer, &heard, 2000, &err)))
		wire_close_fds(&heard);
	assert_int_equal(rc, -EPIPE);
}

/* For the tests that try many things each: ends one, begins the next. */
static inline void again(void)
{
	teardown(NULL);
	setup(NULL);
	begun();
}

#endif
