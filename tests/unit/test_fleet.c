/* SPDX-License-Identifier: MIT */
/* All guests at once: guests are threads that answer at a socket in a run directory of their own. */
#include <fcntl.h>
#include <ftw.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "tests/unit/unit.h"
#include "vmm/control/fleet.h"
#include "vmm/control/request.h"

#define NOBODY 65534

static char runtime_dir[64], dir[CONTROL_PATH_LEN];

struct guest {
	const char *answer;
	int listener, busy_ms;
	pthread_t thread;
	unsigned asked;
};

static _Atomic unsigned busy, busiest;

static void *serve(void *opaque)
{
	struct guest *g = opaque;
	char request[256];
	for (;;) {
		int fd = accept(g->listener, NULL, NULL);
		if (fd < 0)
			return NULL;
		if (recv(fd, request, sizeof(request), 0) > 0) {
			unsigned now = ++busy;
			if (now > busiest)
				busiest = now;
			g->asked++;
			usleep((useconds_t)g->busy_ms * 1000);
			busy--;
			send(fd, g->answer, strlen(g->answer), MSG_NOSIGNAL);
		}
		close(fd);
	}
}

/* @name ends with ".sock", or is one in a folder. */
static int make_socket_at(const char *name)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	snprintf(addr.sun_path, sizeof(addr.sun_path), "%.60s/%.30s", dir, name);
	assert_int_equal(bind(fd, (const struct sockaddr *)&addr, sizeof(addr)), 0);
	assert_int_equal(listen(fd, 8), 0);
	return fd;
}

static int make_socket(const char *name)
{
	char at[64];
	snprintf(at, sizeof(at), "%s.sock", name);
	return make_socket_at(at);
}

static void guest_start(struct guest *g, const char *name, const char *answer)
{
	*g = (struct guest){.answer = answer, .listener = make_socket(name)};
	assert_int_equal(pthread_create(&g->thread, NULL, serve, g), 0);
}

static void guest_end(struct guest *g)
{
	shutdown(g->listener, SHUT_RDWR);
	pthread_join(g->thread, NULL);
	close(g->listener);
}

static int setup(void **state)
{
	strcpy(runtime_dir, "/tmp/molt-fleet.XXXXXX");
	assert_non_null(mkdtemp(runtime_dir));
	setenv("XDG_RUNTIME_DIR", runtime_dir, 1);
	/* Root's guests are in /run/molt, which is not the test's. */
	if (!geteuid())
		assert_int_equal(chown(runtime_dir, NOBODY, NOBODY) || seteuid(NOBODY), 0);
	assert_int_equal(control_rundir(dir, sizeof(dir), NULL), 0);
	mkdir(dir, 0700);
	busiest = 0;
	return 0;
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *ftw)
{
	return remove(path);
}

