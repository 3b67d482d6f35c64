/* SPDX-License-Identifier: MIT */
/*
 * What the new image finds is not what it was given: a descriptor is missing, is another one, or changed
 * places with a second one; guest memory has another size; the state is cut off, changed, or something
 * else. All that is done to its descriptor table right after exec: the keeper's is whole, so the old
 * program must come back.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "drives.h"
#include "matrix.h"
#include "session.h"
#include "state_bytes.h"

#define MAX_KEPT   64
#define SHORT_STEP 23 /* bytes */
#define ALL_SEALS  (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL)

struct kept {
	int fd;
	char file[64];
};

struct row {
	enum { LOOK, MISSING, REPLACED, SWAPPED, RAM_SIZE, BLOB } what;
	unsigned a, b; /* indices of kept descriptors */
	int (*make)(int from, int to, off_t len,
		    off_t at); /* BLOB: the other blob, from the good one */
	off_t at;	       /* BLOB: where */
};

static struct kept kept[MAX_KEPT];
static unsigned nkept, blob, ram;
static bool inherited[1024]; /* open over every exec, since whoever started the runner had it so */
static off_t blob_len;

/* ---- in the process that has just execed ---- */

static void look(pid_t pid)
{
	char path[300], link[64], info[512];
	struct stat st;

	snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
	DIR *dir = opendir(path);
	nkept = 0;
	for (struct dirent *e; dir && (e = readdir(dir));) {
		struct kept *k = &kept[nkept];
		unsigned flags = 0;
		k->fd = atoi(e->d_name);
		snprintf(path, sizeof(path), "/proc/%d/fdinfo/%s", (int)pid, e->d_name);
		int fd = k->fd > 2 ? open(path, O_RDONLY | O_CLOEXEC) : -1;
		ssize_t n = fd < 0 ? 0 : read(fd, info, sizeof(info) - 1);
		if (fd >= 0)
			close(fd);
		info[n > 0 ? n : 0] = 0;
		char *p = strstr(info, "flags:");
		if (!p || sscanf(p + 6, "%o", &flags) != 1 || flags & O_CLOEXEC ||
		    k->fd >= (int)sizeof(inherited) || inherited[k->fd])
			continue;
		snprintf(path, sizeof(path), "/proc/%d/fd/%s", (int)pid, e->d_name);
		n = readlink(path, link, sizeof(link) - 1);
		link[n > 0 ? n : 0] = 0;
		snprintf(k->file, sizeof(k->file), "%s",
			 strrchr(link, '/') ? strrchr(link, '/') + 1 : link);
		if (!strncmp(k->file, "memfd:molt-state", 16)) {
			blob = nkept;
			blob_len = stat(path, &st) ? 0 : st.st_size;
		}
		if (!strncmp(k->file, "memfd:molt-ram", 14))
			ram = nkept;
		if (++nkept == MAX_KEPT)
			break;
	}
	if (dir)
		closedir(dir);
}

/* Opens a file by name there, and puts it at @fd. */
static long put_file(pid_t pid, const char *path, int fd)
{
	long text = inject_text_in(pid, path);
	long from = text < 0 ? text : inject_call_in(pid, SYS_open, text, O_RDWR, 0);
	long rc = from < 0 ? from : inject_call_in(pid, SYS_dup3, from, fd, 0);
	if (from >= 0)
		inject_call_in(pid, SYS_close, from, 0, 0);
	return rc;
}

static long swap(pid_t pid, int a, int b)
{
	long spare = inject_call_in(pid, SYS_dup, a, 0, 0);
	long rc = spare < 0 ? spare : inject_call_in(pid, SYS_dup3, b, a, 0);
	if (rc >= 0)
		rc = inject_call_in(pid, SYS_dup3, spare, b, 0);
	inject_call_in(pid, SYS_close, spare, 0, 0);
	return rc;
}

static long put_ram(pid_t pid, int fd)
{
	long name = inject_text_in(pid, "molt-ram0");
	long from = inject_call_in(pid, SYS_memfd_create, name, 0, 0);
	long rc = from < 0 ? from : inject_call_in(pid, SYS_ftruncate, from, 128 << 20, 0);
	if (rc >= 0)
		rc = inject_call_in(pid, SYS_dup3, from, fd, 0);
	inject_call_in(pid, SYS_close, from, 0, 0);
	return rc;
}

static long put_blob(pid_t pid, const struct row *row)
{
	char path[64];
	snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)pid, kept[blob].fd);
	int from = open(path, O_RDONLY | O_CLOEXEC);
	int to = memfd_create("molt-state", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	int rc = from < 0 || to < 0 ? -1 : row->make(from, to, blob_len, row->at);
	snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)getpid(), to);
	long got = rc ? -EIO : put_file(pid, path, kept[blob].fd);
	close(from);
	close(to);
	return got;
}

static int change(struct session *s, pid_t pid, void *opaque)
{
	const struct row *row = opaque;
	long rc = 0;

	look(pid);
	if (!nkept)
		return session_fail(s, "no descriptor is kept over exec");
	switch (row->what) {
	case LOOK:
		return state_bytes_take(s, pid, kept[blob].fd);
	case MISSING:
		rc = inject_call_in(pid, SYS_close, kept[row->a].fd, 0, 0);
		break;
	case REPLACED:
		rc = put_file(pid, "/dev/null", kept[row->a].fd);
		break;
	case SWAPPED:
		rc = swap(pid, kept[row->a].fd, kept[row->b].fd);
		break;
	case RAM_SIZE:
		rc = put_ram(pid, kept[ram].fd);
		break;
	case BLOB:
		rc = put_blob(pid, row);
	}
	return rc < 0 ? session_fail(s, "changing its descriptors: %s", strerror((int)-rc)) : 0;
}

