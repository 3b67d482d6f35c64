/* SPDX-License-Identifier: MIT */
/*
 * What the successor is given is not what the incumbent saved: a descriptor is missing, is another one, or changed
 * places with a second one; the state is cut off, changed, or something else; a message makes no sense, on either
 * side. All that is done to the messages as they are sent, and to the state between its check and its
 * seal: so the successor alone can notice. Before the pause the update is refused; within it the guest resumes
 * in place.
 */
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <unistd.h>

#include "tests/guest/cases/drives.h"
#include "tests/guest/cases/matrix.h"
#include "tests/guest/runner/message.h"
#include "tests/guest/runner/session.h"
#include "tests/guest/runner/state_bytes.h"

#define MAX_KEPT   64
#define SHORT_STEP 23 /* bytes */
#define ALL_SEALS  (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL)
#define NAME_LEN   32
#define LOG_FD	   2 /* of molt: a descriptor that is none of the guest's */

struct row {
	enum inject_image sender;
	enum message_kind kind;
	/* Changes the message; -1: cannot. */
	int (*change)(struct message *m, const struct row *row);
	unsigned a, b; /* indices of descriptors */
	int64_t n;
	/* The state that goes with the message (OFFER, STATE): the file is as it will be sealed, and is not yet. */
	int (*spoil)(int fd, off_t len, off_t at);
	bool unsealed;
};

static struct message message;
static struct {
	char name[MESSAGE_NAME], file[NAME_LEN];
} kept[MAX_KEPT];
static unsigned nkept;
static off_t blob_len; /* of the row before */
static bool done;      /* this row's change */
static int states;     /* whose seals this update has seen */
static int state_fd;   /* of the sender */

/* ---- what is changed about a message ---- */

static int drop_fd(struct message *m, const struct row *row)
{
	unsigned last = --m->nfds;
	m->fds[row->a] = m->fds[last];
	m->names[row->a] = m->names[last];
	return message_change(m, m->nfds);
}

static int drop_number(struct message *m, const struct row *row)
{
	(void)row;
	m->nfds--;
	return message_change(m, 0);
}

static int drop_name(struct message *m, const struct row *row)
{
	(void)row;
	return message_change(m, m->nfds - 1);
}

static int replace_fd(struct message *m, const struct row *row)
{
	m->fds[row->a] = LOG_FD;
	return message_change(m, 0);
}

static int swap_fds(struct message *m, const struct row *row)
{
	int fd = m->fds[row->a];
	m->fds[row->a] = m->fds[row->b];
	m->fds[row->b] = fd;
	return message_change(m, 0);
}

static int other_generation(struct message *m, const struct row *row)
{
	m->names[row->a].generation += (uint64_t)row->n;
	return message_change(m, m->nfds);
}

static int other_name(struct message *m, const struct row *row)
{
	memset(m->names[row->a].name, row->n ? 'a' : 0, MESSAGE_NAME);
	return message_change(m, m->nfds);
}

static int other_value(struct message *m, const struct row *row)
{
	m->head.value = row->n;
	return message_change(m, 0);
}

static int add_value(struct message *m, const struct row *row)
{
	m->head.value += row->n;
	return message_change(m, 0);
}

static int other_kind(struct message *m, const struct row *row)
{
	m->head.kind += (uint32_t)row->n;
	return message_change(m, 0);
}

static int other_magic(struct message *m, const struct row *row)
{
	(void)row;
	m->head.magic ^= 1;
	return message_change(m, 0);
}

static int cut_short(struct message *m, const struct row *row)
{
	return message_cut(m, (size_t)row->n);
}

/* ---- what is changed about the state ---- */

/* The file keeps its size, which is sealed from the start: what comes after @at was never written. */
static int cut_off(int fd, off_t len, off_t at)
{
	return fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, at, len - at);
}

static int flip_byte(int fd, off_t len, off_t at)
{
	unsigned char byte;
	(void)len;
	return pread(fd, &byte, 1, at) != 1 ||
	       pwrite(fd, &(unsigned char){byte ^ 0xff}, 1, at) != 1;
}

static int nothing(int fd, off_t len, off_t at)
{
	(void)fd, (void)len, (void)at;
	return 0;
}

/* "molt,state-1" becomes "molt,state-9": the checksum is then wrong as well, and that is what is seen. */
static int other_format(int fd, off_t len, off_t at)
{
	static char buf[65536];
	(void)len, (void)at;
	ssize_t n = pread(fd, buf, sizeof(buf), 0);
	char *p = n > 0 ? memmem(buf, (size_t)n, "molt,state-", 11) : NULL;
	return !p || pwrite(fd, "9", 1, p - buf + 11) != 1;
}

/* ---- while the update is traced ---- */

