/* SPDX-License-Identifier: MIT */
/* `molt list`, and `molt update --all`: guest after guest over its control socket. */
#include "vmm/control/fleet.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/file.h>

#include "vmm/base/json.h"
#include "vmm/control/client.h"
#include "vmm/control/request.h"

static int fail(const struct error *err)
{
	log_error(err);
	return (int)err->exit;
}

/* Nobody listens at the socket. Its lock tells whether the guest has ended, or is just being started. Files are
 * removed with the lock held; a molt that gets the lock then sees that its file is gone (claim.c). */
static void remove_dead(const char *name)
{
	char path[CONTROL_PATH_LEN], lock[CONTROL_PATH_LEN + 8];
	if (client_socket_path(name, path, NULL))
		return;
	snprintf(lock, sizeof(lock), "%s.lock", path);
	fd_auto int fd = open(lock, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB))
		return;
	unlink(path);
	unlink(lock);
}

/* The guest's answer to @request, the caller's to free; NULL: see @err. */
static char *ask(const char *name, const char *request, unsigned timeout_s, struct error *err)
{
	struct client_link l;
	char *answer = NULL;
	int rc = client_connect(&l, name, timeout_s, err);
	if (rc == -ECONNREFUSED)
		remove_dead(name);
	if (rc)
		return NULL;
	const char *line = client_send(&l, request, err) ? NULL : client_line(&l, err);
	if (line && !(answer = strdup(line)))
		error_errno(err, ENOMEM, "answer of guest %.100s", name);
	client_close(&l);
	return answer;
}

/* ---- list ---- */

/* The first device that would have an update refused, and why; "": none. */
static void blocked_by(const char *status, char *text, size_t size)
{
	char kept[8], name[64], reason[400];
	*text = 0;
	for (const char *d = json_first(json_get(status, "devices")); d; d = json_next(d)) {
		if (!strcmp(json_get_text(d, "kept", kept, sizeof(kept)), "true"))
			continue;
		snprintf(text, size, "%s: %s", json_get_text(d, "name", name, sizeof(name)),
			 json_get_text(d, "reason", reason, sizeof(reason)));
		return;
	}
}

static void span_text(uint64_t s, char *text, size_t size)
{
	if (s < 120)
		snprintf(text, size, "%lus", s);
	else if (s < 7200)
		snprintf(text, size, "%lum", s / 60);
	else if (s < 172800)
		snprintf(text, size, "%luh", s / 3600);
	else
		snprintf(text, size, "%lud", s / 86400);
}

#define ROW "%-20s %-9s %-14s %-13s %-7s %-8s %s\n"

static void print_guest(const char *name, const char *status, const struct error *err)
{
	char pid[24], version[32], state[32], updates[24], span[24], blocked[480];
	if (!status) {
		printf(ROW, name, "-", "-", "-", "-", "-", err->text);
		return;
	}
	span_text(json_get_u64(status, "uptime_s"), span, sizeof(span));
	blocked_by(status, blocked, sizeof(blocked));
	printf(ROW, name, json_get_text(status, "pid", pid, sizeof(pid)),
	       json_get_text(status, "version", version, sizeof(version)),
	       json_get_text(status, "state", state, sizeof(state)), span,
	       json_get_text(status, "updates", updates, sizeof(updates)),
	       blocked[0] ? blocked : "possible");
}

static void print_json(const char *name, const char *status, const struct error *err, bool first)
{
	char buf[2048];
	struct json j;
	if (!first)
		putchar(',');
	if (status) {
		fputs(status, stdout);
		return;
	}
	json_begin(&j, buf, sizeof(buf));
	json_open(&j, NULL, '{');
	json_string(&j, "name", name);
	json_string(&j, "result", "error");
	json_string(&j, "reason", err->text);
	json_string(&j, "remedy", err->hint);
	json_close(&j, '}');
	fwrite(j.text, 1, j.len, stdout);
}

