/* SPDX-License-Identifier: MIT */
/* Guest memory: one file, made or taken over, and its mapping. */
#include "vmm/ram.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <linux/mempolicy.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>

#include "cpr/state/fdset.h"
#include "vmm/arch.h"
#include "vmm/base/users.h"

#define HUGE_LEN  (2 * MIB)
#define FD_NAME	  "ram0"
#define PAGE_MAX  (1 * GIB)
#define GPA_LIMIT ((uint64_t)1 << 52) /* widest physical address, Intel SDM 3A 4.1.4 */

/* linux/memfd.h: newer than some C libraries. */
#ifndef MFD_HUGE_2MB
#define MFD_HUGE_2MB (21u << 26)
#endif
#ifndef MFD_HUGE_1GB
#define MFD_HUGE_1GB (30u << 26)
#endif
#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008u /* 6.3 */
#endif

static const struct field ram_fields[] = {
	FIELD_U(struct ram_state, size),       FIELD_U(struct ram_state, page_len),
	FIELD_U(struct ram_state, nregions),   FIELD_U_SINCE(struct ram_state, reserved, 1, 0),
	FIELD_ARRAY(struct ram_state, gpa),    FIELD_ARRAY(struct ram_state, len),
	FIELD_ARRAY(struct ram_state, offset),
};
STATE_CLASS(ram_state_class, "ram", 1, struct ram_state, ram_fields);

/* Reads a number from the sysfs folder of a device DAX node; 0: the file is no such node. */
static uint64_t dax_attribute(dev_t rdev, const char *name)
{
	char path[96], text[32];
	snprintf(path, sizeof(path), "/sys/dev/char/%u:%u/%s", major(rdev), minor(rdev), name);
	return file_read_text(path, text, sizeof(text)) > 0 ? strtoull(text, NULL, 0) : 0;
}

/* The page size of the file. Mappings and offsets must be multiples of it. */
static uint64_t page_len_of(int fd, const struct stat *st)
{
	struct statfs fs;
	if (S_ISCHR(st->st_mode)) {
		uint64_t align = dax_attribute(st->st_rdev, "align");
		return align ? align : HUGE_LEN;
	}
	if (!fstatfs(fd, &fs) && (uint64_t)fs.f_type == HUGETLBFS_MAGIC)
		return (uint64_t)fs.f_bsize;
	return PAGE_LEN;
}

static int open_memfd(const struct ram_options *opt, struct error *err)
{
	unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
	if (opt->hugetlb)
		flags |= MFD_HUGETLB | (opt->hugetlb == 2 ? MFD_HUGE_2MB : MFD_HUGE_1GB);
	int fd = memfd_create("molt-ram0", flags | MFD_NOEXEC_SEAL);
	if (fd < 0 && errno == EINVAL) /* before 6.3 */
		fd = memfd_create("molt-ram0", flags);
	if (fd >= 0)
		return fd;
	if (!opt->hugetlb)
		return error_end(err, EXIT_HOST, errno, "guest memory: memfd: %m");
	error_end(err, EXIT_HOST, errno, "guest memory: memfd of pages of %u MiB: %m",
		  opt->hugetlb);
	return error_hint(err, "ls /sys/kernel/mm/hugepages says which sizes the host has");
}

/* An unnamed file in folder @path. */
static int open_unnamed(const char *path, struct error *err)
{
	int fd = open(path, O_TMPFILE | O_EXCL | O_RDWR | O_CLOEXEC, 0600);
	if (fd >= 0)
		return fd;
	char name[sizeof(((struct ram_options *)0)->path) + 16];
	snprintf(name, sizeof(name), "%s/molt-ram0.XXXXXX", path);
	fd = mkostemp(name, O_CLOEXEC);
	if (fd >= 0) {
		unlink(name);
		return fd;
	}
	return error_file(err, errno, "guest memory: unnamed file in %.300s", path);
}

static int in_use(const char *path, struct error *err)
{
	char users[FILE_USERS_LEN];
	file_users("/proc", path, users, sizeof(users));
	error_end(err, EXIT_CONFIG, EBUSY, "guest memory: file %.300s is in use by %s", path,
		  users);
	return error_hint(err, "end that process, or name another file");
}

