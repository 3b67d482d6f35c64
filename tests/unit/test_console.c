/* SPDX-License-Identifier: MIT */
/* The console on stdio: pipes, files, a terminal; and its state. */
#include "tests/unit/console.h"

#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/mman.h>

/* --- stdio --- */

static void pipes_both_ways(void **state)
{
	int to[2], from[2];
	pipes(to, from);
	start("stdio");
	assert_int_equal(guest_writes("hello\r\n"), 7);
	assert_string_equal(read_all(from[0]), "hello\r\n");
	put(to[1], "a\1xb"); /* no terminal: bytes are bytes */
	turn();
	assert_int_equal(ngot, 4);
	assert_memory_equal(got, "a\1xb", 4);
	assert_int_equal(stopped, 0);
	assert_true(fcntl(m.console->out_fd, F_GETFL) & O_NONBLOCK);
	/* The pipes are shared with others: not made non-blocking. */
	assert_int_equal(fcntl(0, F_GETFL) & O_NONBLOCK, 0);
	assert_int_equal(fcntl(1, F_GETFL) & O_NONBLOCK, 0);
	close(to[1]);
	turn(); /* end of file: it must rest */
	assert_int_equal(guest_writes("on"), 2);
	close(from[0]);
}

/* Nothing is lost when the host stops reading: the guest waits, over an update too. */
static void a_full_pipe_makes_the_guest_wait(void **state)
{
	int to[2], from[2], sent = 0;
	static char all[262144];
	size_t n = 0;
	pipes(to, from);
	start("stdio");
	for (char line[16]; sent < 100000; sent++) {
		snprintf(line, sizeof(line), "%08d\r\n", sent);
		if (guest_writes(line) != 10)
			break;
	}
	assert_true(sent > 1000 && sent < 100000);
	/* Part of that last line was taken; what follows starts right there. */
	assert_int_equal(guest_writes("x"), 0);
	take_over("stdio");
	assert_int_equal(drained, 0);
	for (int i = 0; i < 1000 && !(n && all[n - 1] == '!'); i++) {
		strcpy(all + n, read_all(from[0]));
		n += strlen(all + n);
		turn();
		if (drained == 1 && i > 100)
			drained += (int)guest_writes("!");
	}
	assert_int_equal(drained, 2);
	for (int i = 0; i < sent; i++)
		assert_int_equal(strtol(all + i * 10, NULL, 10), i);
	close(to[1]);
	close(from[0]);
}

static void a_reader_that_went_away_costs_nothing(void **state)
{
	int to[2], from[2];
	pipes(to, from);
	start("stdio");
	close(from[0]);
	for (int i = 0; i < 10000; i++)
		assert_int_equal(guest_writes("0123456789"), 10);
	turn();
	close(to[1]);
}

static void a_slow_serial_port_loses_no_input(void **state)
{
	int to[2], from[2];
	pipes(to, from);
	start("stdio");
	appetite = 3;
	put(to[1], "abcdefgh");
	turn();
	put(to[1], "ijkl");
	turn();
	assert_int_equal(ngot, 3);
	take_over("stdio");
	turn();
	assert_int_equal(ngot, 3);
	appetite = 100;
	console_ready(m.console);
	turn();
	assert_int_equal(ngot, 12);
	assert_memory_equal(got, "abcdefghijkl", 12);
	close(to[1]);
	close(from[0]);
}

/* Each write of the guest tries again; what is said about it has an end. */
static void a_full_event_loop_is_said_a_few_times(void **state)
{
	int to[2], from[2], log = memfd_create("log", MFD_CLOEXEC);
	int saved = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 100);
	struct stat st;
	pipes(to, from);
	dup2(log, STDERR_FILENO);
	loop_error = -ENOSPC;
	start("stdio");
	for (int i = 0; i < 1000; i++)
		guest_writes("x");
	dup2(saved, STDERR_FILENO);
	assert_int_equal(fstat(log, &st), 0);
	assert_in_range(st.st_size, 1, 1000);
	close(saved);
	close(log);
	close(to[1]);
	close(from[0]);
}

