/* SPDX-License-Identifier: MIT */
/* The table of kept descriptors: names, identities, generations; its node in the state. */
#include "cpr/state/fdset.h"

#include <libfdt.h>
#include <sys/stat.h>

#include "cpr/state/state.h"

/* 32-bit FNV-1a. */
static uint32_t hash_name(const char *name)
{
	uint32_t hash = 0x811c9dc5;
	for (; *name; name++)
		hash = (hash ^ (uint8_t)*name) * 0x01000193;
	return hash;
}

static uint32_t key(const struct fdset_entry *e, enum fdset_key by)
{
	return by == FDSET_BY_NAME ? e->hash : (uint32_t)e->fd;
}

/* Where the chain of @key begins. */
static uint16_t *chain(const struct fdset *set, enum fdset_key by, uint32_t key)
{
	return &set->first[by * set->room + (key & (set->room - 1))];
}

static void link_entry(struct fdset *set, unsigned at)
{
	struct fdset_entry *e = &set->e[at];
	for (enum fdset_key by = 0; by < FDSET_KEYS; by++) {
		uint16_t *first = chain(set, by, key(e, by));
		e->next[by] = *first;
		*first = (uint16_t)(at + 1);
	}
}

static void unlink_entry(struct fdset *set, unsigned at)
{
	struct fdset_entry *e = &set->e[at];
	for (enum fdset_key by = 0; by < FDSET_KEYS; by++) {
		uint16_t *link = chain(set, by, key(e, by));
		while (*link != at + 1)
			link = &set->e[*link - 1].next[by];
		*link = e->next[by];
	}
}

static struct fdset_entry *find(const struct fdset *set, const char *name)
{
	uint32_t hash = hash_name(name);
	unsigned at = set->n ? *chain(set, FDSET_BY_NAME, hash) : 0;
	for (; at; at = set->e[at - 1].next[FDSET_BY_NAME])
		if (set->e[at - 1].hash == hash && !strcmp(set->e[at - 1].name, name))
			return &set->e[at - 1];
	return NULL;
}

static struct fdset_entry *find_number(const struct fdset *set, int fd)
{
	unsigned at = set->n ? *chain(set, FDSET_BY_NUMBER, (uint32_t)fd) : 0;
	for (; at; at = set->e[at - 1].next[FDSET_BY_NUMBER])
		if (set->e[at - 1].fd == fd)
			return &set->e[at - 1];
	return NULL;
}

static int grow(struct fdset *set, unsigned want, struct error *err)
{
	if (want > FDSET_MAX) {
		error_set(err, ENOSPC, "more than %d kept descriptors", FDSET_MAX);
		return error_hint(err, "give the guest fewer devices");
	}
	if (want <= set->room)
		return 0;
	unsigned room = set->room ? set->room : 32;
	while (room < want)
		room *= 2;
	struct fdset_entry *e = pool_alloc(room, sizeof(*e) + FDSET_KEYS * sizeof(*set->first));
	if (!e)
		return error_errno(err, ENOMEM, "table of %u kept descriptors", room);
	if (set->n)
		memcpy(e, set->e, set->n * sizeof(*e));
	pool_free(set->e);
	set->e = e;
	set->first = (uint16_t *)(e + room);
	set->room = room;
	for (unsigned i = 0; i < set->n; i++)
		link_entry(set, i);
	return 0;
}

int fdset_reserve(struct fdset *set, unsigned n, struct error *err)
{
	return grow(set, n < FDSET_MAX ? n : FDSET_MAX, err);
}

static int identify(struct fdset_entry *e, struct error *err)
{
	struct stat st;
	if (fstat(e->fd, &st) < 0)
		return error_errno(err, errno, "descriptor %s (%d)", e->name, e->fd);
	e->mode = st.st_mode & S_IFMT;
	e->dev = st.st_dev;
	e->ino = st.st_ino;
	e->rdev = st.st_rdev;
	return 0;
}

static bool same_file(const struct fdset_entry *a, const struct fdset_entry *b)
{
	return a->mode == b->mode && a->dev == b->dev && a->ino == b->ino && a->rdev == b->rdev;
}

