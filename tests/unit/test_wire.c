/* SPDX-License-Identifier: MIT */
/* Messages with descriptors, from a peer that is not trusted: what is no message leaves nothing behind. */
#include "tests/unit/unit.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>

#include "cpr/handover/wire.h"
#include "tests/unit/fds.h"
#include "vmm/base/error.h"

#define SCM_MAX 253 /* net/scm.h */

static int ends[2];
static unsigned before;
static struct wire_message msg;
static struct error err;
static int many[SCM_MAX];

static int setup(void **state)
{
	before = fds_open();
	err = (struct error){0};
	memset(&msg, 0xa5, sizeof(msg));
	msg.nfds = 0;
	return wire_pair(ends, &err);
}

static int teardown(void **state)
{
	close(ends[0]);
	close(ends[1]);
	if (fds_open() == before)
		return 0;
	print_error("%u descriptors, %u before\n", fds_open(), before);
	return -1;
}

static void open_many(unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		many[i] = fds_new();
}

static void close_many(unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		close(many[i]);
}

/* Anything at all, as a peer that is no molt may send it. */
static void send_raw(const void *data, size_t len, const int *fds, unsigned nfds)
{
	static union {
		struct cmsghdr align;
		char room[CMSG_SPACE(SCM_MAX * sizeof(int))];
	} control;
	struct iovec part = {(void *)data, len};
	struct msghdr m = {.msg_iov = &part, .msg_iovlen = 1};
	if (nfds) {
		m.msg_control = control.room;
		m.msg_controllen = CMSG_SPACE(nfds * sizeof(int));
		struct cmsghdr *c = CMSG_FIRSTHDR(&m);
		*c = (struct cmsghdr){CMSG_LEN(nfds * sizeof(int)), SOL_SOCKET, SCM_RIGHTS};
		memcpy(CMSG_DATA(c), fds, nfds * sizeof(int));
	}
	assert_int_equal(sendmsg(ends[1], &m, MSG_NOSIGNAL), len);
}

static int receive(int timeout_ms)
{
	return wire_recv(ends[0], &msg, timeout_ms, &err);
}

/* After whatever came before. */
static void assert_still_works(void)
{
	assert_int_equal(wire_send(ends[1], 9, 1, "ok", 2, NULL, 0, &err), 0);
	assert_int_equal(receive(0), 0);
	assert_int_equal(msg.kind, 9);
	assert_string_equal(msg.text, "ok");
}

static void close_on_exec_at_once(void **state)
{
	assert_int_equal(fcntl(ends[0], F_GETFD), FD_CLOEXEC);
	assert_int_equal(fcntl(ends[1], F_GETFD), FD_CLOEXEC);
}

static void texts_of_any_length(void **state)
{
	static char text[WIRE_TEXT_MAX];
	static const size_t lens[] = {0, 1, 15, 4096, WIRE_TEXT_MAX - 1, WIRE_TEXT_MAX};
	for (size_t i = 0; i < sizeof(text); i++)
		text[i] = (char)(i * 7 + 1);
	for (unsigned i = 0; i < ARRAY_LEN(lens); i++) {
		msg.text[lens[i]] = 'x';
		assert_int_equal(
			wire_send(ends[1], i + 1, -(int64_t)i, text, lens[i], NULL, 0, &err), 0);
		assert_int_equal(receive(0), 0);
		assert_int_equal(msg.kind, i + 1);
		assert_true(msg.value == -(int64_t)i);
		assert_int_equal(msg.len, lens[i]);
		assert_memory_equal(msg.text, text, lens[i]);
		assert_int_equal(msg.text[lens[i]], 0);
		assert_int_equal(msg.nfds, 0);
	}
}

static void values_at_the_edges(void **state)
{
	static const int64_t values[] = {0, -1, INT64_MAX, INT64_MIN};
	for (unsigned i = 0; i < ARRAY_LEN(values); i++) {
		assert_int_equal(wire_send(ends[1], UINT32_MAX, values[i], NULL, 0, NULL, 0, &err),
				 0);
		assert_int_equal(receive(0), 0);
		assert_true(msg.value == values[i] && msg.kind == UINT32_MAX);
	}
}