static void regular_files(void **state)
{
	char path[64];
	int to[2], from[2];
	pipes(to, from);
	snprintf(path, sizeof(path), "%s/in", folder);
	int fd = open(path, O_RDWR | O_CREAT, 0600);
	for (int i = 0; i < 1000; i++)
		put(fd, "0123456789");
	lseek(fd, 0, SEEK_SET);
	dup2(fd, 0);
	close(fd);
	appetite = 100;
	start("stdio");
	assert_int_equal(ngot, 100);
	take_over("stdio");
	while (ngot < 10000) {
		size_t before = ngot;
		appetite = 123;
		console_ready(m.console);
		assert_true(ngot > before);
	}
	for (int i = 0; i < 10000; i++)
		assert_int_equal(got[i], '0' + i % 10);
	turn();
	close(to[1]);
	close(from[0]);
}

static void closed_stdin_and_stdout(void **state)
{
	close(0);
	close(1);
	start("stdio");
	assert_int_equal(guest_writes("lost"), 4);
	turn();
}

/* --- terminal --- */

static int master;

/* A terminal in the place of stdin and stdout. */
static struct termios terminal(void)
{
	struct termios t;
	char name[64];
	master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
	grantpt(master);
	unlockpt(master);
	ptsname_r(master, name, sizeof(name));
	int fd = open(name, O_RDWR | O_NOCTTY);
	dup2(fd, 0);
	dup2(fd, 1);
	close(fd);
	tcgetattr(0, &t);
	return t;
}

/* Keys, once they have come through the terminal; and what it shows. */
static void type(const char *text)
{
	int before = 0, now = 0;
	ioctl(0, FIONREAD, &before);
	put(master, text);
	for (int i = 0; i < 2000 && now - before < (int)strlen(text); i++) {
		usleep(i ? 1000 : 0);
		ioctl(0, FIONREAD, &now);
	}
}

static const char *shown(void)
{
	struct pollfd p = {.fd = master, .events = POLLIN};
	poll(&p, 1, 2000);
	return read_all(master);
}

static bool is_raw(void)
{
	struct termios t;
	tcgetattr(0, &t);
	return !(t.c_lflag & (ICANON | ECHO | ISIG)) && !(t.c_oflag & OPOST) &&
	       !(t.c_iflag & (ICRNL | IXON));
}

static void assert_restored(const struct termios *before)
{
	struct termios t;
	tcgetattr(0, &t);
	assert_int_equal(t.c_iflag, before->c_iflag);
	assert_int_equal(t.c_oflag, before->c_oflag);
	assert_int_equal(t.c_lflag, before->c_lflag);
	assert_int_equal(t.c_cflag, before->c_cflag);
	assert_memory_equal(t.c_cc, before->c_cc, sizeof(t.c_cc));
}

static void raw_and_back(void **state)
{
	struct termios before = terminal();
	start("stdio");
	assert_true(is_raw());
	type("a\rb\3\4");
	turn();
	assert_int_equal(ngot, 5);
	assert_memory_equal(got, "a\rb\3\4", 5);
	guest_writes("x\n");
	assert_string_equal(shown(), "x\n");
	terminal_restore();
	assert_restored(&before);
	terminal_restore();
	close(master);
}

/* Settings go through the update: the second program restores what the first one found. */
static void settings_travel(void **state)
{
	struct termios before = terminal();
	start("stdio");
	type("\1"); /* half an escape travels too */
	turn();
	take_over("stdio");
	assert_true(is_raw());
	assert_int_equal(ngot, 0);
	type("x");
	turn();
	assert_int_equal(stopped, 128 + SIGTERM);
	console_close(m.console);
	assert_restored(&before);
	close(master);
}

