/* SPDX-License-Identifier: MIT */
/*
 * The console: a terminal's input with its escapes, and output to a host that takes any amount. What
 * the guest reads is compared with a second, simpler reading of the escapes.
 */
#include "tests/fuzz/fuzz.h"
#include "tests/unit/console.h"
#include "vmm/base/pool.h"

#define CTRL_A 1

static int host_in = -1, host_out = -1; /* the host's ends */
static char expected[65536];
static size_t nexpected;
static bool escaped, quit;

static void expect_byte(uint8_t c)
{
	if (!escaped && c == CTRL_A) {
		escaped = true;
		return;
	}
	if (!escaped) {
		expected[nexpected++] = (char)c;
	} else if (c == 'x') {
		quit = true;
	} else if (c != '?') {
		expected[nexpected++] = CTRL_A;
		if (c != 'a' && c != CTRL_A)
			expected[nexpected++] = (char)c;
	}
	escaped = false;
}

static void console_new(bool terminal)
{
	int in[2], out[2];
	loop_renew();
	memset(&m, 0, sizeof(m));
	pthread_mutex_init(&m.lock, NULL);
	ngot = nexpected = 0;
	appetite = 0;
	stopped = 0;
	escaped = quit = false;
	assert_int_equal(pipe2(in, O_NONBLOCK | O_CLOEXEC), 0);
	assert_int_equal(pipe2(out, O_NONBLOCK | O_CLOEXEC), 0);
	fcntl(out[1], F_SETPIPE_SZ, 4096);
	assert_int_equal(open_console("none"), 0);
	m.console->in_fd = in[0];
	m.console->out_fd = out[1];
	m.console->terminal = terminal;
	host_in = in[1];
	host_out = out[0];
	m.console->started = true;
	console_ready(m.console);
}

static void console_end(int in_fd, int out_fd)
{
	close(in_fd);
	close(out_fd);
	close(host_in);
	close(host_out);
	pool_free(m.console);
}

static void step(struct input *in)
{
	static uint8_t bytes[8192];
	unsigned n = input_u8(in);
	switch (input_below(in, 6)) {
	case 0:
		input_bytes(in, bytes, n);
		if (nexpected + 2 * n > sizeof(expected) || write(host_in, bytes, n) != (ssize_t)n)
			break;
		for (unsigned i = 0; i < n; i++)
			if (m.console->terminal)
				expect_byte(bytes[i]);
			else
				expected[nexpected++] = (char)bytes[i];
		break;
	case 1:
		memset(bytes, 'g', sizeof(bytes));
		console_write(m.console, bytes, n * 32);
		break;
	case 2:
		appetite += n;
		console_ready(m.console);
		break;
	case 3:
		n = (unsigned)read(host_out, bytes, n * 32);
		break;
	default:
		turn();
	}
}

static void expect_sane(void)
{
	const struct console_state *s = &m.console->state;
	fuzz_expect(s->ring_len <= CONSOLE_RING_LEN && s->unsent <= s->ring_len &&
			    s->in_len <= CONSOLE_INPUT_LEN,
		    "lengths");
	fuzz_expect(ngot <= nexpected && !memcmp(got, expected, ngot), "the guest reads otherwise");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct input in = {data, len};
	console_new(input_u8(&in) & 1);
	int in_fd = m.console->in_fd, out_fd = m.console->out_fd;
	while (in.n) {
		fuzz_guest_acts();
		step(&in);
		expect_sane();
	}
	appetite = sizeof(got) - ngot;
	console_ready(m.console);
	turn();
	fuzz_expect(ngot == nexpected && !stopped == !quit, "input that never arrives");
	fuzz_log.guest = false;
	console_end(in_fd, out_fd);
	return 0;
}
