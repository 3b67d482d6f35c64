/* SPDX-License-Identifier: MIT */
/* Requests, clients and updates of the control socket. */
#include "tests/unit/control.h"

static void subscribe(int fd)
{
	say(fd, "events\n");
	take();
	assert_int_equal(req.word, CONTROL_EVENTS);
	control_subscribe(m.control);
	answer("subscribed\n");
	assert_string_equal(hear(fd), "subscribed\n");
}

/* What an update does: the old program's thread is gone, its descriptors stay. */
static void take_over(void)
{
	static uint64_t data[16384];
	static const struct state_header header = {"v", "b"};
	static struct state_blob blob;
	struct fdset fds = {0};
	size_t len;

	control_park(m.control);
	assert_int_equal(state_save(&m.tree, &m.fds, &header, data, sizeof(data), &len, &err), 0);
	m.control = NULL; /* its thread waits for ever */
	pool_free(m.fds.e);
	m.fds = fds;
	assert_int_equal(state_open(&blob, data, len, &err), 0);
	assert_int_equal(fdset_list(&m.fds, &blob, &err), 0);
	if (open_control())
		fail_msg("%s", err.text);
	for (unsigned i = 0; i < m.fds.n; i++)
		if (!m.fds.e[i].taken)
			fail_msg("descriptor %s was not taken", m.fds.e[i].name);
}

/* ---- requests ---- */

static void questions_and_answers(void **state)
{
	struct stat st;
	start();
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	int fd = client();
	say(fd, "status\nupdate check exe=/x y\n");
	take();
	assert_int_equal(req.word, CONTROL_STATUS);
	answer("one\n");
	take();
	assert_int_equal(req.word, CONTROL_UPDATE);
	assert_true(req.check);
	assert_string_equal(req.exe, "/x y");
	answer("two\n");
	assert_string_equal(hear(fd), "one\n");
	assert_string_equal(hear(fd), "two\n");
	/* In pieces, and half closed: what was asked is still answered. */
	for (const char *p = "stop\n"; *p; p++)
		assert_int_equal(send(fd, p, 1, 0), 1);
	take();
	assert_int_equal(req.word, CONTROL_STOP);
	shutdown(fd, SHUT_WR);
	int late = client();
	while (kept("control-idle:") < 2) /* the doorman has seen both */
		sched_yield();
	answer("three\n");
	assert_string_equal(hear(fd), "three\n");
	assert_true(closed(fd));
	close(fd);
	close(late);
}

static void what_makes_no_sense(void **state)
{
	char line[CONTROL_LINE_LEN + 100];
	start();
	int fd = client();
	say(fd, "bogus\nversion\n");
	take(); /* the first was answered already */
	assert_int_equal(req.word, CONTROL_VERSION);
	answer("v\n");
	assert_true(heard(fd, "reason", "'bogus'"));
	assert_string_equal(hear(fd), "v\n");
	assert_int_equal(send(fd, "a\0b\n", 4, 0), 4);
	settle();
	assert_true(heard(fd, "reason", "control character"));

	/* A line without an end is refused, and its client dropped. */
	memset(line, 'x', sizeof(line));
	send(fd, line, sizeof(line), MSG_NOSIGNAL);
	assert_true(heard(fd, "reason", "no line of at most"));
	assert_true(closed(fd));
	close(fd);
	fd = client();
	say(fd, "stat");
	shutdown(fd, SHUT_WR);
	assert_true(heard(fd, "reason", "no line"));
	assert_true(closed(fd));
	close(fd);
}

static void the_longest_line(void **state)
{
	char line[CONTROL_LINE_LEN + 1];
	start();
	int fd = client();
	memset(line, ' ', sizeof(line));
	memcpy(line, "status", 6);
	line[CONTROL_LINE_LEN - 1] = '\n';
	line[CONTROL_LINE_LEN] = 0;
	say(fd, line);
	take();
	assert_int_equal(req.word, CONTROL_STATUS);
	close(fd);
}

/* Each in turn, however much one of them asks. */
static void turns(void **state)
{
	int fd[3];
	unsigned served[3] = {0};
	start();
	for (int i = 0; i < 3; i++)
		fd[i] = client();
	for (int k = 0; k < 50; k++)
		say(fd[0], "status\n");
	say(fd[1], "version\n");
	say(fd[2], "version\n");
	for (int k = 0; k < 52; k++) {
		take();
		answer("a\n");
		if (req.word == CONTROL_VERSION)
			assert_true(k < 52 - 1);
	}
	for (int i = 0; i < 3; i++) {
		shutdown(fd[i], SHUT_WR);
		while (*hear(fd[i]))
			served[i]++;
		close(fd[i]);
	}
	assert_int_equal(served[0], 50);
	assert_int_equal(served[1], 1);
	assert_int_equal(served[2], 1);
}