static void escapes(void **state)
{
	terminal();
	start("stdio");
	type("a\1ab\1\1c\1lx");
	turn();
	assert_int_equal(ngot, 8);
	assert_memory_equal(got, "a\1b\1c\1lx", 8);
	type("\1?");
	turn();
	assert_non_null(strstr(shown(), "Ctrl-a x"));
	assert_int_equal(stopped, 0);
	type("\1x");
	turn();
	assert_int_equal(stopped, 128 + SIGTERM);
	assert_int_equal(ngot, 8);
	close(master);
}

/* The guest has stopped reading: escapes count all the same, keys beyond the buffer are dropped. */
static void escapes_of_a_guest_that_does_not_read(void **state)
{
	char paste[1001];
	memset(paste, 'p', 1000);
	paste[1000] = 0;
	terminal();
	start("stdio");
	appetite = 0;
	type("ab");
	turn();
	type(paste); /* the guest may just be slow: the terminal keeps it */
	turn();
	assert_int_equal(m.console->state.in_len, 2);
	sleep(1);
	type("\1");
	turn();
	assert_int_equal(m.console->state.in_len, CONSOLE_INPUT_LEN);
	assert_int_equal(stopped, 0);
	type("?");
	turn();
	assert_non_null(strstr(shown(), "Ctrl-a x"));
	type("\1x");
	turn();
	assert_int_equal(stopped, 128 + SIGTERM);
	appetite = sizeof(got);
	console_ready(m.console);
	assert_int_equal(ngot, CONSOLE_INPUT_LEN);
	assert_memory_equal(got, "abppp", 5);
	type("on");
	turn();
	assert_int_equal(ngot, CONSOLE_INPUT_LEN + 2);
	close(master);
}

/* One byte a round, far longer than a second in all. */
static void a_paste_into_a_slow_guest(void **state)
{
	char paste[2001];
	terminal();
	start("stdio");
	for (int i = 0; i < 2000; i++)
		paste[i] = (char)('a' + i % 26);
	paste[2000] = 0;
	appetite = 0;
	type(paste);
	turn();
	for (int i = 0; i < 2000; i++) {
		if (i % 500 == 0)
			usleep(600000);
		appetite = 1;
		console_ready(m.console);
		turn();
	}
	assert_int_equal(ngot, 2000);
	assert_memory_equal(got, paste, 2000);
	close(master);
}

/* The program of the test below: begins on the terminal and ends by signal @sig, 0: by exit(7). */
static int die(int sig)
{
	/* Not the sanitizer's own handlers, which end with an exit code. */
	for (int s = 1; s < 32; s++)
		signal(s, SIG_DFL);
	pthread_mutex_init(&m.lock, NULL);
	loop_renew();
	if (open_console("stdio") || console_start(m.console, &err) || !is_raw())
		return 3;
	if (!sig)
		exit(7);
	raise(sig);
	return 4;
}

/* However the program dies, the terminal is usable. */
static void restored_when_killed(void **state)
{
	static const int signals[] = {SIGSEGV, SIGABRT, SIGBUS, SIGQUIT};
	struct termios before = terminal();
	for (unsigned i = 0; i < ARRAY_LEN(signals) + 1; i++) {
		char number[16];
		snprintf(number, sizeof(number), "%d", i < ARRAY_LEN(signals) ? signals[i] : 0);
		pid_t pid = fork();
		if (!pid) {
			execl("/proc/self/exe", "test_console", "die", number, NULL);
			_exit(5);
		}
		int status;
		waitpid(pid, &status, 0);
		if (i == ARRAY_LEN(signals))
			assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 7);
		else
			assert_true(WIFSIGNALED(status) && WTERMSIG(status) == signals[i]);
		assert_restored(&before);
	}
	close(master);
}

static uint64_t stands_still_ns; /* the time, if it does */

/* Instead of the C library's. */
int clock_gettime(clockid_t clock, struct timespec *ts)
{
	if (!stands_still_ns)
		return (int)syscall(SYS_clock_gettime, clock, ts);
	*ts = (struct timespec){.tv_sec = (time_t)(stands_still_ns / NS_PER_S),
				.tv_nsec = (long)(stands_still_ns % NS_PER_S)};
	return 0;
}

