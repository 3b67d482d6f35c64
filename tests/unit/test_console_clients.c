/* SPDX-License-Identifier: MIT */
/* The console in a file, on a pseudo terminal, on a socket: readers that come late, leave, or do
 * not read. */
#include <sys/eventfd.h>

#include "tests/unit/console.h"
#include "vmm/base/pool.h"

/* --- file --- */

static void appends_to_a_file(void **state)
{
	char path[64], spec[80];
	snprintf(path, sizeof(path), "%s/log", folder);
	snprintf(spec, sizeof(spec), "file:%s", path);
	int fd = open(path, O_WRONLY | O_CREAT, 0600);
	put(fd, "before\n");
	close(fd);
	start(spec);
	guest_writes("one\n");
	take_over(spec);
	guest_writes("two\n");
	fd = open(path, O_RDONLY);
	assert_string_equal(read_all(fd), "before\none\ntwo\n");
	close(fd);
}

static void a_file_that_cannot_be_opened(void **state)
{
	char spec[80];
	snprintf(spec, sizeof(spec), "file:%s/no/log", folder);
	assert_int_equal(open_console(spec), -ENOENT);
	assert_non_null(strstr(err.text, "/no/log"));
	assert_int_equal(err.exit, EXIT_CONFIG);
	snprintf(spec, sizeof(spec), "file:%s/fifo", folder);
	mkfifo(spec + 5, 0600);
	assert_int_equal(open_console(spec), -ENXIO);
	assert_non_null(strstr(err.hint, "reader"));
}

static void a_full_disk_does_not_stop_the_guest(void **state)
{
	char text[400] = "";
	int log = memfd_create("stderr", MFD_CLOEXEC),
	    was = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 0);
	start("file:/dev/full");
	dup2(log, STDERR_FILENO);
	for (int i = 0; i < 10000; i++)
		assert_int_equal(guest_writes("0123456789"), 10);
	dup2(was, STDERR_FILENO);
	close(was);
	ssize_t n = pread(log, text, sizeof(text) - 1, 0);
	close(log);
	assert_in_range(n, 1, sizeof(text) - 2); /* once */
	assert_non_null(strstr(text, "--console file:/dev/full: what the guest writes is lost: "));
	assert_non_null(strstr(text, "remedy: make room"));
}

/* --- pty --- */