int fdset_get(struct fdset *set, const char *name)
{
	struct fdset_entry *e = find(set, name);
	if (!e)
		return -1;
	e->taken = true;
	return e->fd;
}

int fdset_keep(struct fdset *set, const char *name, int fd, struct error *err)
{
	if (strlen(name) >= FDSET_NAME_LEN)
		return error_set(err, EINVAL, "descriptor name %s is too long", name);
	if (find(set, name))
		return error_set(err, EEXIST, "descriptor %s is kept already", name);
	int rc = grow(set, set->n + 1, err);
	if (rc)
		return rc;
	struct fdset_entry *e = &set->e[set->n];
	*e = (struct fdset_entry){.fd = fd, .taken = true};
	memcpy(e->name, name, strlen(name));
	e->hash = hash_name(name);
	rc = identify(e, err);
	if (!rc) {
		e->generation = ++set->generations;
		link_entry(set, set->n++);
		set->changes++;
	}
	return rc;
}

int fdset_replace(struct fdset *set, const char *name, int fd, struct error *err)
{
	fdset_close(set, name);
	return fdset_keep(set, name, fd, err);
}

int fdset_receive(struct fdset *set, const char *name, uint64_t generation, int fd,
		  struct error *err)
{
	uint64_t before = set->generations;
	int rc = fdset_replace(set, name, fd, err);
	if (rc)
		return rc;
	struct fdset_entry *e = &set->e[set->n - 1];
	e->generation = generation;
	e->taken = false;
	set->generations = generation > before ? generation : before;
	return 0;
}

void fdset_close(struct fdset *set, const char *name)
{
	struct fdset_entry *e = find(set, name);
	if (!e)
		return;
	close(e->fd);
	unsigned at = (unsigned)(e - set->e), last = set->n - 1;
	unlink_entry(set, at);
	if (at != last) {
		unlink_entry(set, last);
		*e = set->e[last];
		link_entry(set, at);
	}
	set->n = last;
	set->changes++;
}

void fdset_rename(struct fdset *set, const char *from, const char *to)
{
	struct fdset_entry *e = find(set, from);
	if (!e)
		return;
	unlink_entry(set, (unsigned)(e - set->e));
	memset(e->name, 0, sizeof(e->name));
	memcpy(e->name, to, strnlen(to, FDSET_NAME_LEN - 1));
	e->hash = hash_name(e->name);
	e->sent = false;
	link_entry(set, (unsigned)(e - set->e));
}

int fdset_write(void *fdt, const struct fdset *set, struct error *err)
{
	size_t names_len = 0;
	void *names, *numbers, *ids, *generations;
	for (unsigned i = 0; i < set->n; i++)
		names_len += strlen(set->e[i].name) + 1;
	const int len = (int)set->n * 8;
	int rc = fdt_begin_node(fdt, "fds")
			 ?: fdt_property_placeholder(fdt, "names", (int)names_len, &names)
			 ?: fdt_property_placeholder(fdt, "numbers", len, &numbers)
			 ?: fdt_property_placeholder(fdt, "identities", 3 * len, &ids)
			 ?: fdt_property_placeholder(fdt, "generations", len, &generations)
			 ?: fdt_end_node(fdt);
	if (rc)
		return error_set(err, ENOSPC, "state fds: %s", fdt_strerror(rc));
	for (unsigned i = 0; i < set->n; i++) {
		const struct fdset_entry *e = &set->e[i];
		names = stpcpy(names, e->name) + 1;
		fdt32_st((char *)numbers + i * 8, (uint32_t)e->fd);
		fdt32_st((char *)numbers + i * 8 + 4, e->mode);
		fdt64_st((char *)ids + i * 24, e->dev);
		fdt64_st((char *)ids + i * 24 + 8, e->ino);
		fdt64_st((char *)ids + i * 24 + 16, e->rdev);
		fdt64_st((char *)generations + i * 8, e->generation);
	}
	return 0;
}

