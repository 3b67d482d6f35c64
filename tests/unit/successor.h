/* SPDX-License-Identifier: MIT */
/*
 * successor.c with an incumbent that is the test (fake_handover.h has the rest): what the files test_successor*.c
 * share. What the incumbent says is all there beforehand.
 */
#ifndef MOLT_TESTS_SUCCESSOR_H
#define MOLT_TESTS_SUCCESSOR_H

#include "tests/unit/unit.h"

#include "tests/unit/fake_handover.h"

#include "cpr/handover/successor.c" /* NOLINT: what it was given is put away here */

#include <limits.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "tests/unit/fds.h"
#include "vmm/base/pool.h"

static struct machine m;
static struct program p;
static unsigned before;
static struct error err;
static struct wire_message heard;

/* The incumbent's. */
static struct {
	int peer, end; /* end: the successor's */
	struct program p;
	struct state_tree tree;
	struct fdset fds;
	struct blob offer, state;
	struct handover *page;
	int page_fd;
} inc;

static inline void keep_some(unsigned n)
{
	char name[FDSET_NAME_LEN];
	for (unsigned i = 0; i < n; i++) {
		snprintf(name, sizeof(name), "irq:%u", inc.fds.n);
		assert_int_equal(fdset_keep(&inc.fds, name, eventfd(0, EFD_CLOEXEC), &err), 0);
	}
}

static void set_args(const char *args, size_t len)
{
	memcpy(inc.p.args, args, len);
	inc.p.args_len = (uint32_t)len;
}

static inline void write_offer(void)
{
	blob_close(&inc.offer);
	assert_int_equal(blob_create(&inc.offer, &inc.tree, &inc.fds, &err), 0);
	assert_int_equal(blob_write(&inc.offer, &inc.tree, &inc.fds, &err), 0);
}

static int setup(void **state)
{
	static const char args[] = "molt\0run\0-k\0k";
	int ends[2];
	const struct state_section s = {
		.node = "program", .cls = &program_state_class, .state = &inc.p};
	before = fds_open();
	hand_reset();
	memset(&m, 0, sizeof(m));
	memset(&p, 0, sizeof(p));
	memset(&inc, 0, sizeof(inc));
	pthread_mutex_init(&m.lock, NULL);
	m.stop_code = -1;
	inc.offer.fd = inc.state.fd = -1;
	assert_int_equal(wire_pair(ends, &err), 0);
	inc.peer = ends[0];
	inc.end = ends[1];
	assert_int_equal(state_register(&inc.tree, &s, &err), 0);
	snprintf(inc.p.path, sizeof(inc.p.path), "/usr/bin/molt");
	set_args(args, sizeof(args));
	inc.p.updates = 41;
	keep_some(3);
	assert_int_equal(fdset_keep(&inc.fds, "ram0", fds_new(), &err), 0);
	write_offer();
	assert_int_equal(blob_create(&inc.state, &inc.tree, &inc.fds, &err), 0);
	inc.page = handover_new(&inc.page_fd, &err);
	assert_non_null(inc.page);
	return 0;
}

static void drop(struct fdset *set)
{
	while (set->n)
		fdset_close(set, set->e[0].name);
	pool_free(set->e);
}

static int teardown(void **state)
{
	wire_close_fds(&message);
	if (hand.takes == 0)
		close(inc.end);
	close(inc.peer);
	blob_close(&inc.offer);
	blob_close(&inc.state);
	handover_unmap(inc.page);
	close(inc.page_fd);
	if (self.m) {
		blob_close(&self.offer);
		blob_close(&self.state);
		handover_unmap(self.page);
		memset(&self, 0, sizeof(self));
	}
	drop(&inc.fds);
	drop(&m.fds);
	if (fds_open() == before)
		return 0;
	print_error("%u descriptors, %u before\n", fds_open(), before);
	return -1;
}

static inline void again(void)
{
	assert_int_equal(teardown(NULL), 0);
	setup(NULL);
}

/* ---- what the incumbent says ---- */

static void say_to(uint32_t kind, int64_t value, const void *text, size_t len, const int *fds,
		   unsigned n)
{
	if (wire_send(inc.peer, kind, value, text, len, fds, n, &err))
		fail_msg("message %u: %s", kind, err.text);
}

static void say_offer(void)
{
	const int fds[] = {inc.offer.fd, inc.state.fd, inc.page_fd};
	say_to(PROTOCOL_OFFER, 1, NULL, 0, fds, 3);
}

/* Those from @from on. */
static inline void say_fds(unsigned from)
{
	static struct protocol_fd list[WIRE_FDS];
	int fds[WIRE_FDS];
	while (from < inc.fds.n) {
		unsigned n = 0;
		memset(list, 0, sizeof(list));
		for (; from < inc.fds.n && n < WIRE_FDS; from++, n++) {
			memcpy(list[n].name, inc.fds.e[from].name, FDSET_NAME_LEN);
			list[n].generation = inc.fds.e[from].generation;
			fds[n] = inc.fds.e[from].fd;
		}
		say_to(PROTOCOL_FDS, 0, list, n * sizeof(list[0]), fds, n);
	}
}

static inline void say_build(void)
{
	say_to(PROTOCOL_BUILD, 0, NULL, 0, NULL, 0);
}

static inline void say_state(void)
{
	assert_int_equal(blob_write(&inc.state, &inc.tree, &inc.fds, &err), 0);
	say_to(PROTOCOL_STATE, (int64_t)inc.state.len, NULL, 0, NULL, 0);
}

static inline void say_all_but_state(void)
{
	say_offer();
	say_fds(0);
	say_build();
}

/* ---- what comes of it ---- */

static int run(void)
{
	err = (struct error){0};
	return successor_run(&m, &p, inc.end, &err);
}

static void hear(uint32_t kind)
{
	if (wire_recv(inc.peer, &heard, 0, &err))
		fail_msg("no message %u: %s", kind, err.text);
	if (heard.kind != kind)
		fail_msg("message %u, not %u: %s", heard.kind, kind, heard.text);
}

/* It says why, last of all; and the guest is as it was. */
static inline void assert_no(int rc, const char *text)
{
	char why[sizeof(err.text)];
	assert_true(rc < 0);
	memcpy(why, err.text, sizeof(why));
	hear(PROTOCOL_HELLO);
	do
		assert_int_equal(wire_recv(inc.peer, &heard, 0, &err), 0);
	while (heard.kind == PROTOCOL_GOT || heard.kind == PROTOCOL_READY);
	assert_int_equal(heard.kind, PROTOCOL_NO);
	if (!strstr(heard.text, text))
		fail_msg("'%s', not '%s'", heard.text, text);
	assert_int_equal(strncmp(heard.text, why, strlen(why)), 0);
	assert_int_equal(heard.text[heard.len - 1], '\n');
	assert_int_equal(wire_recv(inc.peer, &heard, 0, &err), -ETIMEDOUT);
	assert_int_equal(handover_owner(inc.page), HANDOVER_OPEN);
	assert_int_equal(hand.takes + hand.owners + hand.dones, 0);
}

#endif