/* Pasted at once, and more than a terminal takes: it tells of nothing that comes behind. */
static void an_escape_behind_a_long_paste(void **state)
{
	char paste[6001];
	memset(paste, 'p', 6000);
	paste[6000] = 0;
	terminal();
	start("stdio");
	appetite = 0;
	type("a");
	turn();
	assert_false(time_passes()); /* nothing is held back */
	type(paste);
	put(master, "\1x");
	m.console->taken_ns = stands_still_ns = now_ns();
	turn();
	stands_still_ns = 0;
	assert_true(timer != NULL);
	assert_int_equal(m.console->state.in_len, 1); /* the guest may just be slow */
	m.console->taken_ns = 1;
	for (int i = 0; !stopped && i < 20000; i++) { /* the kernel moves keys in its own time */
		time_passes();
		turn();
		usleep(1000);
	}
	assert_int_equal(stopped, 128 + SIGTERM);
	close(master);
}

/* A terminal that nobody reads must not stop the guest's threads. */
static void a_stuck_terminal_does_not_block(void **state)
{
	terminal();
	start("stdio");
	alarm(20);
	size_t n = 0, k;
	while ((k = guest_writes("0123456789")) == 10)
		n += k;
	assert_true(n >= CONSOLE_RING_LEN);
	alarm(0);
	close(master);
}

static void a_terminal_that_is_gone(void **state)
{
	int to[2], from[2], null = open("/dev/null", O_RDWR | O_CLOEXEC);
	terminal();
	assert_false(fd_hung_up(0));
	close(master);
	assert_true(fd_hung_up(0));
	assert_false(fd_hung_up(null));
	assert_false(fd_hung_up(-1));
	pipes(to, from);
	close(to[1]); /* its end is nobody's hangup */
	assert_false(fd_hung_up(0));
	close(from[0]);
	close(null);
}

/* --- all --- */

static void none(void **state)
{
	start("none");
	for (int i = 0; i < 10000; i++)
		assert_int_equal(guest_writes("0123456789"), 10);
	take_over("none");
	turn();
}

static void hostile_state(void **state)
{
	start("none");
	const struct state_section *s = &m.tree.sections[0];
	assert_int_equal(s->post_load(s->opaque, &err), 0);
	m.console->state.unsent = 5;
	assert_int_equal(s->post_load(s->opaque, &err), -EBADMSG);
	m.console->state.unsent = 0;
	m.console->state.escape = 2;
	assert_int_equal(s->post_load(s->opaque, &err), -EBADMSG);
}

static void the_state_table_is_whole(void **state)
{
	start("none");
	assert_int_equal(unit_uncovered(m.tree.sections[0].cls), sizeof(struct console_state));
}

int main(int argc, char **argv)
{
	if (argc == 3 && !strcmp(argv[1], "die"))
		return die(atoi(argv[2]));
	const struct CMUnitTest tests[] = {
		TEST(pipes_both_ways),
		TEST(a_full_pipe_makes_the_guest_wait),
		TEST(a_reader_that_went_away_costs_nothing),
		TEST(a_slow_serial_port_loses_no_input),
		TEST(a_full_event_loop_is_said_a_few_times),
		TEST(regular_files),
		TEST(closed_stdin_and_stdout),
		TEST(raw_and_back),
		TEST(settings_travel),
		TEST(escapes),
		TEST(escapes_of_a_guest_that_does_not_read),
		TEST(an_escape_behind_a_long_paste),
		TEST(a_paste_into_a_slow_guest),
		TEST(restored_when_killed),
		TEST(a_stuck_terminal_does_not_block),
		TEST(a_terminal_that_is_gone),
		TEST(none),
		TEST(hostile_state),
		TEST(the_state_table_is_whole),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