static bool is_state(pid_t pid, int fd)
{
	char path[64], link[64];
	snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)pid, fd);
	ssize_t n = readlink(path, link, sizeof(link) - 1);
	link[n > 0 ? n : 0] = 0;
	return strstr(link, "memfd:molt-state");
}

/* The first is sealed before OFFER, the second before STATE. The seals are left out, for us to set. */
static int on_seal(struct session *s, pid_t tid, const uint64_t *args, const struct row *row)
{
	if (args[2] != ALL_SEALS || !is_state(tid, (int)args[0]) ||
	    ++states != (row->kind == MESSAGE_OFFER ? 1 : 2) || !row->spoil)
		return 0;
	state_fd = (int)args[0];
	return ptrace(PTRACE_POKEUSER, tid, offsetof(struct user_regs_struct, rdx), 0)
		       ? session_fail(s, "leaving out the seals: %s", strerror(errno))
		       : 0;
}

static int spoil(struct session *s, pid_t tid, const struct row *row)
{
	char path[64];
	snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)tid, state_fd);
	int fd = open(path, O_RDWR | O_CLOEXEC);
	int rc = fd < 0 || row->spoil(fd, blob_len, row->n) ||
		 (!row->unsealed && fcntl(fd, F_ADD_SEALS, ALL_SEALS));
	if (rc)
		session_fail(s, "changing the state: %s", strerror(errno));
	close(fd);
	return rc ? -1 : 0;
}

static void note_fds(const struct message *m)
{
	char path[64], link[256];
	nkept = m->nfds < MAX_KEPT ? m->nfds : MAX_KEPT;
	for (unsigned i = 0; i < nkept; i++) {
		snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)m->pid, m->fds[i]);
		ssize_t n = readlink(path, link, sizeof(link) - 1);
		link[n > 0 ? n : 0] = 0;
		const char *base = strrchr(link, '/');
		snprintf(kept[i].file, sizeof(kept[i].file), "%.31s", base ? base + 1 : link);
		snprintf(kept[i].name, sizeof(kept[i].name), "%.63s", m->names[i].name);
	}
}

/* What is on the way to the parent has the same numbers for other kinds (link.h). */
static bool is_it(const struct row *row, const struct inject_call *c, const struct message *m)
{
	bool has_fds = row->kind == MESSAGE_OFFER || row->kind == MESSAGE_FDS_SENT;
	return !done && c->image == row->sender && m->head.kind == row->kind &&
	       (!has_fds || m->nfds);
}

static int on_call(struct session *s, const struct inject_call *c, pid_t tid, const uint64_t *args,
		   void *opaque)
{
	const struct row *row = opaque;
	if (c->role != ROLE_LEADER)
		return 0;
	if (c->image == IMAGE_OLD && c->nr == SYS_fcntl && c->request == F_ADD_SEALS)
		return on_seal(s, tid, args, row);
	if (c->nr != SYS_sendmsg || !message_look(&message, tid, args) || !is_it(row, c, &message))
		return 0;
	done = true;
	if (row->change && row->change(&message, row))
		return session_fail(s, "changing message %u: %s", row->kind, strerror(errno));
	return row->spoil ? spoil(s, tid, row) : 0;
}

/* Of an update to which nothing is done: what is sent, and how the successor is started. */
static int look(struct session *s, const struct inject_call *c, pid_t tid, const uint64_t *args,
		void *opaque)
{
	bool *taken = opaque;
	if (c->image == IMAGE_NEW && !*taken) {
		*taken = true;
		return state_bytes_take_words(s, tid);
	}
	if (c->image != IMAGE_OLD || c->nr != SYS_sendmsg || !message_look(&message, tid, args))
		return 0;
	if (message.head.kind == MESSAGE_FDS_SENT && message.nfds)
		note_fds(&message);
	if (message.head.kind == MESSAGE_OFFER && message.nfds)
		return state_bytes_take_state(s, tid, message.fds[0]);
	return 0;
}

/* ---- the rows ---- */

static enum outcome run_row(struct matrix *x, void *opaque)
{
	(void)opaque;
	done = false;
	states = 0;
	return matrix_row(x);
}

/* @other: an outcome that is as good as @expected. */
static int run_either(struct matrix *x, struct row *row, enum outcome expected, enum outcome other,
		      const char *name)
{
	const char *only = getenv("MOLT_INJECT"); /* part of a row's name: to look at one */
	if (only && !strstr(name, only))
		return 0;
	x->in.nshots = 0;
	x->in.hook = on_call;
	x->in.opaque = row;
	x->name = name;
	enum outcome o = matrix_run(x, run_row, NULL);
	if (o != LOST && ((o != expected && o != other) || !done)) {
		session_fail(x->s, "the update is %s%s, expected: %s", outcome_names[o],
			     done ? "" : ", and nothing was changed", outcome_names[expected]);
		o = LOST;
	}
	if (o != LOST)
		printf("  row %s: %s\n", name, outcome_names[o]);
	return matrix_count(x, o, name);
}