static int open_path(const char *path, struct error *err)
{
	struct stat st;
	if (!stat(path, &st) && S_ISDIR(st.st_mode))
		return open_unnamed(path, err);
	fd_auto int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0600);
	if (fd < 0)
		return error_file(err, errno, "guest memory: file %.300s", path);
	/* The lock belongs to the open file, which every successor gets. So it is held as long as the guest lives. */
	int rc = flock(fd, LOCK_EX | LOCK_NB) < 0 ? errno : 0;
	if (rc == EWOULDBLOCK)
		return in_use(path, err);
	if (rc) {
		error_end(err, EXIT_CONFIG, rc, "guest memory: file %.300s: lock: %m", path);
		return error_hint(err, "name a file where there are locks, such as in /dev/shm");
	}
	rc = fd;
	fd = -1;
	return rc;
}

static int no_huge_pages(struct ram *ram, int code, struct error *err)
{
	char path[96], text[32];
	snprintf(path, sizeof(path), "/sys/kernel/mm/hugepages/hugepages-%lukB/free_hugepages",
		 ram->state.page_len / KIB);
	int rc = file_read_text(path, text, sizeof(text));
	uint64_t need = ram->state.size / ram->state.page_len;
	error_errno(err, code, "guest memory: %lu huge pages of %lu MiB are needed, %s are free",
		    need, ram->state.page_len / MIB, rc > 0 ? text : "none");
	if (ram->state.page_len == HUGE_LEN)
		error_hint(err, "sysctl vm.nr_hugepages=N, N being what is in use now plus %lu",
			   need);
	else
		error_hint(err,
			   "reserve them on the kernel's command line: hugepagesz=1G "
			   "hugepages=%lu",
			   need);
	return error_exit(err, EXIT_HOST);
}

/*
 * Sets the NUMA policy, before the first page is allocated. The policy of a file of shmem or hugetlbfs is set through
 * any mapping and stays with the file (mbind(2)), so an update need not set it again.
 */
static int bind_node(const struct ram *ram, uint32_t node, struct error *err)
{
	unsigned long mask[RAM_MAX_NODES / (8 * sizeof(long))] = {0};
	char online[64] = "";
	void *map = mmap(NULL, ram->state.size, PROT_NONE, MAP_SHARED | MAP_NORESERVE, ram->fd, 0);
	if (map == MAP_FAILED)
		return error_end(err, EXIT_HOST, errno, "guest memory: mapping %lu MiB: %m",
				 ram->state.size / MIB);
	mask[node / (8 * sizeof(long))] = 1ul << node % (8 * sizeof(long));
	/* The kernel uses one bit less than maxnode says. */
	long rc = syscall(SYS_mbind, map, ram->state.size, MPOL_BIND, mask, RAM_MAX_NODES + 1, 0);
	int code = errno;
	munmap(map, ram->state.size);
	if (!rc)
		return 0;
	error_end(err, EXIT_HOST, code, "guest memory: NUMA node %u: %s", node, strerror(code));
	if (code == ENOSYS)
		return error_hint(err, "this kernel is without NUMA: leave node= out");
	file_read_text("/sys/devices/system/node/has_memory", online, sizeof(online));
	return error_hint(err, "nodes with memory that this process may use are among %s", online);
}

/* The file may hold somebody's data, perhaps a former guest's. This guest would read and overwrite it. */
static int size_regular(struct ram *ram, const struct ram_options *opt, uint64_t present,
			const char *what, struct error *err)
{
	if (present) {
		error_end(err, EXIT_CONFIG, EEXIST,
			  "guest memory: file %.300s is not empty, it has %lu bytes", what,
			  present);
		return error_hint(err,
				  "name a new file, or a folder, where molt makes an unnamed one; "
				  "or remove this one if nobody needs what is in it");
	}
	if (ftruncate(ram->fd, (off_t)ram->state.size) < 0)
		return error_end(err, EXIT_HOST, errno,
				 "guest memory: %.300s: growing to %lu MiB: %m", what,
				 ram->state.size / MIB);
	int rc = opt->bind ? bind_node(ram, opt->node, err) : 0;
	if (rc)
		return rc;
	/* A missing huge page would end the guest with SIGBUS later. So all are allocated now. */
	if (ram->state.page_len > PAGE_LEN &&
	    fallocate(ram->fd, 0, 0, (off_t)ram->state.size) < 0) {
		int code = errno;
		if (ftruncate(ram->fd, 0) < 0)
			log_warn("guest memory: %.300s stays grown", what);
		return no_huge_pages(ram, code, err);
	}
	return 0;
}

