/* SPDX-License-Identifier: MIT */
/*
 * The two sides of a hand-over, each with a peer that says what the input says: messages of any kind, value, text
 * and descriptors, datagrams that are none; it takes the word, hangs up, or lets time pass. Real are incumbent.c,
 * successor.c and what they stand on; machine, parent and reports are tests/unit/fake_handover.h. Whatever comes,
 * a guest that has not got another owner runs on, a refusal is told in print, and no descriptor is left.
 */
#include "tests/fuzz/fuzz.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "tests/fuzz/wire.h"
#include "tests/unit/fake_handover.h"
#include "vmm/base/pool.h"

#define self	incumbent_self
#define message incumbent_message
#include "cpr/handover/incumbent.c" /* NOLINT */
#include "cpr/handover/pause.c"	    /* NOLINT */
#undef self
#undef message
#include "cpr/handover/successor.c" /* NOLINT */

#define PREPARE_MS 1000
#define MAX_SAID   64

/* ---- time passes only where somebody waits ---- */

int __real_poll(struct pollfd *p, nfds_t n, int timeout);
int __wrap_poll(struct pollfd *p, nfds_t n, int timeout);
int __wrap_nanosleep(const struct timespec *req, struct timespec *rem);

int __wrap_poll(struct pollfd *p, nfds_t n, int timeout)
{
	int rc = __real_poll(p, n, 0);
	fuzz_expect(rc || timeout >= 0, "it would wait for ever");
	if (!rc)
		fuzz_time_ns += (uint64_t)timeout * 1000000;
	return rc;
}

int __wrap_nanosleep(const struct timespec *req, struct timespec *rem)
{
	return 0;
}

/* ---- the side that is tested, and its peer ---- */

static struct machine m;
static struct program p;
static int peer; /* the hostile end, -1: it has hung up */
static struct fdset fds;

/* What a real incumbent would say. */
static struct {
	struct program p;
	struct state_tree tree;
	struct blob offer, state;
	struct handover *page;
	int page_fd, other, plain;
	bool written;
} inc;