static int run(struct matrix *x, struct row *row, enum outcome expected, const char *name)
{
	return run_either(x, row, expected, expected, name);
}

/* Two of a kind that nothing tells apart: eventfds share one inode. */
static bool twins(unsigned a, unsigned b)
{
	return !strcmp(kept[a].file, kept[b].file) && strstr(kept[a].file, "anon_inode:");
}

/*
 * The build misses what only the incumbent has. What the successor could open itself (kvm, the report) and any
 * other generation, which may be the guest's doing, are noticed in the pause, where all is compared. The standard
 * output that the successor inherited is the very one that was not sent.
 */
static int run_fd(struct matrix *x, const char *what,
		  int (*change)(struct message *m, const struct row *row), unsigned a, unsigned b,
		  int64_t n)
{
	char name[220];
	struct row row = {IMAGE_OLD, MESSAGE_FDS_SENT, change, .a = a, .b = b, .n = n};
	snprintf(name, sizeof(name), "%s: %s%s%s", what, kept[a].name, a == b ? "" : ", ",
		 a == b ? "" : kept[b].name);
	bool inherited = change == drop_fd && !strcmp(kept[a].name, "stdout");
	return run_either(x, &row, inherited ? DONE : REFUSED, BACK, name);
}

static int run_descriptors(struct matrix *x)
{
	char name[220];
	for (unsigned a = 0; a < nkept; a++) {
		if (run_fd(x, "missing", drop_fd, a, a, 0) ||
		    run_fd(x, "the log instead of", replace_fd, a, a, 0) ||
		    run_fd(x, "older", other_generation, a, a, -1) ||
		    run_fd(x, "newer", other_generation, a, a, 1) ||
		    run_fd(x, "no name", other_name, a, a, 0) ||
		    run_fd(x, "another name", other_name, a, a, 1))
			return -1;
		for (unsigned b = a + 1; b < nkept; b++) {
			snprintf(name, sizeof(name), "swapped: %s, %s", kept[a].name, kept[b].name);
			if (twins(a, b))
				matrix_except(x, name,
					      "the kernel gives both one inode; only molt itself "
					      "could swap them");
			else if (run_fd(x, "swapped", swap_fds, a, b, 0))
				return -1;
		}
	}
	return run_fd(x, "one number too few", drop_number, 0, 0, 0) ||
	       run_fd(x, "one name too few", drop_name, 0, 0, 0);
}