/* ---- other blobs ---- */

static int copy(int from, int to, off_t len)
{
	static char buf[4 << 20];
	ssize_t n = pread(from, buf, (size_t)len, 0);
	return n == len && pwrite(to, buf, (size_t)n, 0) == n ? 0 : -1;
}

static int seal(int fd)
{
	return fcntl(fd, F_ADD_SEALS, ALL_SEALS);
}

static int cut_off(int from, int to, off_t len, off_t at)
{
	(void)len;
	return (at && copy(from, to, at)) || seal(to);
}

static int flip_byte(int from, int to, off_t len, off_t at)
{
	unsigned char byte;
	return copy(from, to, len) || pread(to, &byte, 1, at) != 1 ||
	       pwrite(to, &(unsigned char){byte ^ 0xff}, 1, at) != 1 || seal(to);
}

static int not_sealed(int from, int to, off_t len, off_t at)
{
	(void)at;
	return copy(from, to, len);
}

static int zeros(int from, int to, off_t len, off_t at)
{
	(void)from, (void)at;
	return ftruncate(to, len) || seal(to);
}

/* "molt,state-1" becomes "molt,state-9": the checksum is then wrong as well, and that is what is seen. */
static int other_format(int from, int to, off_t len, off_t at)
{
	static char buf[65536];
	(void)at;
	ssize_t n = pread(from, buf, sizeof(buf), 0);
	char *p = n > 0 ? memmem(buf, (size_t)n, "molt,state-", 11) : NULL;
	return !p || copy(from, to, len) || pwrite(to, "9", 1, p - buf + 11) != 1 || seal(to);
}

/* ---- the rows ---- */

static int run(struct matrix *x, struct row *row, enum outcome expected, const char *name)
{
	x->in.nshots = 0;
	x->in.keeper = false;
	x->in.hook = change;
	x->in.hook_image = IMAGE_NEW;
	x->in.opaque = row;
	enum outcome o = matrix_row(x);
	if (o != LOST && o != expected) {
		session_fail(x->s, "the update is %s, expected: %s", outcome_names[o],
			     outcome_names[expected]);
		o = LOST;
	}
	if (o != LOST)
		printf("  row %s: %s\n", name, outcome_names[o]);
	return matrix_count(x, o, name);
}

/* Two of a kind that nothing tells apart: eventfds share one inode. */
static bool twins(unsigned a, unsigned b)
{
	return !strcmp(kept[a].file, kept[b].file) && strstr(kept[a].file, "anon_inode:");
}

static int run_descriptors(struct matrix *x)
{
	unsigned n = nkept;
	char name[200];

	for (unsigned a = 0; a < n; a++) {
		snprintf(name, sizeof(name), "missing: %s", kept[a].file);
		if (run(x, &(struct row){.what = MISSING, .a = a}, BACK, name))
			return -1;
		snprintf(name, sizeof(name), "/dev/null for %s", kept[a].file);
		if (run(x, &(struct row){.what = REPLACED, .a = a}, BACK, name))
			return -1;
		for (unsigned b = a + 1; b < n; b++) {
			snprintf(name, sizeof(name), "swapped: %s, %s", kept[a].file, kept[b].file);
			if (twins(a, b))
				matrix_except(x, name,
					      "the kernel gives both one inode; only molt itself "
					      "could swap them");
			else if (run(x, &(struct row){.what = SWAPPED, .a = a, .b = b}, BACK, name))
				return -1;
		}
	}
	return run(x, &(struct row){.what = RAM_SIZE}, BACK, "guest memory of another size");
}

static int run_blobs(struct matrix *x)
{
	static const struct {
		const char *name;
		int (*make)(int from, int to, off_t len, off_t at);
	} whole[] = {
		{"not sealed", not_sealed}, {"zeros", zeros}, {"another format", other_format}};
	/* Whole updates with some bytes, an image alone with every one. */
	off_t bytes = record_number(x->s->record, "blob_bytes"); /* of the good update just made */
	off_t step = getenv("MOLT_LONG") ? 61 : 487;
	char name[100];

	if (bytes <= 0)
		return session_fail(x->s, "no size of the state in %s", x->s->record);
	for (unsigned i = 0; i < sizeof(whole) / sizeof(whole[0]); i++) {
		snprintf(name, sizeof(name), "state: %s", whole[i].name);
		if (run(x, &(struct row){.what = BLOB, .make = whole[i].make}, BACK, name))
			return -1;
	}
	for (off_t at = 0; at < bytes; at += step) {
		snprintf(name, sizeof(name), "state: cut off at %lld", (long long)at);
		if (run(x, &(struct row){.what = BLOB, .make = cut_off, .at = at}, BACK, name))
			return -1;
		snprintf(name, sizeof(name), "state: byte %lld changed", (long long)at);
		if (run(x, &(struct row){.what = BLOB, .make = flip_byte, .at = at}, BACK, name))
			return -1;
	}
	return 0;
}

int drive_state(struct session *s, unsigned updates)
{
	static struct matrix x;
	struct row nothing = {.what = LOOK};
	(void)updates;
	if (matrix_begin(&x, s, NULL))
		return -1;
	look(s->pid); /* no update is under way */
	for (unsigned i = 0; i < nkept; i++)
		inherited[kept[i].fd] = true;
	if (run(&x, &nothing, DONE, "nothing changed"))
		return -1;
	if (state_bytes_run(s, record_number(s->record, "blob_bytes"),
			    getenv("MOLT_FAULT_SHORT") ? SHORT_STEP : 1))
		return -1;
	return run_descriptors(&x) || run_blobs(&x) ? -1 : matrix_end(&x);
}