static int teardown(void **state)
{
	if (!getuid())
		assert_int_equal(seteuid(0), 0);
	return nftw(runtime_dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

static char out[16384];

/* What @f prints. */
#define PRINTED(f)                                                                                 \
	({                                                                                         \
		fflush(stdout);                                                                    \
		int old_ = dup(STDOUT_FILENO), new_ = memfd_create("out", 0);                      \
		dup2(new_, STDOUT_FILENO);                                                         \
		int rc_ = (f);                                                                     \
		fflush(stdout);                                                                    \
		dup2(old_, STDOUT_FILENO);                                                         \
		ssize_t n_ = pread(new_, out, sizeof(out) - 1, 0);                                 \
		out[n_ > 0 ? n_ : 0] = 0;                                                          \
		close(old_);                                                                       \
		close(new_);                                                                       \
		rc_;                                                                               \
	})

static void lists_those_that_live(void **state)
{
	struct guest web, db;
	guest_start(&web, "web",
		    "{\"pid\":4711,\"version\":\"0.2.0\",\"state\":\"running\",\"uptime_s\":7300,"
		    "\"updates\":3,\"devices\":[{\"name\":\"vfio x\",\"kept\":true}]}\n");
	guest_start(&db, "db",
		    "{\"pid\":12,\"version\":\"0.1.0\",\"state\":\"running\",\"uptime_s\":5,"
		    "\"updates\":0,\"devices\":[{\"name\":\"vfio x\",\"kept\":false,"
		    "\"reason\":\"it sleeps\"}]}\n");
	close(make_socket("dead"));
	assert_int_equal(PRINTED(fleet_list(false, 5)), 0);
	assert_non_null(strstr(out, "NAME"));
	const char *first = strstr(out, "db "), *second = strstr(out, "web ");
	assert_true(first && second && first < second);
	assert_non_null(strstr(out, "vfio x: it sleeps"));
	assert_non_null(
		strstr(out, "4711      0.2.0          running       2h      3        possible"));
	assert_null(strstr(out, "dead"));
	assert_int_equal(PRINTED(fleet_list(true, 5)), 0);
	assert_non_null(strstr(out, "\"guests\":[{\"pid\":12,"));
	assert_non_null(strstr(out, "\"kept\":true}]}]}\n"));
	guest_end(&web);
	guest_end(&db);
}

/* As one of molt@.service has it; a socket beside the folder counts, and the guest is there once. */
static void a_guest_with_its_own_folder(void **state)
{
	static const char answer[] = "{\"pid\":4711,\"state\":\"running\",\"version\":\"1\"}\n";
	const char *found;
	struct guest g = {.answer = answer};
	char path[CONTROL_PATH_LEN + 32];
	snprintf(path, sizeof(path), "%s/empty", dir);
	assert_int_equal(mkdir(path, 0700), 0);
	snprintf(path, sizeof(path), "%s/web", dir);
	assert_int_equal(mkdir(path, 0700), 0);
	g.listener = make_socket_at("web/control.sock");
	assert_int_equal(pthread_create(&g.thread, NULL, serve, &g), 0);
	assert_int_equal(PRINTED(fleet_list(false, 5)), 0);
	assert_non_null(found = strstr(out, "web "));
	assert_non_null(strstr(found, "4711 "));
	assert_null(strstr(out, "empty"));
	assert_int_equal(symlinkat("web/control.sock", AT_FDCWD, strcat(path, ".sock")), 0);
	assert_int_equal(PRINTED(fleet_list(false, 5)), 0);
	assert_non_null(found = strstr(out, "web "));
	assert_null(strstr(found + 1, "web "));
	assert_int_equal(g.asked, 2);
	guest_end(&g);
	/* It has ended: what it left goes, as of any guest. */
	unlink(path);
	assert_int_equal(close(open(strcat(strcpy(path, dir), "/web/control.sock.lock"),
				    O_RDWR | O_CREAT | O_CLOEXEC, 0600)),
			 0);
	assert_int_equal(PRINTED(fleet_list(false, 5)), 0);
	assert_non_null(strstr(out, "no guests"));
	assert_int_not_equal(access(path, F_OK), 0);
}

/* Only with the lock, which a guest that is being started holds. */
static void removes_what_the_dead_left(void **state)
{
	char sock[CONTROL_PATH_LEN + 32], lock[CONTROL_PATH_LEN + 32];
	snprintf(sock, sizeof(sock), "%s/dead.sock", dir);
	snprintf(lock, sizeof(lock), "%s/dead.sock.lock", dir);
	close(make_socket("dead"));
	int fd = open(lock, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	assert_int_equal(flock(fd, LOCK_EX), 0);
	assert_int_equal(PRINTED(fleet_list(false, 5)), 0);
	assert_non_null(strstr(out, "no guests"));
	assert_int_equal(access(sock, F_OK), 0);
	close(fd);
	assert_int_equal(PRINTED(fleet_list(false, 5)), 0);
	assert_int_not_equal(access(sock, F_OK), 0);
	assert_int_not_equal(access(lock, F_OK), 0);
}

/* Connected and never answered: nobody accepts. */
static void a_guest_that_hangs(void **state)
{
	const struct fleet_update u = {.request = "update\n", .parallel = 1, .timeout_s = 1};
	int fd = make_socket("hung");
	assert_int_equal(PRINTED(fleet_list(false, 1)), 0);
	assert_non_null(strstr(out, "hung"));
	assert_non_null(strstr(out, "no answer within 1 s"));
	assert_int_equal(PRINTED(fleet_update(&u)), EXIT_REFUSED);
	assert_non_null(strstr(out, "hung: its answer is missing: no answer within 1 s\n"));
	close(fd);
}

#define GOOD                                                                                       \
	"{\"event\":\"update\",\"result\":\"ok\",\"old_version\":\"1\",\"new_version\":\"2\","     \
	"\"pause_ns\":612000}\n"
#define BAD                                                                                        \
	"{\"event\":\"update\",\"result\":\"refused\",\"reason\":\"not molt\","                    \
	"\"remedy\":\"take another\"}\n"

static void rolls_out(void **state)
{
	struct guest g[5];
	static const char *const names[] = {"a", "b", "c", "d", "e"};
	struct fleet_update u = {.request = "update\n", .parallel = 1};
	for (unsigned i = 0; i < ARRAY_LEN(g); i++)
		guest_start(&g[i], names[i], i == 2 ? BAD : GOOD);
	/* The third says no: the others are not tried. */
	assert_int_equal(PRINTED(fleet_update(&u)), EXIT_REFUSED);
	assert_non_null(strstr(out, "a: 1 -> 2, guest paused 0.612 ms\n"));
	assert_non_null(strstr(out, "c: refused, the guest runs on: not molt\n"
				    "c:   remedy: take another\n"));
	assert_non_null(strstr(out, "5 guests: 2 updated, 1 refused, 2 not tried\n"));
	assert_int_equal(g[3].asked, 0);
	/* But with this they are, two at a time. */
	u.go_on = true;
	u.parallel = 2;
	for (unsigned i = 0; i < ARRAY_LEN(g); i++)
		g[i].busy_ms = 100;
	assert_int_equal(PRINTED(fleet_update(&u)), EXIT_REFUSED);
	assert_non_null(strstr(out, "5 guests: 4 updated, 1 refused, 0 not tried\n"));
	assert_int_equal(busiest, 2);
	g[2].answer = GOOD;
	close(make_socket("dead"));
	assert_int_equal(PRINTED(fleet_update(&u)), 0);
	assert_non_null(strstr(out, "5 guests: 5 updated, 0 refused, 0 not tried\n"));
	u.check = true;
	assert_int_equal(PRINTED(fleet_update(&u)), 0);
	assert_non_null(strstr(out, "5 guests: 5 can be updated, 0 refused, 0 not tried\n"));
	for (unsigned i = 0; i < ARRAY_LEN(g); i++)
		guest_end(&g[i]);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(lists_those_that_live),
		TEST(a_guest_with_its_own_folder),
		TEST(removes_what_the_dead_left),
		TEST(a_guest_that_hangs),
		TEST(rolls_out),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