/* Each arrives in its place, is another number of the same file, and is close-on-exec. */
static void as_many_descriptors_as_may_be(void **state)
{
	static const unsigned counts[] = {1, 2, WIRE_FDS - 1, WIRE_FDS};
	open_many(WIRE_FDS);
	for (unsigned k = 0; k < ARRAY_LEN(counts); k++) {
		assert_int_equal(wire_send(ends[1], 1, 0, "names", 5, many, counts[k], &err), 0);
		assert_int_equal(receive(0), 0);
		assert_int_equal(msg.nfds, counts[k]);
		for (unsigned i = 0; i < counts[k]; i++) {
			assert_int_not_equal(msg.fds[i], many[i]);
			assert_int_equal(fds_inode(msg.fds[i]), fds_inode(many[i]));
			assert_int_equal(fcntl(msg.fds[i], F_GETFD), FD_CLOEXEC);
		}
		wire_close_fds(&msg);
		assert_int_equal(msg.nfds, 0);
		assert_int_equal(fcntl(many[0], F_GETFD), FD_CLOEXEC); /* still the sender's */
	}
	close_many(WIRE_FDS);
}

static void taken_ones_stay_open(void **state)
{
	open_many(3);
	assert_int_equal(wire_send(ends[1], 1, 0, NULL, 0, many, 3, &err), 0);
	assert_int_equal(receive(0), 0);
	int fd = wire_take_fd(&msg, 1);
	assert_int_equal(fds_inode(fd), fds_inode(many[1]));
	assert_int_equal(wire_take_fd(&msg, 1), -1);
	assert_int_equal(wire_take_fd(&msg, 3), -1);
	wire_close_fds(&msg);
	assert_int_equal(wire_take_fd(&msg, 0), -1);
	assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
	close(fd);
	close_many(3);
}

static void too_large_is_not_sent(void **state)
{
	static char text[WIRE_TEXT_MAX + 1];
	open_many(WIRE_FDS + 1);
	assert_int_equal(wire_send(ends[1], 1, 0, text, sizeof(text), NULL, 0, &err), -EMSGSIZE);
	assert_non_null(strstr(err.text, "32769 bytes"));
	assert_int_equal(wire_send(ends[1], 1, 0, NULL, 0, many, WIRE_FDS + 1, &err), -EMSGSIZE);
	assert_non_null(strstr(err.text, "201 descriptors"));
	assert_int_equal(receive(0), -ETIMEDOUT);
	close_many(WIRE_FDS + 1);
}

static void too_large_is_not_believed(void **state)
{
	static struct {
		struct wire_header header;
		char text[WIRE_TEXT_MAX + 1];
	} big = {.header = {.magic = WIRE_MAGIC, .kind = 1}};
	open_many(2);
	send_raw(&big, sizeof(big.header) + WIRE_TEXT_MAX + 1, many, 2);
	assert_int_equal(receive(0), -EBADMSG);
	assert_int_equal(msg.nfds, 0);
	close_many(2);
	assert_still_works();
}

/* The kernel says MSG_CTRUNC, and gives those that there is room for: they are closed. */
static void descriptors_left_out(void **state)
{
	const struct wire_header header = {.magic = WIRE_MAGIC, .kind = 1};
	open_many(SCM_MAX);
	for (unsigned n = WIRE_FDS + 1; n <= SCM_MAX; n += SCM_MAX - WIRE_FDS - 1) {
		send_raw(&header, sizeof(header), many, n);
		assert_int_equal(receive(0), -EBADMSG);
		assert_non_null(strstr(err.text, "descriptors left out"));
		assert_int_equal(msg.nfds, 0);
	}
	close_many(SCM_MAX);
	assert_still_works();
}

