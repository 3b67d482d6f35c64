/* SPDX-License-Identifier: MIT */
/* Fills the page tables of a VM that has not run: how, and for how long. */
#include "vmm/warm.h"

#include <inttypes.h>
#include <linux/kvm.h>
#include <stdarg.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>

#include "vmm/arch.h"
#include "vmm/machine.h"
#include "vmm/sched.h"

#define STEP_LEN    (2 * MIB) /* it is called off between two of them */
#define PROGRESS_NS (100 * NS_PER_MS)
#define ROOM_NS	    (1000 * NS_PER_MS)
#define REST_MIN_NS NS_PER_MS /* sleeping for less costs more than it spares */
#define REST_MAX_NS (100 * NS_PER_MS)
#define ROOM_SPARE  (16 * MIB) /* what the hand-over itself may want, and the guest meanwhile */
#define RETRIES	    1000

/* linux/mman.h: newer than some C libraries. */
#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22 /* 5.14 */
#endif

/* linux/kvm.h of Linux 6.11: newer than the headers of Debian 12. */
#ifndef KVM_PRE_FAULT_MEMORY
struct kvm_pre_fault_memory {
	uint64_t gpa, size; /* in and out: what is left */
	uint64_t flags;
	uint64_t padding[5];
};
#define KVM_PRE_FAULT_MEMORY _IOWR(KVMIO, 0xd5, struct kvm_pre_fault_memory)
#endif

#define SHADOWED "KVM shadows page tables on this host"

struct run {
	struct machine *m;
	const struct warm_options *opt;
	struct warm_result *out;
	struct warm_map map;
	const char *root;
	bool chosen; /* which way; it takes a page that is there to find out */
	bool ended;  /* no way to go on; out->why says why */
	uint64_t begin_ns, progress_ns, room_ns; /* when it began; when these were last looked at */
	uint64_t rest_ns;			 /* that is due */
	uint64_t done;
};

const char *warm_way_text(enum warm_way way)
{
	static const char *const text[] = {"none", "pre-fault", "reader"};
	return (unsigned)way < ARRAY_LEN(text) ? text[way] : "?";
}

/* The first reason stays. */
static void __attribute__((format(printf, 2, 3))) why(struct run *r, const char *fmt, ...)
{
	va_list args;
	if (r->out->why[0])
		return;
	va_start(args, fmt);
	vsnprintf(r->out->why, sizeof(r->out->why), fmt, args);
	va_end(args);
}

static bool cancelled(const struct run *r)
{
	return r->opt->cancel && __atomic_load_n(r->opt->cancel, __ATOMIC_ACQUIRE);
}

/* ---- the ways ---- */

/* Done on vCPU 0, which has not run. It must not be in system management mode or in nested mode: these have other
 * page tables. The call may stop early, for signals among others (api.rst). */
static long pre_fault(struct run *r, uint64_t gpa, uint64_t len)
{
	struct kvm_pre_fault_memory range = {.gpa = gpa, .size = len};
	long rc = 0;
	for (unsigned tries = 0; !rc && range.size && tries < RETRIES && !cancelled(r);) {
		uint64_t left = range.size;
		rc = vm_ioctl(r->m->vcpus[0].fd, KVM_PRE_FAULT_MEMORY, &range);
		if (rc == -EAGAIN)
			rc = 0;
		tries = range.size < left ? 0 : tries + 1;
	}
	return rc < 0 ? rc : range.size ? -EAGAIN : 0;
}

/* Chooses by asking for the first page. A kernel that has the call refuses it where KVM shadows page tables; one
 * without says that it is invalid. The capability alone would not tell the two apart. */
static void choose(struct run *r, uint64_t gpa)
{
	struct error err = {0};
	r->chosen = true;
	long rc = pre_fault(r, gpa, PAGE_LEN);
	if (rc == -EOPNOTSUPP) {
		r->ended = true;
		why(r, SHADOWED);
	} else if (rc != -EINVAL && rc != -ENOTTY) {
		r->out->way = WARM_PRE_FAULT;
	} else if (arch_warm_open(r->m, &err)) {
		r->ended = true;
		why(r, "%s", err.text);
	} else {
		r->out->way = WARM_READER;
	}
}

/* One stretch of guest memory, which is in this process's page tables. */
static void warm_gpa(struct run *r, uint64_t gpa, uint64_t len)
{
	struct error err = {0};
	if (!r->chosen)
		choose(r, gpa);
	if (r->ended)
		return;
	if (r->out->way == WARM_PRE_FAULT) {
		long rc = pre_fault(r, gpa, len);
		if (rc < 0)
			why(r, "KVM_PRE_FAULT_MEMORY at 0x%lx: %s", gpa, strerror((int)-rc));
		else
			r->out->warmed += len;
		r->ended = rc < 0;
	} else if (arch_warm_read(r->m, gpa, len, r->opt->cancel, &err)) {
		why(r, "%s", err.text);
		r->ended = true;
	} else {
		r->out->warmed += len;
	}
}

/* ---- what there is, step by step ---- */