static int run_messages(struct matrix *x)
{
#define OLD(kind) IMAGE_OLD, MESSAGE_##kind
#define NEW(kind) IMAGE_NEW, MESSAGE_##kind
	static const struct {
		const char *name;
		enum outcome expected;
		struct row row;
	} rows[] = {
		{"offer: protocol 0", REFUSED, {OLD(OFFER), other_value, .n = 0}},
		{"offer: protocol 99", REFUSED, {OLD(OFFER), other_value, .n = 99}},
		{"offer: protocol -1", REFUSED, {OLD(OFFER), other_value, .n = -1}},
		{"offer: two descriptors", REFUSED, {OLD(OFFER), drop_number}},
		{"offer: states swapped", REFUSED, {OLD(OFFER), swap_fds, .a = 0, .b = 1}},
		{"offer: state and page swapped", REFUSED, {OLD(OFFER), swap_fds, .a = 1, .b = 2}},
		{"offer: the log as state", REFUSED, {OLD(OFFER), replace_fd, .a = 0}},
		{"offer: the log as room", REFUSED, {OLD(OFFER), replace_fd, .a = 1}},
		{"offer: the log as page", REFUSED, {OLD(OFFER), replace_fd, .a = 2}},
		{"offer: no kind", REFUSED, {OLD(OFFER), other_kind, .n = 99}},
		{"offer: no molt", REFUSED, {OLD(OFFER), other_magic}},
		{"offer: half a message", REFUSED, {OLD(OFFER), cut_short, .n = 8}},
		{"descriptors: no kind", REFUSED, {OLD(FDS_SENT), other_kind, .n = 99}},
		{"descriptors: no molt", REFUSED, {OLD(FDS_SENT), other_magic}},
		{"descriptors: half a message", REFUSED, {OLD(FDS_SENT), cut_short, .n = 8}},
		{"descriptors: no names", REFUSED, {OLD(FDS_SENT), cut_short, .n = 16}},
		{"build: no kind", REFUSED, {OLD(BUILD), other_kind, .n = 99}},
		{"build: no molt", REFUSED, {OLD(BUILD), other_magic}},
		{"build: half a message", REFUSED, {OLD(BUILD), cut_short, .n = 8}},
		{"state of 0 bytes", BACK, {OLD(STATE), other_value, .n = 0}},
		{"state of -1 bytes", BACK, {OLD(STATE), other_value, .n = -1}},
		{"state of 1 byte", BACK, {OLD(STATE), other_value, .n = 1}},
		{"state of all bytes", BACK, {OLD(STATE), other_value, .n = INT64_MAX}},
		{"state of one byte less", BACK, {OLD(STATE), add_value, .n = -1}},
		{"state of 1 GiB more", BACK, {OLD(STATE), add_value, .n = 1 << 30}},
		{"state: no kind", BACK, {OLD(STATE), other_kind, .n = 99}},
		{"state: no molt", BACK, {OLD(STATE), other_magic}},
		{"state: half a message", BACK, {OLD(STATE), cut_short, .n = 8}},
		{"hello: no kind", REFUSED, {NEW(HELLO), other_kind, .n = 99}},
		{"hello: no molt", REFUSED, {NEW(HELLO), other_magic}},
		{"hello: half a message", REFUSED, {NEW(HELLO), cut_short, .n = 8}},
		{"hello: nothing in it", REFUSED, {NEW(HELLO), cut_short, .n = 16}},
		{"got: no kind", REFUSED, {NEW(GOT), other_kind, .n = 99}},
		{"got: no molt", REFUSED, {NEW(GOT), other_magic}},
		{"got: half a message", REFUSED, {NEW(GOT), cut_short, .n = 8}},
		{"ready: no kind", REFUSED, {NEW(READY), other_kind, .n = 99}},
		{"ready: no molt", REFUSED, {NEW(READY), other_magic}},
		{"ready: half a message", REFUSED, {NEW(READY), cut_short, .n = 8}},
		/* It only makes a deadline of it, and it has committed by then. */
		{"ready: after -1 ns", DONE, {NEW(READY), other_value, .n = -1}},
		{"ready: after all time", DONE, {NEW(READY), other_value, .n = INT64_MAX}},
		{"done: no kind", DONE, {NEW(DONE), other_kind, .n = 99}},
		{"done: no molt", DONE, {NEW(DONE), other_magic}},
		{"done: half a message", DONE, {NEW(DONE), cut_short, .n = 8}},
	};
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct row row = rows[i].row;
		if (run(x, &row, rows[i].expected, rows[i].name))
			return -1;
	}
	return 0;
}

static int run_blob(struct matrix *x, enum message_kind kind, const char *what,
		    int (*how)(int fd, off_t len, off_t at), off_t at)
{
	char name[100];
	bool offer = kind == MESSAGE_OFFER;
	struct row row = {IMAGE_OLD, kind, .spoil = how, .n = at, .unsealed = how == nothing};
	snprintf(name, sizeof(name), "%s state: %s %lld", offer ? "offered" : "last", what,
		 (long long)at);
	return run(x, &row, offer ? REFUSED : BACK, name);
}

static int run_blobs(struct matrix *x, enum message_kind kind)
{
	static const struct {
		const char *name;
		int (*how)(int fd, off_t len, off_t at);
	} whole[] = {{"not sealed", nothing}, {"another format", other_format}};
	/* Whole updates with some bytes, a successor alone with every one. */
	off_t step = getenv("MOLT_LONG") ? 61 : getenv("MOLT_FAULT_SHORT") ? 1949 : 487;

	for (unsigned i = 0; i < sizeof(whole) / sizeof(whole[0]); i++)
		if (run_blob(x, kind, whole[i].name, whole[i].how, 0))
			return -1;
	for (off_t at = 0; at < blob_len; at += step)
		if (run_blob(x, kind, "cut off at", cut_off, at) ||
		    run_blob(x, kind, "changed at", flip_byte, at))
			return -1;
	return 0;
}

static int look_at_update(struct matrix *x)
{
	bool taken = false;
	x->in.nshots = 0;
	x->in.hook = look;
	x->in.opaque = &taken;
	if (matrix_row(x) != DONE)
		return session_fail(x->s, "the update to look at was not done");
	blob_len = record_number(x->s->record, "blob_bytes");
	return blob_len > 0 && nkept && taken ? 0 : session_fail(x->s, "an update without state");
}

int drive_state(struct session *s, unsigned updates)
{
	static struct matrix x;
	(void)updates;
	if (matrix_begin(&x, s, NULL) || look_at_update(&x) ||
	    state_bytes_run(s, blob_len, getenv("MOLT_FAULT_SHORT") ? SHORT_STEP : 1))
		return -1;
	return run_descriptors(&x) || run_messages(&x) || run_blobs(&x, MESSAGE_OFFER) ||
			       run_blobs(&x, MESSAGE_STATE)
		       ? -1
		       : matrix_end(&x);
}