/* The same where this process may open no more. */
static void no_room_for_descriptors(void **state)
{
	const struct wire_header header = {.magic = WIRE_MAGIC, .kind = 1};
	struct rlimit was, low;
	open_many(20);
	send_raw(&header, sizeof(header), many, 20);
	getrlimit(RLIMIT_NOFILE, &was);
	low = was;
	low.rlim_cur = (rlim_t)many[19] + 5;
	setrlimit(RLIMIT_NOFILE, &low);
	int rc = receive(0);
	setrlimit(RLIMIT_NOFILE, &was);
	assert_int_equal(rc, -EBADMSG);
	assert_int_equal(msg.nfds, 0);
	close_many(20);
	assert_still_works();
}

/* Two control messages: the kernel makes one of them. */
static void in_two_pieces(void **state)
{
	struct wire_header header = {.magic = WIRE_MAGIC, .kind = 1};
	union {
		struct cmsghdr align;
		char room[2 * CMSG_SPACE(2 * sizeof(int))];
	} control = {.room = {0}};
	struct iovec part = {&header, sizeof(header)};
	struct msghdr m = {.msg_iov = &part,
			   .msg_iovlen = 1,
			   .msg_control = control.room,
			   .msg_controllen = sizeof(control.room)};
	open_many(4);
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);
	for (unsigned i = 0; i < 2; i++, c = CMSG_NXTHDR(&m, c)) {
		*c = (struct cmsghdr){CMSG_LEN(2 * sizeof(int)), SOL_SOCKET, SCM_RIGHTS};
		memcpy(CMSG_DATA(c), many + 2 * i, 2 * sizeof(int));
	}
	assert_int_equal(sendmsg(ends[1], &m, 0), sizeof(header));
	assert_int_equal(receive(0), 0);
	assert_int_equal(msg.nfds, 4);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(fds_inode(msg.fds[i]), fds_inode(many[i]));
	wire_close_fds(&msg);
	close_many(4);
}

static void garbage(void **state)
{
	struct wire_header header = {.magic = WIRE_MAGIC, .kind = 1};
	open_many(2);
	for (size_t len = 1; len < sizeof(header); len++) {
		send_raw(&header, len, many, len % 3);
		assert_int_equal(receive(0), -EBADMSG);
		assert_int_equal(msg.nfds, 0);
	}
	for (unsigned bit = 0; bit < 32; bit++) {
		header.magic = WIRE_MAGIC ^ 1u << bit;
		send_raw(&header, sizeof(header), many, 1);
		assert_int_equal(receive(0), -EBADMSG);
	}
	send_raw("GET / HTTP/1.1\r\n\r\n", 18, NULL, 0);
	assert_int_equal(receive(0), -EBADMSG);
	assert_non_null(strstr(err.text, "18 bytes"));
	close_many(2);
	assert_still_works();
}

/* What nobody has received goes with the sockets. */
static void unread(void **state)
{
	open_many(WIRE_FDS);
	assert_int_equal(wire_send(ends[1], 1, 0, NULL, 0, many, WIRE_FDS, &err), 0);
	close_many(WIRE_FDS);
}

static void the_other_side_ends(void **state)
{
	assert_int_equal(wire_send(ends[1], 5, 0, "last words", 10, NULL, 0, &err), 0);
	close(ends[1]);
	assert_int_equal(receive(-1), 0);
	assert_string_equal(msg.text, "last words");
	assert_int_equal(receive(-1), -EPIPE);
	assert_int_equal(receive(0), -EPIPE);
	assert_int_equal(wire_send(ends[0], 1, 0, NULL, 0, NULL, 0, &err), -EPIPE); /* no SIGPIPE */
	ends[1] = -1;
}

/* The kernel tells of the reset first: unread was what the other side did not want to hear any more. */
static void the_other_side_ends_without_reading(void **state)
{
	assert_int_equal(wire_send(ends[0], 1, 0, NULL, 0, NULL, 0, &err), 0);
	assert_int_equal(wire_send(ends[1], 5, 0, "last words", 10, NULL, 0, &err), 0);
	close(ends[1]);
	assert_int_equal(receive(-1), 0);
	assert_string_equal(msg.text, "last words");
	assert_int_equal(receive(-1), -EPIPE);
	ends[1] = -1;
}