/* Maps it in this process, then in the VM. Poisoned pages stay for the guest to find. */
static void warm_file(struct run *r, uint64_t off, uint64_t len)
{
	const struct ram *ram = &r->m->ram;
	if (madvise(ram->hva + off, len, MADV_POPULATE_READ) < 0) {
		why(r, "guest memory at %lu MiB: %s", off / MIB, strerror(errno));
		return;
	}
	for (uint32_t i = 0; i < ram->state.nregions && !r->ended; i++) {
		uint64_t first = ram->state.offset[i], end = first + ram->state.len[i];
		uint64_t from = off > first ? off : first;
		uint64_t to = off + len < end ? off + len : end;
		if (from < to)
			warm_gpa(r, ram->state.gpa[i] + (from - first), to - from);
	}
}

/* One step: only what is in memory, where that can be known. */
static void warm_step(struct run *r, uint64_t off, uint64_t len)
{
	unsigned char present[STEP_LEN / PAGE_LEN];
	size_t pages = len / PAGE_LEN;
	if (!r->map.look) {
		warm_file(r, off, len);
		return;
	}
	if (mincore(r->m->ram.hva + off, len, present) < 0) {
		why(r, "guest memory: mincore: %s", strerror(errno));
		return;
	}
	for (size_t i = 0, end; i < pages && !r->ended && !cancelled(r); i = end) {
		for (end = i + 1; end < pages && (present[end] & 1) == (present[i] & 1); end++)
			;
		if (present[i] & 1)
			warm_file(r, off + i * PAGE_LEN, (end - i) * PAGE_LEN);
	}
}

/* ---- when ---- */

static void progress(struct run *r, uint64_t now)
{
	if (!r->opt->progress || now - r->progress_ns < PROGRESS_NS)
		return;
	r->progress_ns = now;
	r->opt->progress(r->opt->opaque, r->done, r->out->total);
}

static bool room_for(struct run *r, uint64_t len)
{
	struct warm_room room;
	uint64_t need = warm_cost(len, r->m->ram.state.page_len) + ROOM_SPARE;
	warm_room(r->root, &room);
	if (room.len >= need)
		return true;
	why(r, "page tables may take %lu MiB, %s leaves %lu MiB", need / MIB, room.limit,
	    room.len / MIB);
	return false;
}

/* May it go on? */
static bool go_on(struct run *r, uint64_t now)
{
	if (cancelled(r)) {
		why(r, "it was called off");
		return false;
	}
	if (now - r->begin_ns >= r->opt->budget_ms * NS_PER_MS) {
		why(r, "the budget of %u ms was used up", r->opt->budget_ms);
		return false;
	}
	if (now - r->room_ns >= ROOM_NS) {
		r->room_ns = now;
		uint64_t left = r->out->total > r->done ? r->out->total - r->done : 0;
		return room_for(r, left);
	}
	return !r->ended;
}

static void rest(struct run *r, uint64_t took_ns)
{
	r->rest_ns += took_ns / 100 * r->opt->rest_percent;
	if (r->rest_ns < REST_MIN_NS || cancelled(r))
		return;
	struct timespec ts = {.tv_nsec =
				      (long)(r->rest_ns < REST_MAX_NS ? r->rest_ns : REST_MAX_NS)};
	nanosleep(&ts, NULL);
	r->rest_ns = 0;
}

static void warm_all(struct run *r)
{
	uint64_t off, len;
	for (uint64_t at = 0; warm_map_next(&r->map, at, &off, &len);) {
		/* Steps end at multiples of their length, so that none cuts a huge page. */
		uint64_t most = STEP_LEN - off % STEP_LEN, now = now_ns();
		if (len > most)
			len = most;
		if (!go_on(r, now))
			return;
		warm_step(r, off, len);
		if (r->ended)
			return;
		r->done += len;
		at = off + len;
		uint64_t after = now_ns();
		progress(r, after);
		rest(r, after - now);
	}
}

/* Why nothing is to be done at all, or that nothing speaks against it. */
static bool worth_it(struct run *r)
{
	if (!r->opt->budget_ms)
		why(r, "turned off");
	else if (!arch_nested_paging(r->root))
		why(r, SHADOWED);
	else if (!r->out->total)
		why(r, "nothing of guest memory is there yet");
	else
		return room_for(r, r->out->total);
	return false;
}

int warm_run(struct machine *m, const struct warm_options *opt, struct warm_result *out,
	     struct error *err)
{
	struct run r = {.m = m, .opt = opt, .out = out, .root = opt->root ? opt->root : ""};

	*out = (struct warm_result){0};
	r.begin_ns = r.room_ns = r.progress_ns = now_ns();
	warm_map_init(&r.map, &m->ram, opt->pinned);
	if (opt->budget_ms)
		out->total = warm_map_total(&r.map);
	int rc = 0;
	if (worth_it(&r)) {
		sched_idle(); /* so that nobody waits for a processor because of this */
		warm_all(&r);
		sched_hurry(pthread_self()); /* what is left is short, and is waited for */
		rc = arch_warm_close(m, err);
		if (opt->progress)
			opt->progress(opt->opaque, r.done, out->total);
	}
	out->ns = now_ns() - r.begin_ns;
	return rc;
}
