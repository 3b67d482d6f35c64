/* SPDX-License-Identifier: MIT */
/* Fills the page tables of a VM that has not run: with what, and when; what room there is for
 * them. */
#include "vmm/warm.h"

#include <fcntl.h>
#include <inttypes.h>
#include <linux/kvm.h>
#include <sched.h>
#include <stdarg.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>

#include "vmm/arch.h"
#include "vmm/machine.h"

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
	struct sched_param param = {0};

	*out = (struct warm_result){0};
	r.begin_ns = r.room_ns = r.progress_ns = now_ns();
	warm_map_init(&r.map, &m->ram, opt->pinned);
	if (opt->budget_ms)
		out->total = warm_map_total(&r.map);
	int rc = 0;
	if (worth_it(&r)) {
		/* So that nobody waits for a processor because of this. Where SCHED_IDLE is refused, the rests
		 * between two steps remain. */
		syscall(SYS_sched_setscheduler, 0, SCHED_IDLE,
			&param); /* musl's function does nothing */
		warm_all(&r);
		rc = arch_warm_close(m, err);
		if (opt->progress)
			opt->progress(opt->opaque, r.done, out->total);
	}
	out->ns = now_ns() - r.begin_ns;
	return rc;
}

/* ---- which stretches of the memory file are there ---- */

/* Of a file system on persistent memory, whose pages are in no page cache? By statx(2), whose header C libraries
 * lack, or have in their own way: stx_attributes is its second eight bytes (linux/stat.h; 5.8). */
#define STATX_LEN 256
#define ATTR_DAX  0x00200000u
static bool is_dax(int fd)
{
	uint64_t stx[STATX_LEN / 8] = {0};
	return !syscall(SYS_statx, fd, "", AT_EMPTY_PATH, 0, stx) && stx[1] & ATTR_DAX;
}

void warm_map_init(struct warm_map *map, const struct ram *ram, bool pinned)
{
	struct stat st = {0};
	*map = (struct warm_map){.fd = ram->fd, .size = ram->state.size};
	bool known = !fstat(ram->fd, &st);
	/* Files of huge pages and device DAX have all their pages from the start (ram_create), but lseek() does not
	 * tell: it fails, or says that all is data, or a hole. */
	map->whole = pinned || ram->state.page_len > PAGE_LEN || !S_ISREG(st.st_mode);
	if (!known || map->whole)
		return;
	map->look = !is_dax(ram->fd);
	/* A file that has blocks but says that all of it is a hole does not tell either. mincore does. */
	map->whole = st.st_blocks && lseek(ram->fd, 0, SEEK_DATA) < 0 && map->look;
}

static uint64_t clip(off_t at, uint64_t size)
{
	return at < 0 || (uint64_t)at > size ? size : (uint64_t)at;
}

bool warm_map_next(const struct warm_map *map, uint64_t at, uint64_t *off, uint64_t *len)
{
	uint64_t from = at, to = map->size;
	if (at >= map->size)
		return false;
	if (!map->whole) {
		off_t data = lseek(map->fd, (off_t)at, SEEK_DATA);
		if (data < 0) /* ENXIO: there is no more data. Other errors: the rest stays cold */
			return false;
		from = align_down(clip(data, map->size), PAGE_LEN);
		off_t hole = from < map->size ? lseek(map->fd, data, SEEK_HOLE) : -1;
		to = align_up(clip(hole, map->size), PAGE_LEN);
		if (from < at)
			from = at;
		if (to > map->size)
			to = map->size;
	}
	*off = from;
	*len = to > from ? to - from : 0;
	return *len;
}

uint64_t warm_map_total(const struct warm_map *map)
{
	uint64_t sum = 0, off, len;
	for (uint64_t at = 0; warm_map_next(map, at, &off, &len); at = off + len)
		sum += len;
	return sum;
}

/* ---- room for page tables: what they take, and what the host and our memory cgroups leave ---- */

#define PATH_MAX_LEN 4096
#define ENTRY_LEN    8 /* bytes of an entry in a page table: x86-64 and arm64 */
#define HUGE_LEN     (2 * MIB)

/* An entry in the VM's page tables and one in the process's for each page; a sixteenth for the levels above, and
 * for what KVM keeps about each table. Huge pages of a file with small ones count as small. */