int fleet_list(bool json, unsigned timeout_s)
{
	char(*names)[CLIENT_NAME_LEN];
	struct error err = {0};
	unsigned shown = 0;
	int n = client_guests(&names, &err);
	if (n < 0)
		return fail(&err);
	if (json)
		fputs("{\"event\":\"list\",\"result\":\"ok\",\"guests\":[", stdout);
	for (int i = 0; i < n; i++) {
		char *status = ask(names[i], "status\n", timeout_s, &err);
		bool ended = !status && (err.code == ECONNREFUSED || err.code == ENOENT);
		if (!ended && json)
			print_json(names[i], status, &err, !shown);
		if (!ended && !json && !shown)
			printf(ROW, "NAME", "PID", "VERSION", "STATE", "SINCE", "UPDATES",
			       "UPDATE");
		if (!ended && !json)
			print_guest(names[i], status, &err);
		shown += !ended;
		free(status);
	}
	free(names);
	if (json)
		puts("]}");
	else if (!shown)
		puts("no guests (molt run --name NAME makes one that is listed here)");
	return 0;
}

/* ---- update ---- */

struct rollout {
	const struct fleet_update *u;
	char (*names)[CLIENT_NAME_LEN];
	int n, next;
	unsigned updated, refused, ended;
	pthread_mutex_t lock;
};

static void tell(struct rollout *r, const char *name, const char *record, const struct error *err)
{
	char old[64], new[64], text[2048];
	bool ok = record && !strcmp(json_get_text(record, "result", text, sizeof(text)), "ok");
	bool ended = !record && (err->code == ECONNREFUSED || err->code == ENOENT);
	r->updated += ok;
	r->ended += ended;
	r->refused += !ok && !ended;
	if (ended)
		return;
	if (r->u->json) {
		print_json(name, record, err, true);
		putchar('\n');
	} else if (ok && json_get(record, "pause_ns")) {
		uint64_t us = json_get_u64(record, "pause_ns") / 1000;
		printf("%s: %s -> %s, guest paused %lu.%03lu ms\n", name,
		       json_get_text(record, "old_version", old, sizeof(old)),
		       json_get_text(record, "new_version", new, sizeof(new)), us / 1000,
		       us % 1000);
	} else if (ok) {
		printf("%s: the update can be done\n", name);
	} else {
		printf("%s: %s: %s\n", name,
		       record ? "refused, the guest runs on" : "its answer is missing",
		       record ? json_get_text(record, "reason", text, sizeof(text)) : err->text);
		const char *remedy =
			record ? json_get_text(record, "remedy", text, sizeof(text)) : err->hint;
		if (remedy[0])
			printf("%s:   remedy: %s\n", name, remedy);
	}
	fflush(stdout);
}

static void *roll(void *opaque)
{
	struct rollout *r = opaque;
	pthread_mutex_lock(&r->lock);
	while (r->next < r->n && (!r->refused || r->u->go_on)) {
		const char *name = r->names[r->next++];
		struct error err = {0};
		pthread_mutex_unlock(&r->lock);
		char *record = ask(name, r->u->request, r->u->timeout_s, &err);
		pthread_mutex_lock(&r->lock);
		tell(r, name, record, &err);
		free(record);
	}
	pthread_mutex_unlock(&r->lock);
	return NULL;
}

int fleet_update(const struct fleet_update *u)
{
	struct rollout r = {.u = u, .lock = PTHREAD_MUTEX_INITIALIZER};
	struct error err;
	pthread_t threads[64];
	unsigned started = 0;
	r.n = client_guests(&r.names, &err);
	if (r.n < 0)
		return fail(&err);
	/* This thread is one of them. */
	while (started + 1 < u->parallel && started < ARRAY_LEN(threads) &&
	       !pthread_create(&threads[started], NULL, roll, &r))
		started++;
	roll(&r);
	for (unsigned i = 0; i < started; i++)
		pthread_join(threads[i], NULL);
	unsigned untried = (unsigned)(r.n - r.next);
	unsigned there = (unsigned)r.n - r.ended;
	if (!u->json)
		printf("%u guest%s: %u %s, %u refused, %u not tried\n", there,
		       there == 1 ? "" : "s", r.updated, u->check ? "can be updated" : "updated",
		       r.refused, untried);
	free(r.names);
	return r.refused || untried ? EXIT_REFUSED : 0;
}