static void a_late_reader_of_a_pty_sees_the_end(void **state)
{
	char link[64], spec[80], target[64] = "", line[32];
	int total = 40000;
	snprintf(link, sizeof(link), "%s/tty", folder);
	snprintf(spec, sizeof(spec), "pty:%s", link);
	start(spec);
	assert_true(readlink(link, target, sizeof(target) - 1) > 0);
	assert_memory_equal(target, "/dev/pts/", 9);
	for (int i = 0; i < total; i++) {
		snprintf(line, sizeof(line), "%08d\r\n", i);
		assert_int_equal(guest_writes(line), 10);
		if (i == total / 2)
			take_over(spec);
	}
	/* The end is there, and what is there has no gap. */
	int fd = open(link, O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
	static char all[262144];
	size_t n = 0;
	for (int i = 0; i < 100; i++) {
		strcpy(all + n, read_all(fd));
		n += strlen(all + n);
		turn();
	}
	assert_true(n >= 8192);
	char *p = strchr(all, '\n') + 1;
	long first = strtol(p, NULL, 10);
	for (long i = first; i < total; i++, p += 10)
		assert_int_equal(strtol(p, NULL, 10), i);
	assert_string_equal(p, "");

	put(fd, "in\r");
	poll(&(struct pollfd){.fd = m.console->in_fd, .events = POLLIN}, 1, 2000);
	turn();
	assert_memory_equal(got, "in\r", 3);
	close(fd);
	turn(); /* a reader that leaves is no hangup */
	assert_int_equal(guest_writes("x"), 1);
	console_close(m.console);
	assert_int_equal(readlink(link, target, sizeof(target)), -1);
}

static void a_link_is_not_stolen(void **state)
{
	char link[64], spec[80];
	snprintf(link, sizeof(link), "%s/tty", folder);
	snprintf(spec, sizeof(spec), "pty:%s", link);
	close(open(link, O_WRONLY | O_CREAT, 0600));
	assert_int_equal(open_console(spec), -EEXIST);
	while (m.fds.n)
		fdset_close(&m.fds, m.fds.e[0].name);
	unlink(link);
	assert_int_equal(symlink("/dev/pts/gone", link), 0);
	start(spec);
}

/* --- unix --- */

static char socket_path[64], socket_spec[80];

static void start_unix(void)
{
	snprintf(socket_path, sizeof(socket_path), "%s/sock", folder);
	snprintf(socket_spec, sizeof(socket_spec), "unix:%s", socket_path);
	start(socket_spec);
}

static int client(void)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	strcpy(addr.sun_path, socket_path);
	assert_int_equal(connect(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	turn();
	return fd;
}

/* A client whom there is no room to keep is told of a few times, however often it comes. */
static void clients_that_cannot_be_kept(void **state)
{
	int log = memfd_create("log", MFD_CLOEXEC),
	    saved = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 100);
	struct stat st;
	start_unix();
	assert_int_equal(fdset_keep(&m.fds, "console-client", eventfd(0, EFD_CLOEXEC), &err), 0);
	dup2(log, STDERR_FILENO);
	for (int i = 0; i < 100; i++)
		close(client());
	dup2(saved, STDERR_FILENO);
	assert_int_equal(fstat(log, &st), 0);
	assert_in_range(st.st_size, 1, 1000);
	close(saved);
	close(log);
	fdset_close(&m.fds, "console-client");
}

/* What a client has typed into a guest that does not read must not keep others out once it is gone. */
static void a_client_that_leaves_input_behind(void **state)
{
	start_unix();
	appetite = 0;
	int one = client();
	put(one, "stuck");
	turn();
	close(one);
	int two = client(); /* the guest may still read it */
	assert_non_null(strstr(read_all(two), "client already"));
	close(two);
	m.console->taken_ns = 0;
	two = client();
	assert_string_equal(read_all(two), "");
	guest_writes("here");
	assert_string_equal(read_all(two), "here");
	appetite = 100;
	console_ready(m.console);
	assert_int_equal(ngot, 5);
	put(two, "on");
	turn();
	assert_memory_equal(got, "stuckon", 7);
	m.console->taken_ns = 0;
	int three = client(); /* the one that is there stays */
	assert_non_null(strstr(read_all(three), "client already"));
	close(three);
	close(two);
}

static void clients_of_a_socket(void **state)
{
	struct stat st;
	char c;
	start_unix();
	assert_int_equal(stat(socket_path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	guest_writes("early\r\n");
	int one = client();
	assert_string_equal(read_all(one), "early\r\n");
	put(one, "hi");
	turn();
	assert_memory_equal(got, "hi", 2);

	int two = client();
	assert_non_null(strstr(read_all(two), "client already"));
	assert_int_equal(read(two, &c, 1), 0);
	close(two);

	take_over(socket_spec); /* the client does not notice */
	guest_writes("later\r\n");
	assert_string_equal(read_all(one), "later\r\n");
	close(one);
	turn();
	assert_int_equal(fdset_get(&m.fds, "console-client"), -1);

	two = client();
	assert_string_equal(read_all(two), "early\r\nlater\r\n");
	put(two, "yo");
	turn();
	assert_memory_equal(got, "hiyo", 4);
	close(two);
	turn();
	console_close(m.console);
	assert_int_equal(stat(socket_path, &st), -1);
}

static void a_late_client_gets_whole_last_lines(void **state)
{
	char line[32];
	start_unix();
	for (int i = 0; i < 10000; i++) {
		snprintf(line, sizeof(line), "%08d\r\n", i);
		assert_int_equal(guest_writes(line), 10);
	}
	int fd = client();
	turn();
	const char *all = read_all(fd);
	size_t n = strlen(all);
	assert_true(n > CONSOLE_RING_LEN / 2 && n % 10 == 0);
	assert_string_equal(all + n - 10, "00009999\r\n");
	assert_int_equal(strtol(all, NULL, 10), 10000 - n / 10);
	close(fd);
	turn();
}

static void a_client_that_does_not_read(void **state)
{
	start_unix();
	int fd = client();
	for (int i = 0; i < 100000; i++)
		assert_int_equal(guest_writes("0123456789"), 10);
	close(fd);
	turn();
	assert_int_equal(guest_writes("x"), 1);
	assert_int_equal(m.console->out_fd, -1);
}

static void stale_sockets_go_and_live_ones_stay(void **state)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	char lock[80];
	snprintf(socket_path, sizeof(socket_path), "%s/sock", folder);
	snprintf(socket_spec, sizeof(socket_spec), "unix:%s", socket_path);
	snprintf(lock, sizeof(lock), "%s.lock", socket_path);
	strcpy(addr.sun_path, socket_path);
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	bind(fd, (struct sockaddr *)&addr, sizeof(addr));
	listen(fd, 1);
	assert_int_equal(open_console(socket_spec), -EADDRINUSE); /* live */
	fdset_close(&m.fds, "console-lock");
	close(fd);
	assert_int_equal(open_console(socket_spec), 0); /* stale now */

	/* Another molt: our lock is held, although nobody accepts for the moment. */
	static struct machine other;
	struct console *con;
	assert_int_equal(console_open(&other, socket_spec, &con, &err), -EADDRINUSE);
	assert_non_null(strstr(err.text, socket_path));
	pool_free(other.fds.e);
	memset(&other, 0, sizeof(other));

	/* Not a socket at all. */
	snprintf(socket_spec, sizeof(socket_spec), "unix:%s", folder);
	assert_int_equal(console_open(&other, socket_spec, &con, &err), -EEXIST);
	snprintf(lock, sizeof(lock), "%s.lock", folder);
	unlink(lock);
	fdset_close(&other.fds, "console-lock");
	pool_free(other.fds.e);
}

static void a_path_that_is_too_long(void **state)
{
	char spec[300] = "unix:/";
	memset(spec + 6, 'x', 200);
	assert_int_equal(open_console(spec), -ENAMETOOLONG);
}

/* ---- a state is loaded twice: one that was offered, and the one of the pause ---- */

struct saved {
	uint64_t data[16384];
	size_t len;
};

static void save(struct saved *to)
{
	static const struct state_header header = {"v", "b"};
	if (state_save(&m.tree, &m.fds, &header, to->data, sizeof(to->data), &to->len, &err))
		fail_msg("save: %s", err.text);
}

/* Loads @from; its descriptors are those that are kept. */
static void load(const struct saved *from)
{
	static struct state_blob blob;
	int rc = state_open(&blob, from->data, from->len, &err);
	if (!rc)
		rc = fdset_list(&m.fds, &blob, &err);
	if (!rc && !m.console)
		rc = open_console(socket_spec);
	if (!rc)
		rc = state_load(&blob, &m.tree, &err);
	if (rc)
		fail_msg("load: %s", err.text);
}

/* Another program takes over: only descriptors are left. */
static void successor(const struct saved *offered, const struct saved *last)
{
	loop_renew();
	pool_free(m.console);
	m.console = NULL;
	m.tree.n = 0;
	load(offered);
	load(last);
}

static void a_client_that_comes_between_two_loads(void **state)
{
	static struct saved offered, last;
	start_unix();
	save(&offered);
	int fd = client();
	save(&last);
	successor(&offered, &last);
	assert_true(m.console->in_fd >= 0);
	assert_int_equal(m.console->in_fd, fdset_get(&m.fds, "console-client"));
	assert_int_equal(console_start(m.console, &err), 0);
	guest_writes("hello\r\n");
	assert_string_equal(read_all(fd), "hello\r\n");
	put(fd, "hi");
	turn();
	assert_memory_equal(got, "hi", 2);
	close(fd);
}

static void a_client_that_leaves_between_two_loads(void **state)
{
	static struct saved offered, last;
	start_unix();
	int fd = client();
	save(&offered);
	/* What it was under in the offer is still open in the successor, under another number here. */
	int kept = fcntl(m.console->in_fd, F_DUPFD_CLOEXEC, 200), number = m.console->in_fd;
	close(fd);
	turn();
	assert_int_equal(m.console->in_fd, -1);
	save(&last);
	assert_int_equal(dup2(kept, number), number);
	successor(&offered, &last);
	close(number);
	close(kept);
	assert_int_equal(m.console->in_fd, -1);
	assert_int_equal(m.console->out_fd, -1);
	assert_int_equal(console_start(m.console, &err), 0);
	guest_writes("nobody reads\r\n");
	fd = client();
	assert_string_equal(read_all(fd), "nobody reads\r\n");
	close(fd);
}

/* A file of the test's folder, all of it. */
static const char *content(const char *name)
{
	char path[64];
	snprintf(path, sizeof(path), "%s/%s", folder, name);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	const char *text = read_all(fd);
	close(fd);
	return text;
}

/* Over an update too, also where that was offered the file of before. */
static void a_file_that_is_rotated(void **state)
{
	static struct saved offered, last;
	char path[64], old[64];
	snprintf(path, sizeof(path), "%s/log", folder);
	snprintf(old, sizeof(old), "%s/old", folder);
	snprintf(socket_spec, sizeof(socket_spec), "file:%s", path);
	start(socket_spec);
	guest_writes("one\n");
	assert_int_equal(rename(path, old), 0);
	guest_writes("two\n");
	assert_int_equal(console_reopen(m.console, &err), 0);
	guest_writes("three\n");
	assert_string_equal(content("old"), "one\ntwo\n");
	assert_string_equal(content("log"), "three\n");
	save(&offered);
	assert_int_equal(rename(path, old), 0);
	assert_int_equal(console_reopen(m.console, &err), 0);
	save(&last);
	successor(&offered, &last);
	assert_int_equal(console_start(m.console, &err), 0);
	guest_writes("four\n");
	assert_string_equal(content("log"), "four\n");
	assert_int_equal(rename(path, old), 0);
	assert_int_equal(console_reopen(m.console, &err), 0);
	guest_writes("five\n");
	assert_string_equal(content("log"), "five\n");
	/* What cannot be opened leaves the one that is open. */
	unlink(path);
	assert_int_equal(mkdir(path, 0700), 0);
	unsigned n = m.fds.n;
	assert_int_equal(console_reopen(m.console, &err), -EISDIR);
	assert_int_equal(m.fds.n, n);
	assert_int_equal(m.console->out_fd, fdset_get(&m.fds, "console"));
	assert_int_equal(fcntl(m.console->out_fd, F_GETFD), FD_CLOEXEC);
}

/* What the former file has not taken goes to the next one. */
static void a_full_fifo_that_is_rotated(void **state)
{
	static char all[262144];
	char path[64], spec[80], line[16];
	int sent = 0;
	snprintf(path, sizeof(path), "%s/log", folder);
	snprintf(spec, sizeof(spec), "file:%s", path);
	assert_int_equal(mkfifo(path, 0600), 0);
	int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	start(spec);
	do
		snprintf(line, sizeof(line), "%08d\n", sent++);
	while (guest_writes(line) == 9);
	assert_true(watch_of(m.console->out_fd) >= 0);
	unlink(path);
	assert_int_equal(console_reopen(m.console, &err), 0);
	assert_int_equal(drained, 1);
	assert_int_equal(m.console->state.unsent, 0);
	turn();
	strcpy(all, read_all(fd));
	close(fd);
	strcat(all, content("log"));
	for (int i = 0; i < sent - 1; i++)
		assert_int_equal(strtol(all + i * 9, NULL, 10), i);
}

/* What the first state had in its rings beyond the end of the second's was the guest's, and is gone. */
static void nothing_of_a_longer_state_is_left(void **state)
{
	static struct saved offered, last;
	start_unix();
	guest_writes("a long line with a password in it\r\n");
	m.console->state.in_len = 8;
	memcpy(m.console->state.in, "password", 8);
	save(&offered);
	m.console->state.ring_len = m.console->state.unsent = 2;
	m.console->state.in_len = 1;
	save(&last);
	successor(&offered, &last);
	const struct console_state *s = &m.console->state;
	for (unsigned i = 2; i < sizeof(s->ring); i++)
		assert_int_equal(s->ring[i], 0);
	for (unsigned i = 1; i < sizeof(s->in); i++)
		assert_int_equal(s->in[i], 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(appends_to_a_file),
		TEST(a_file_that_cannot_be_opened),
		TEST(a_file_that_is_rotated),
		TEST(a_full_fifo_that_is_rotated),
		TEST(a_full_disk_does_not_stop_the_guest),
		TEST(a_late_reader_of_a_pty_sees_the_end),
		TEST(a_link_is_not_stolen),
		TEST(clients_of_a_socket),
		TEST(clients_that_cannot_be_kept),
		TEST(a_client_that_leaves_input_behind),
		TEST(a_late_client_gets_whole_last_lines),
		TEST(a_client_that_does_not_read),
		TEST(stale_sockets_go_and_live_ones_stay),
		TEST(a_path_that_is_too_long),
		TEST(a_client_that_comes_between_two_loads),
		TEST(a_client_that_leaves_between_two_loads),
		TEST(nothing_of_a_longer_state_is_left),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