uint64_t warm_cost(uint64_t len, uint64_t page_len)
{
	uint64_t entries = len / (page_len >= HUGE_LEN ? HUGE_LEN : PAGE_LEN) * 2;
	return entries * ENTRY_LEN + entries * ENTRY_LEN / 16;
}

/* A number in a file; false where there is none, as in "max". */
static bool read_number(const char *folder, const char *name, uint64_t *out)
{
	char path[PATH_MAX_LEN + 64], text[32], *end;
	snprintf(path, sizeof(path), "%s/%s", folder, name);
	if (file_read_text(path, text, sizeof(text)) <= 0)
		return false;
	*out = strtoull(text, &end, 10);
	return end != text;
}

static void lower(struct warm_room *room, uint64_t limit, uint64_t used, const char *name,
		  const char *group)
{
	uint64_t left = limit > used ? limit - used : 0;
	if (left >= room->len)
		return;
	room->len = left;
	snprintf(room->limit, sizeof(room->limit), "%s of %.64s", name, group[0] ? group : "/");
}

/* One group and all above it: each has a limit of its own. @mount is where the hierarchy is mounted; groups that
 * are not to be seen there, as in a container, are left out. */
static void look_up(struct warm_room *room, const char *mount, char *group, const char *usage,
		    const char *const limits[])
{
	char folder[PATH_MAX_LEN];
	uint64_t used, limit;
	for (char *end = group + strlen(group);; end = strrchr(group, '/')) {
		if (!end)
			return;
		*end = 0;
		int n = snprintf(folder, sizeof(folder), "%s%s", mount, group);
		if (n > 0 && (size_t)n < sizeof(folder) && read_number(folder, usage, &used))
			for (unsigned i = 0; limits[i]; i++)
				if (read_number(folder, limits[i], &limit))
					lower(room, limit, used, limits[i], group);
		if (end == group)
			return;
	}
}

/* A line of /proc/self/cgroup: "0::/path" (version 2) or "4:memory:/path" (cgroups(7)). */
static void look_at_line(struct warm_room *room, const char *root, char *line)
{
	static const char *const v2[] = {"memory.max", "memory.high", NULL};
	static const char *const v1[] = {"memory.limit_in_bytes", NULL};
	/* version 2 alone, or beside version 1 */
	static const char *const mounts[] = {"/sys/fs/cgroup", "/sys/fs/cgroup/unified"};
	char mount[PATH_MAX_LEN], group[PATH_MAX_LEN];

	char *list = strchr(line, ':');
	char *path = list ? strchr(list + 1, ':') : NULL;
	if (!path || path[1] != '/')
		return;
	*path++ = 0;
	if (!strcmp(path, "/"))
		path++;
	if (!list[1]) {
		for (unsigned i = 0; i < ARRAY_LEN(mounts); i++) {
			snprintf(mount, sizeof(mount), "%s%s", root, mounts[i]);
			snprintf(group, sizeof(group), "%s", path);
			look_up(room, mount, group, "memory.current", v2);
		}
	} else if (!strcmp(list + 1, "memory")) {
		snprintf(mount, sizeof(mount), "%s/sys/fs/cgroup/memory", root);
		snprintf(group, sizeof(group), "%s", path);
		look_up(room, mount, group, "memory.usage_in_bytes", v1);
	}
}

void warm_room(const char *root, struct warm_room *out)
{
	char path[PATH_MAX_LEN], text[PATH_MAX_LEN * 2], *rest = NULL;
	*out = (struct warm_room){.len = UINT64_MAX};

	snprintf(path, sizeof(path), "%s/proc/meminfo", root);
	const char *at =
		file_read_text(path, text, sizeof(text)) > 0 ? strstr(text, "MemAvailable:") : NULL;
	if (at) {
		out->len = strtoull(at + strlen("MemAvailable:"), NULL, 10) * KIB;
		snprintf(out->limit, sizeof(out->limit), "MemAvailable");
	}
	snprintf(path, sizeof(path), "%s/proc/self/cgroup", root);
	if (file_read_text(path, text, sizeof(text)) <= 0)
		return;
	for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest))
		look_at_line(out, root, line);
}