static int size_file(struct ram *ram, const struct ram_options *opt, struct error *err)
{
	const char *what = opt->path[0] ? opt->path : "memfd";
	struct stat st;
	if (fstat(ram->fd, &st) < 0)
		return error_errno(err, errno, "guest memory: %.300s", what);
	ram->state.page_len = page_len_of(ram->fd, &st);
	if (opt->size % ram->state.page_len)
		return error_end(err, EXIT_CONFIG, EINVAL,
				 "guest memory: %lu bytes are no multiple of the pages of "
				 "%lu KiB that %.300s has",
				 opt->size, ram->state.page_len / KIB, what);
	if (S_ISCHR(st.st_mode)) {
		uint64_t present = dax_attribute(st.st_rdev, "size");
		if (present >= opt->size)
			return 0;
		error_end(err, EXIT_CONFIG, EINVAL,
			  "guest memory: device %.300s has %lu bytes, %lu are needed", what,
			  present, opt->size);
		return error_hint(err, "a character device must be a device DAX (daxctl list)");
	}
	if (!S_ISREG(st.st_mode))
		return error_end(err, EXIT_CONFIG, EINVAL,
				 "guest memory: %.300s is no regular file, folder or device "
				 "DAX",
				 what);
	return size_regular(ram, opt, (uint64_t)st.st_size, what, err);
}