/* ---- clients that are no good ---- */

static void who_does_not_read_is_dropped(void **state)
{
	static char event[4096];
	start();
	int slow = client(), good = client();
	subscribe(slow);
	subscribe(good);
	assert_int_equal(kept("control-events:"), 2);
	memset(event, 'e', sizeof(event) - 1);
	event[sizeof(event) - 2] = '\n';
	for (int i = 0; i < 1000; i++) {
		control_publish(m.control, event, strlen(event));
		assert_int_equal(strlen(hear(good)), strlen(event));
	}
	assert_int_equal(kept("control-events:"), 1);
	settle();
	close(slow);
	close(good);
}

/* One that reads no answers and asks on and on does not keep the leader busy for ever. */
static void who_asks_without_reading_is_dropped(void **state)
{
	static char big[8192];
	start();
	int fd = client();
	memset(big, 'e', sizeof(big) - 1);
	for (unsigned n = 0; kept("control-idle:") || !n; n++) {
		ssize_t rc = send(fd, "status\n", 7, MSG_NOSIGNAL);
		if (rc < 0)
			break;
		take();
		control_answer(m.control, big, sizeof(big) - 1);
		assert_true(n < 10000);
	}
	close(fd);
	settle();
}

/* More than there is room for at once: those that find none wait for their turn. */
static void a_crowd(void **state)
{
	int fd[2 * CONTROL_CLIENTS];
	start();
	for (unsigned i = 0; i < ARRAY_LEN(fd); i++) {
		fd[i] = client();
		say(fd[i], "status\n");
	}
	for (unsigned i = 0; i < ARRAY_LEN(fd); i++) {
		take();
		answer("a\n");
		assert_string_equal(hear(fd[i]), "a\n");
		close(fd[i]);
	}
	settle();
}

static void many_clients(void **state)
{
	int fd[CONTROL_CLIENTS + 1];
	start();
	for (int i = 0; i < CONTROL_CLIENTS; i++) {
		fd[i] = client();
		say(fd[i], "status\n");
		take();
		answer("a\n");
		hear(fd[i]);
	}
	say(fd[0], "status\n"); /* not idle for so long any more */
	take();
	answer("a\n");
	fd[CONTROL_CLIENTS] = client();
	assert_true(closed(fd[1]));
	say(fd[CONTROL_CLIENTS], "status\n");
	take();
	answer("b\n");
	hear(fd[0]);
	assert_string_equal(hear(fd[CONTROL_CLIENTS]), "b\n");
	assert_int_equal(kept("control-idle:"), CONTROL_CLIENTS);

	/* Those that wait for something do not have to make room. */
	close(fd[1]);
	fd[1] = fd[CONTROL_CLIENTS];
	for (int i = 0; i < CONTROL_CLIENTS; i++)
		subscribe(fd[i]);
	int late = client();
	assert_true(heard(late, "reason", "16 clients"));
	assert_true(closed(late));
	close(late);
	for (int i = 0; i < CONTROL_CLIENTS; i++)
		close(fd[i]);
	settle();
	assert_int_equal(kept("control-events:"), 0);
}

static void other_users(void **state)
{
	assert_true(control_peer_allowed(7, 7));
	assert_true(control_peer_allowed(0, 7));
	assert_false(control_peer_allowed(8, 7));
	assert_false(control_peer_allowed(7, 0));
	if (geteuid()) {
		print_message("not root: no process of another user to connect from\n");
		return;
	}
	/* As if somebody had opened the socket to all. */
	start();
	assert_int_equal(chmod(path, 0666) | chmod(folder, 0755), 0);
	pid_t pid = fork();
	if (!pid) {
		struct sockaddr_un addr = {.sun_family = AF_UNIX};
		char text[512] = "";
		int fd = socket(AF_UNIX, SOCK_STREAM, 0);
		strcpy(addr.sun_path, path);
		bool good = !setuid(65534) &&
			    !connect(fd, (struct sockaddr *)&addr, sizeof(addr)) &&
			    recv(fd, text, sizeof(text) - 1, 0) > 0 &&
			    strstr(text, "user 65534 may not") && recv(fd, text, 1, 0) <= 0;
		_exit(good ? 0 : 1);
	}
	int status;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_int_equal(kept("control-idle:"), 0);
}