/* Twice those of WIRE_MANY, and some. */
static unsigned open_fds(void)
{
	unsigned n = 0;
	for (int fd = 0; fd < 512; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

static void add_program(struct state_tree *tree, struct program *prog)
{
	static const char args[] = "molt\0run\0-k\0k";
	const struct state_section s = {
		.node = "program", .cls = &program_state_class, .state = prog};
	tree->n = 0;
	fuzz_expect(!state_register(tree, &s, NULL), "program");
	snprintf(prog->path, sizeof(prog->path), "/usr/bin/molt");
	memcpy(prog->args, args, sizeof(args));
	prog->args_len = sizeof(args);
}

static void keep(struct fdset *set, unsigned n)
{
	char name[FDSET_NAME_LEN];
	for (unsigned i = 0; i < n; i++) {
		snprintf(name, sizeof(name), "irq:%u", i);
		fuzz_expect(!fdset_keep(set, name, eventfd(0, EFD_CLOEXEC), NULL), "%s", name);
	}
}

static void drop(struct fdset *set)
{
	while (set->n)
		fdset_close(set, set->e[set->n - 1].name);
	pool_free(set->e);
	*set = (struct fdset){0};
}

static void expect_print(const char *text)
{
	for (const char *c = text; *c; c++)
		fuzz_expect(*c >= 0x20 && *c <= 0x7e, "0x%02x in '%s'", (unsigned char)*c, text);
}

/* ---- messages ---- */

static const char noise[] = "molt-handover 1 1\nother\n00\n";

static unsigned belongs_fds(uint32_t kind, bool to_successor, int *out)
{
	if (!to_successor)
		return 0;
	if (kind == PROTOCOL_OFFER) {
		out[0] = inc.offer.fd;
		out[1] = inc.state.fd;
		out[2] = inc.page_fd;
		return 3;
	}
	unsigned n = kind == PROTOCOL_FDS && fds.n < 8 ? fds.n : 0;
	for (unsigned i = 0; i < n; i++)
		out[i] = fds.e[i].fd;
	return n;
}

static size_t belongs_text(uint32_t kind, bool to_successor, char *out)
{
	if (kind == PROTOCOL_FDS && to_successor) {
		struct protocol_fd one;
		for (unsigned i = 0; i < fds.n && i < 8; i++) {
			memset(&one, 0, sizeof(one));
			memcpy(one.name, fds.e[i].name, sizeof(one.name));
			one.generation = fds.e[i].generation;
			memcpy(out + i * sizeof(one), &one, sizeof(one));
		}
		return (fds.n < 8 ? fds.n : 8) * sizeof(one);
	}
	if (kind != PROTOCOL_HELLO && kind != PROTOCOL_NO)
		return 0;
	memcpy(out, noise, sizeof(noise) - 1);
	return sizeof(noise) - 1;
}

static int64_t belongs_value(uint32_t kind, bool to_successor)
{
	if (kind == PROTOCOL_OFFER)
		return 1;
	if (kind != PROTOCOL_STATE || !to_successor)
		return 0;
	if (!inc.written)
		fuzz_expect(!blob_write(&inc.state, &inc.tree, &fds, NULL), "state");
	inc.written = true;
	return (int64_t)inc.state.len;
}

static void peer_says(struct input *in, bool to_successor)
{
	static const int64_t edges[] = {0, 1, -1, 2, 100, INT64_MAX, INT64_MIN, 1 << 20};
	static char text[WIRE_TEXT_MAX];
	const int palette[] = {inc.offer.fd, inc.state.fd, inc.page_fd, inc.other, inc.plain};
	int sent[8];
	uint32_t kind = input_below(in, WIRE_KINDS);
	unsigned shape = input_u8(in), nfds = input_below(in, WIRE_FDS_CHOICES);
	size_t len = 0;
	int64_t value = belongs_value(kind, to_successor);

	if (nfds == WIRE_FDS_ITS) {
		nfds = belongs_fds(kind, to_successor, sent);
	} else {
		for (unsigned i = 0; i < nfds; i++)
			sent[i] = palette[input_below(in, ARRAY_LEN(palette))];
	}
	switch (shape & 3) {
	case WIRE_TEXT_ITS:
		len = belongs_text(kind, to_successor, text);
		break;
	case WIRE_TEXT_RAW:
		len = input_below(in, 160);
		input_bytes(in, text, len);
		break;
	case WIRE_TEXT_LONG:
		len = input_below(in, WIRE_TEXT_MAX + 1);
		memset(text, (int)input_u8(in), len);
		break;
	case WIRE_TEXT_EDIT: /* its own, with a few bytes changed */
		len = belongs_text(kind, to_successor, text);
		for (unsigned n = input_below(in, 4); n && len; n--) {
			size_t at = input_below(in, (unsigned)len);
			text[at] = (char)input_u8(in);
		}
		break;
	}
	if (shape & WIRE_VALUE_RAW)
		value = (int64_t)input_num(in, 8);
	else if (shape & WIRE_VALUE_EDGE)
		value = edges[input_below(in, ARRAY_LEN(edges))];
	wire_send(peer, kind, value, text, len, sent, nfds, NULL);
}

static void peer_says_raw(struct input *in)
{
	char raw[64];
	size_t len = input_below(in, sizeof(raw));
	input_bytes(in, raw, len);
	send(peer, raw, len, MSG_NOSIGNAL | MSG_DONTWAIT);
}

/* False: it is for the caller. */
static bool act(unsigned op, struct input *in, bool to_successor)
{
	switch (op) {
	case WIRE_SAY:
		if (peer >= 0)
			peer_says(in, to_successor);
		return true;
	case WIRE_RAW:
		if (peer >= 0)
			peer_says_raw(in);
		return true;
	case WIRE_HANG_UP:
		fd_close(&peer);
		return true;
	}
	return false;
}

/* ---- an incumbent ---- */

/* What it sends is thrown away: but the page, in which the peer may take the word. */
static void hear(struct handover **page)
{
	static struct wire_message heard;
	while (peer >= 0 && !wire_recv(peer, &heard, 0, NULL)) {
		if (heard.kind == PROTOCOL_OFFER && !*page)
			*page = handover_map(heard.fds[2], NULL);
		wire_close_fds(&heard);
	}
}

static bool step(void)
{
	static jmp_buf out;
	hand.out = &out;
	if (setjmp(out))
		return true;
	incumbent_step();
	return false;
}

static void against_incumbent(struct input *in, unsigned flags)
{
	static struct wire_message started;
	const struct incumbent_request req = {.check = flags & WIRE_CHECK};
	struct handover *page = NULL;
	struct error err;
	char text[600];
	bool left = false;

	m.opt = (struct options){.prepare_timeout_ms = PREPARE_MS};
	add_program(&m.tree, &p);
	keep(&m.fds, flags & WIRE_MANY ? WIRE_FDS + 20 : 3);
	fuzz_expect(!incumbent_begin(&m, &p, &req, &err), "%s", err.text);
	peer = hand.peer;
	started = (struct wire_message){.kind = LINK_STARTED, .value = 1};
	if (!(flags & WIRE_UNKNOWN))
		incumbent_started(&started);
	for (unsigned i = 0; in->n && !left && i < MAX_SAID; i++) {
		unsigned op = input_below(in, WIRE_OPS);
		if (act(op, in, false))
			continue;
		if (op == WIRE_WORD && page)
			handover_decide(page, HANDOVER_COMMITTED);
		if (op == WIRE_LATE)
			fuzz_time_ns += PREPARE_MS * NS_PER_MS;
		left = step();
		hear(&page);
		incumbent_text(text, sizeof(text));
	}
	if (left) {
		fuzz_expect(hand.paused && !hand.resumes && page &&
				    handover_owner(page) == HANDOVER_COMMITTED,
			    "it has left a guest that nobody has");
	} else {
		fuzz_expect(!hand.paused && hand.pauses == hand.resumes && hand.pauses < 2,
			    "paused");
		unsigned told = hand.refusals + hand.checks;
		fuzz_expect(told == !incumbent_busy(), "told %u times", told);
		incumbent_cancel("the input is over");
		fuzz_expect(hand.refusals + hand.checks == 1, "cancelled");
	}
	expect_print(hand.text);
	expect_print(hand.hint);
	expect_print(hand.progress);
	for (unsigned i = 0; i < hand.reasons.n; i++)
		expect_print(hand.reasons.text[i]);
	send_away();
	handover_unmap(page);
	fd_close(&peer);
	drop(&m.fds);
}

/* ---- a successor ---- */

static void incumbent_new(void)
{
	struct error err = {0};
	memset(&inc.offer, 0, sizeof(inc.offer));
	inc.written = false;
	add_program(&inc.tree, &inc.p);
	keep(&fds, 3);
	int rc = blob_create(&inc.offer, &inc.tree, &fds, &err);
	if (!rc)
		rc = blob_write(&inc.offer, &inc.tree, &fds, &err);
	if (!rc)
		rc = blob_create(&inc.state, &inc.tree, &fds, &err);
	fuzz_expect(!rc, "%s", err.text);
	inc.page = handover_new(&inc.page_fd, &err);
	inc.other = eventfd(0, EFD_CLOEXEC);
	inc.plain = memfd_create("plain", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	fuzz_expect(inc.page && inc.plain >= 0 && !ftruncate(inc.plain, PAGE_LEN), "page");
}

static void incumbent_free(void)
{
	blob_close(&inc.offer);
	blob_close(&inc.state);
	handover_unmap(inc.page);
	close(inc.page_fd);
	close(inc.other);
	close(inc.plain);
	drop(&fds);
}

/* Everything is said beforehand. */
static void against_successor(struct input *in, unsigned flags)
{
	struct error err = {0};
	int ends[2];
	bool ours = false; /* who has the word is the input's doing */
	fuzz_expect(!wire_pair(ends, &err), "%s", err.text);
	peer = ends[0];
	memset(&p, 0, sizeof(p));
	m.tree.n = 0;
	m.opt = (struct options){0};
	incumbent_new();
	for (unsigned i = 0; in->n && i < MAX_SAID; i++) {
		unsigned op = input_below(in, WIRE_OPS);
		if (!act(op, in, true) && op == WIRE_WORD)
			ours = handover_decide(inc.page, HANDOVER_TAKEN) || ours;
	}
	if (peer >= 0)
		shutdown(peer, SHUT_WR);
	int rc = successor_run(&m, &p, ends[1], &err);
	fuzz_expect(rc <= 0 && (!rc || err.text[0]), "%d", rc);
	fuzz_expect(hand.takes == !rc && hand.owners == !rc, "%d: taken %u times", rc, hand.takes);
	if (ours)
		fuzz_expect(rc, "taken though the word was not free");
	else if (rc)
		fuzz_expect(handover_owner(inc.page) == HANDOVER_OPEN, "the word is taken");
	if (rc)
		close(ends[1]);
	blob_close(&self.offer);
	blob_close(&self.state);
	handover_unmap(self.page);
	self.page = NULL;
	fd_close(&peer);
	drop(&m.fds);
	incumbent_free();
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	pthread_mutex_init(&m.lock, NULL);
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct input in = {data, len};
	unsigned flags = input_u8(&in);
	unsigned before = open_fds(); /* libFuzzer opens some of its own */
	hand_reset();
	m.stop_code = -1;
	p.updates = 0;
	if (flags & WIRE_TO_SUCCESSOR)
		against_successor(&in, flags);
	else
		against_incumbent(&in, flags);
	fuzz_expect(open_fds() == before, "%u descriptors, %u before", open_fds(), before);
	return 0;
}