static int create_file(struct ram *ram, const struct ram_options *opt, struct error *err)
{
	int rc = arch_ram_layout(&ram->state, ram->state.size, err);
	if (rc)
		return rc;
	ram->fd = opt->path[0] ? open_path(opt->path, err) : open_memfd(opt, err);
	if (ram->fd < 0)
		return ram->fd;
	rc = size_file(ram, opt, err);
	if (rc)
		return rc;
	/* With these seals nobody can remove pages of the mapping, nor add further seals. */
	if (!opt->path[0] &&
	    fcntl(ram->fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
		return error_errno(err, errno, "guest memory: sealing the memfd");
	return 0;
}

int ram_create(struct ram *ram, const struct ram_options *opt, struct fdset *fds, struct error *err)
{
	*ram = (struct ram){.state.size = opt->size, .fd = -1};
	int rc = create_file(ram, opt, err) ?: fdset_keep(fds, FD_NAME, ram->fd, err);
	if (rc)
		fd_close(&ram->fd);
	return rc;
}

/* The regions come from the blob and are not trusted. */
static const char *regions_flaw(const struct ram_state *s)
{
	if (!is_pow2(s->page_len) || s->page_len < PAGE_LEN || s->page_len > PAGE_MAX)
		return "page size";
	if (!s->size || s->size % s->page_len || s->size > INT64_MAX)
		return "size";
	if (!s->nregions || s->nregions > RAM_MAX_REGIONS)
		return "number of regions";
	for (unsigned i = 0; i < s->nregions; i++) {
		if (!s->len[i] || (s->gpa[i] | s->len[i] | s->offset[i]) % PAGE_LEN)
			return "alignment";
		if (!range_fits(s->offset[i], s->len[i], s->size))
			return "offset in the file";
		if (!range_fits(s->gpa[i], s->len[i], GPA_LIMIT))
			return "guest physical address";
		for (unsigned k = 0; k < i; k++)
			if (ranges_overlap(s->gpa[i], s->len[i], s->gpa[k], s->len[k]) ||
			    ranges_overlap(s->offset[i], s->len[i], s->offset[k], s->len[k]))
				return "overlap of two regions";
	}
	return NULL;
}

int ram_adopt(struct ram *ram, struct fdset *fds, struct error *err)
{
	const struct ram_state *s = &ram->state;
	struct stat st;

	ram->hva = NULL;
	ram->huge_advised = false;
	ram->fd = fdset_get(fds, FD_NAME);
	if (ram->fd < 0)
		return error_set(err, EBADMSG, "guest memory: no descriptor %s was kept", FD_NAME);
	if (fstat(ram->fd, &st) < 0)
		return error_errno(err, errno, "guest memory: descriptor %s", FD_NAME);
	const char *flaw = s->page_len != page_len_of(ram->fd, &st) ? "page size" : regions_flaw(s);
	if (flaw)
		return error_set(err, EBADMSG, "guest memory: state: wrong %s", flaw);
	if (S_ISREG(st.st_mode)
		    ? (uint64_t)st.st_size != s->size
		    : !S_ISCHR(st.st_mode) || dax_attribute(st.st_rdev, "size") < s->size)
		return error_set(err, EBADMSG,
				 "guest memory: state says %lu bytes, the file has "
				 "%lld",
				 s->size, (long long)st.st_size);
	return 0;
}

int ram_map(struct ram *ram, struct error *err)
{
	/* gpa, hva and file offset must be equal modulo 2 MiB. Then a huge page of the file can be
	 * one in the page tables too, in this process and in KVM. */
	uint64_t size = ram->state.size;
	uint64_t align = ram->state.page_len > HUGE_LEN ? ram->state.page_len : HUGE_LEN;
	if (size > SIZE_MAX - align)
		return error_set(err, ENOMEM, "guest memory: too large to map");
	uint8_t *room = mmap(NULL, size + align, PROT_NONE,
			     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (room == MAP_FAILED)
		return error_end(err, EXIT_HOST, errno,
				 "guest memory: %lu MiB of address space: %m", size / MIB);
	uint8_t *hva = (uint8_t *)align_up((uintptr_t)room, align);
	if (mmap(hva, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED | MAP_NORESERVE, ram->fd,
		 0) == MAP_FAILED) {
		int code = errno;
		munmap(room, size + align);
		return error_end(err, EXIT_HOST, code, "guest memory: mapping %lu MiB: %m",
				 size / MIB);
	}
	/* The rest at both ends, less than @align, stays reserved, because unmapping it takes time. */
	ram->hva = hva;
	/* A core dump must not contain the guest's secrets, and its size must not delay the way back. */
	if (madvise(hva, size, MADV_DONTDUMP) < 0)
		log_warn("guest memory will be part of core dumps: %s", strerror(errno));
	/* No effect if the host's shmem_enabled is "never"; ram_page_text reports that. */
	ram->huge_advised = ram->state.page_len == PAGE_LEN && !madvise(hva, size, MADV_HUGEPAGE);
	return 0;
}

void ram_clear(struct ram *ram)
{
	struct stat st;
	if (!fstat(ram->fd, &st) && S_ISCHR(st.st_mode))
		memset(ram->hva, 0, ram->state.size);
}

void ram_abandon(struct fdset *fds)
{
	int fd = fdset_get(fds, FD_NAME);
	struct stat st;
	if (fd >= 0 && !fstat(fd, &st) && S_ISREG(st.st_mode) && ftruncate(fd, 0) < 0)
		return; /* a memfd, which goes with its last descriptor */
}

bool ram_gpa(const struct ram *ram, const void *hva, uint64_t *gpa)
{
	uint64_t at = (uintptr_t)hva - (uintptr_t)ram->hva;
	for (uint32_t i = 0; ram->hva && i < ram->state.nregions; i++) {
		if (at < ram->state.offset[i] || at - ram->state.offset[i] >= ram->state.len[i])
			continue;
		*gpa = ram->state.gpa[i] + (at - ram->state.offset[i]);
		return true;
	}
	return false;
}

void *ram_at(const struct ram *ram, uint64_t gpa, uint64_t len)
{
	const struct ram_state *s = &ram->state;
	for (unsigned i = 0; i < s->nregions; i++) {
		uint64_t off = gpa - s->gpa[i];
		if (gpa >= s->gpa[i] && off < s->len[i] && len <= s->len[i] - off)
			return ram->hva + s->offset[i] + off;
	}
	return NULL;
}

/* ---- its pages: asking for huge ones, telling which are in use ---- */

/* linux/mman.h: newer than some C libraries. */
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23 /* 5.14 */
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25 /* 6.1 */
#endif

int ram_collapse(struct ram *ram, struct error *err)
{
	uint64_t size = align_down(ram->state.size, HUGE_LEN), start_ns = now_ns(), done = 0;

	if (ram->state.page_len > PAGE_LEN)
		return 0;
	log_info("guest memory: touching and collapsing %lu MiB into huge pages", size / MIB);
	for (uint64_t at = 0; at < size; at += HUGE_LEN) {
		uint8_t *chunk = ram->hva + at;
		/* Pages that do not exist cannot be collapsed (EINVAL). */
		if (madvise(chunk, HUGE_LEN, MADV_POPULATE_WRITE) < 0)
			return error_end(err, EXIT_HOST, errno,
					 "guest memory: touching it at %lu MiB: %m", at / MIB);
		if (!madvise(chunk, HUGE_LEN, MADV_COLLAPSE)) {
			done += HUGE_LEN;
		} else if (errno == EINVAL) {
			log_warn("guest memory: this kernel cannot collapse this file's pages "
				 "(MADV_COLLAPSE needs 6.1)");
			return 0;
		}
	}
	log_info("guest memory: %lu of %lu MiB are in huge pages, after %lu ms", done / MIB,
		 size / MIB, (now_ns() - start_ns) / NS_PER_MS);
	return 0;
}

/* The sum of these fields for the mapping, in KiB (proc_pid_smaps(5)). */
static uint64_t sum_kib(const struct ram *ram, const char *const keys[], unsigned n)
{
	uint64_t from = (uintptr_t)ram->hva, to = from + ram->state.size, sum = 0;
	bool inside = false;
	char line[512];

	FILE *f = fopen("/proc/self/smaps", "re");
	if (!f)
		return 0;
	while (fgets(line, sizeof(line), f)) {
		unsigned long long a, b;
		if (sscanf(line, "%llx-%llx ", &a, &b) == 2)
			inside = a >= from && b <= to;
		for (unsigned i = 0; inside && i < n; i++)
			if (!strncmp(line, keys[i], strlen(keys[i])))
				sum += strtoull(line + strlen(keys[i]), NULL, 10);
	}
	fclose(f);
	return sum;
}

/* KiB of the mapping that are behind entries of 2 MiB in this process's page tables. */
static uint64_t huge_kib(const struct ram *ram)
{
	static const char *const keys[] = {"ShmemPmdMapped:", "FilePmdMapped:"};
	return sum_kib(ram, keys, ARRAY_LEN(keys));
}

unsigned ram_count_pages(const struct ram *ram, struct ram_pages pages[RAM_PAGE_SIZES])
{
	static const char *const present[] = {"Rss:", "Shared_Hugetlb:", "Private_Hugetlb:"};
	uint64_t all = sum_kib(ram, present, ARRAY_LEN(present)) * KIB, huge = 0;
	unsigned n = 0;
	if (ram->state.page_len == PAGE_LEN)
		huge = huge_kib(ram) * KIB;
	pages[n++] = (struct ram_pages){ram->state.page_len, all > huge ? all - huge : 0};
	if (huge)
		pages[n++] = (struct ram_pages){HUGE_LEN, huge};
	return n;
}

void ram_page_text(const struct ram *ram, char *buf, size_t size)
{
	if (ram->state.page_len >= GIB) {
		snprintf(buf, size, "%luG", ram->state.page_len / GIB);
	} else if (ram->state.page_len >= MIB) {
		snprintf(buf, size, "%luM", ram->state.page_len / MIB);
	} else {
		uint64_t huge_mib = huge_kib(ram) / KIB;
		if (huge_mib)
			snprintf(buf, size, "4K (2M: %lu of %lu MiB)", huge_mib,
				 ram->state.size / MIB);
		else
			snprintf(buf, size, "4K");
	}
}