/* ---- updates ---- */

static void an_update_loses_nobody(void **state)
{
	static const char record[] = "{\"event\":\"update\"}\n";
	start();
	int asker = client(), watcher = client(), idle = client(), late = client();
	subscribe(watcher);
	say(late, "sta");
	say(asker, "update exe=/new\n");
	take();
	assert_string_equal(req.exe, "/new");
	control_await_update(m.control);
	assert_int_equal(kept("control-client"), 1);
	settle();

	take_over();
	say(late, "tus\n");	      /* completed while nobody listened */
	say(idle, "stop\nversion\n"); /* asked meanwhile */
	int newcomer = client();
	say(newcomer, "version\n");
	control_update_ended(m.control, record, strlen(record));
	assert_string_equal(control_last_record(m.control), record);
	assert_int_equal(control_start(m.control, &err), 0);
	assert_string_equal(hear(asker), record);
	assert_string_equal(hear(watcher), record);
	assert_int_equal(kept("control-client"), 0);
	unsigned words[CONTROL_VERSION + 1] = {0};
	for (int i = 0; i < 4; i++) {
		take();
		words[req.word]++;
		answer("done\n");
	}
	assert_int_equal(words[CONTROL_STATUS], 1);
	assert_int_equal(words[CONTROL_STOP], 1);
	assert_int_equal(words[CONTROL_VERSION], 2);
	assert_string_equal(hear(late), "done\n");
	assert_string_equal(hear(newcomer), "done\n");

	/* Another one: who asked for the first is told of this as little as anybody else. */
	control_update_ended(m.control, record, strlen(record));
	assert_string_equal(hear(watcher), record);
	say(asker, "version\n");
	take();
	answer("v\n");
	assert_string_equal(hear(asker), "v\n");
	int fds[] = {asker, watcher, idle, late, newcomer};
	for (unsigned i = 0; i < ARRAY_LEN(fds); i++)
		close(fds[i]);
}

static void who_asked_and_left(void **state)
{
	start();
	int fd = client();
	say(fd, "update\n");
	take();
	control_await_update(m.control);
	close(fd);
	settle();
	control_update_ended(m.control, "{}\n", 3);
	assert_int_equal(kept("control-client"), 0);
}

/* While it is parked no descriptor comes or goes, whatever clients do. */
static void parked(void **state)
{
	start();
	settle();
	int leaves = client();
	settle();
	control_park(m.control);
	unsigned changes = m.fds.changes; /* not before: the last client's end may be on its way */
	int comes = client();
	say(comes, "status\n");
	close(leaves);
	for (int i = 0; i < 100; i++) {
		sched_yield();
		assert_int_equal(m.fds.changes, changes);
	}
	control_unpark(m.control);
	take();
	assert_int_equal(req.word, CONTROL_STATUS);
	assert_int_not_equal(m.fds.changes, changes);
	close(comes);
}

static void *flood(void *opaque)
{
	static char lines[7 * 1000];
	static char sink[65536];
	int fd = *(int *)opaque;
	for (size_t i = 0; i < sizeof(lines); i += 7)
		memcpy(lines + i, "status\n", 7);
	while (send(fd, lines, sizeof(lines), MSG_NOSIGNAL | MSG_DONTWAIT) > 0 || errno == EAGAIN)
		recv(fd, sink, sizeof(sink), MSG_DONTWAIT);
	return NULL;
}

/* A client that always has something to say cannot keep it from being parked. */
static void parked_under_a_flood(void **state)
{
	pthread_t thread;
	start();
	int fd = client();
	assert_int_equal(pthread_create(&thread, NULL, flood, &fd), 0);
	for (int i = 0; i < 200; i++) {
		take();
		answer("a\n");
		control_park(m.control);
		control_unpark(m.control);
	}
	shutdown(fd, SHUT_RDWR);
	pthread_join(thread, NULL);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(questions_and_answers),
		TEST(what_makes_no_sense),
		TEST(the_longest_line),
		TEST(turns),
		TEST(who_does_not_read_is_dropped),
		TEST(who_asks_without_reading_is_dropped),
		TEST(a_crowd),
		TEST(many_clients),
		TEST(other_users),
		TEST(an_update_loses_nobody),
		TEST(who_asked_and_left),
		TEST(parked),
		TEST(parked_under_a_flood),
	};
	return cmocka_run_group_tests(tests, block_wake, NULL);
}