int fdset_list(struct fdset *set, struct state_blob *blob, struct error *err)
{
	int node = state_claim(blob, "fds");
	if (node < 0)
		return error_set(err, EBADMSG, "state fds: the node is missing");
	int names_len, numbers_len, ids_len, generations_len;
	const char *names = fdt_getprop(blob->fdt, node, "names", &names_len);
	const char *numbers = fdt_getprop(blob->fdt, node, "numbers", &numbers_len);
	const char *ids = fdt_getprop(blob->fdt, node, "identities", &ids_len);
	/* Not in the state of 0.1.0. */
	const char *generations = fdt_getprop(blob->fdt, node, "generations", &generations_len);
	if (!names || !numbers || !ids || numbers_len % 8 || ids_len % 24 ||
	    numbers_len / 8 != ids_len / 24 || (generations && generations_len != numbers_len))
		return error_set(err, EBADMSG, "state fds: the table is damaged");
	unsigned n = (unsigned)numbers_len / 8;
	set->n = 0;
	if (set->room)
		memset(set->first, 0, FDSET_KEYS * set->room * sizeof(*set->first));
	int rc = grow(set, n, err);
	if (rc)
		return rc;
	const char *end = names + names_len;
	for (unsigned i = 0; i < n; i++) {
		struct fdset_entry e = {
			.fd = (int)fdt32_ld((const void *)(numbers + i * 8)),
			.mode = fdt32_ld((const void *)(numbers + i * 8 + 4)),
			.dev = fdt64_ld((const void *)(ids + i * 24)),
			.ino = fdt64_ld((const void *)(ids + i * 24 + 8)),
			.rdev = fdt64_ld((const void *)(ids + i * 24 + 16)),
			.generation =
				generations ? fdt64_ld((const void *)(generations + i * 8)) : 0,
		};
		size_t len = strnlen(names, (size_t)(end - names));
		if (!len || len >= FDSET_NAME_LEN || names + len >= end)
			return error_set(err, EBADMSG, "state fds: name %u is damaged", i);
		memcpy(e.name, names, len);
		e.hash = hash_name(e.name);
		names += len + 1;
		if (e.fd < 0 || (e.fd <= STDERR_FILENO && strncmp(e.name, "std", 3)))
			return error_set(err, EBADMSG, "state fds: %s has number %d", e.name, e.fd);
		if (find(set, e.name))
			return error_set(err, EBADMSG, "state fds: %s is named twice", e.name);
		if (find_number(set, e.fd))
			return error_set(err, EBADMSG, "state fds: %s shares number %d", e.name,
					 e.fd);
		set->e[set->n] = e;
		link_entry(set, set->n++);
	}
	if (names != end)
		return error_set(err, EBADMSG, "state fds: more names than numbers");
	return 0;
}

static int compare(const struct fdset *set, struct fdset *listed, struct state_blob *blob,
		   struct error *err)
{
	int rc = fdset_list(listed, blob, err);
	for (unsigned i = 0; !rc && i < listed->n; i++) {
		const struct fdset_entry *want = &listed->e[i], *have = find(set, want->name);
		if (!have)
			rc = error_set(err, EBADF, "descriptor %s was not sent", want->name);
		else if (have->generation != want->generation || !same_file(have, want))
			rc = error_set(err, EBADF, "descriptor %s is another than the state's",
				       want->name);
	}
	return rc;
}

int fdset_match(struct fdset *set, struct fdset *listed, struct state_blob *blob, struct error *err)
{
	int rc = compare(set, listed, blob, err);
	for (unsigned i = 0; !rc && i < set->n;) {
		if (find(listed, set->e[i].name))
			i++;
		else
			fdset_close(set, set->e[i].name);
	}
	return rc;
}

void fdset_close_untaken(struct fdset *set)
{
	for (unsigned i = 0; i < set->n;) {
		if (set->e[i].taken) {
			i++;
			continue;
		}
		log_warn("descriptor %s was kept over the update and nobody wants it: closed",
			 set->e[i].name);
		fdset_close(set, set->e[i].name);
	}
}