static void the_other_side_is_reset(void **state)
{
	assert_int_equal(wire_send(ends[0], 1, 0, NULL, 0, NULL, 0, &err), 0);
	close(ends[1]);
	assert_int_equal(receive(0), -EPIPE);
	ends[1] = -1;
}

/* Looks the same as the end, and is taken for it: no message of ours is empty. */
static void an_empty_datagram(void **state)
{
	assert_int_equal(send(ends[1], "", 0, 0), 0);
	assert_int_equal(receive(0), -EPIPE);
}

static void sending_never_waits(void **state)
{
	static char text[WIRE_TEXT_MAX];
	unsigned n = 0;
	int rc;
	while (!(rc = wire_send(ends[1], 1, n, text, sizeof(text), NULL, 0, &err)) && n < 1000)
		n++;
	assert_int_equal(rc, -EAGAIN);
	assert_in_range(n, 2, 100);
	for (unsigned i = 0; i < n; i++) {
		assert_int_equal(receive(0), 0);
		assert_int_equal(msg.value, i);
	}
	assert_int_equal(receive(0), -ETIMEDOUT);
}

static void time_outs(void **state)
{
	uint64_t start = now_ns();
	assert_int_equal(receive(0), -ETIMEDOUT);
	assert_true(now_ns() - start < 50000000);
	start = now_ns();
	assert_int_equal(receive(60), -ETIMEDOUT);
	assert_in_range(now_ns() - start, 60000000, 2000000000);
	assert_non_null(strstr(err.text, "60 ms"));
}

static void *send_later(void *unused)
{
	usleep(60000);
	wire_send(ends[1], 7, 0, NULL, 0, NULL, 0, NULL);
	return NULL;
}

static void waits_for_ever(void **state)
{
	pthread_t thread;
	pthread_create(&thread, NULL, send_later, NULL);
	assert_int_equal(receive(-1), 0);
	assert_int_equal(msg.kind, 7);
	pthread_join(thread, NULL);
}

static unsigned alarms;

static void on_alarm(int sig)
{
	alarms++;
}

/* A signal neither ends the wait nor makes it longer. */
static void signals_meanwhile(void **state)
{
	const struct sigaction act = {.sa_handler = on_alarm};
	const struct itimerval often = {{0, 5000}, {0, 5000}}, never = {{0, 0}, {0, 0}};
	uint64_t start = now_ns();
	sigaction(SIGALRM, &act, NULL);
	setitimer(ITIMER_REAL, &often, NULL);
	int rc = receive(100);
	setitimer(ITIMER_REAL, &never, NULL);
	assert_int_equal(rc, -ETIMEDOUT);
	assert_in_range(now_ns() - start, 100000000, 2000000000);
	assert_true(alarms > 2);
}

static void no_descriptor_for_a_pair(void **state)
{
	struct rlimit was, low;
	int pair[2];
	getrlimit(RLIMIT_NOFILE, &was);
	low = was;
	low.rlim_cur = (rlim_t)ends[1] + 2;
	setrlimit(RLIMIT_NOFILE, &low);
	int rc = wire_pair(pair, &err);
	setrlimit(RLIMIT_NOFILE, &was);
	assert_int_equal(rc, -EMFILE);
	assert_non_null(strstr(err.text, "socket pair"));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(close_on_exec_at_once),
		TEST(texts_of_any_length),
		TEST(values_at_the_edges),
		TEST(as_many_descriptors_as_may_be),
		TEST(taken_ones_stay_open),
		TEST(too_large_is_not_sent),
		TEST(too_large_is_not_believed),
		TEST(descriptors_left_out),
		TEST(no_room_for_descriptors),
		TEST(in_two_pieces),
		TEST(garbage),
		TEST(unread),
		TEST(the_other_side_ends),
		TEST(the_other_side_ends_without_reading),
		TEST(the_other_side_is_reset),
		TEST(an_empty_datagram),
		TEST(sending_never_waits),
		TEST(time_outs),
		TEST(waits_for_ever),
		TEST(signals_meanwhile),
		TEST(no_descriptor_for_a_pair),
	};
	signal(SIGPIPE, SIG_DFL);
	return cmocka_run_group_tests_name("wire", tests, NULL, NULL);
}
