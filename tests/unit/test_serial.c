/* SPDX-License-Identifier: MIT */
#include "tests/unit/device_test.h"

#include <linux/serial_reg.h>

#include "devices/pc/pc.h"

#define PORT 0x3f8
#define IRQ  4

static struct device *dev;

static int setup(void **state)
{
	dev = device_new(&serial_class);
	return 0;
}

static int teardown(void **state)
{
	device_destroy(dev);
	return 0;
}

static struct serial_state *state_of(void)
{
	return test_machine.tree.sections[0].state;
}

static void out(unsigned reg, uint8_t value)
{
	outn(PORT + reg, 1, value);
}

static uint8_t in(unsigned reg)
{
	return (uint8_t)inn(PORT + reg, 1);
}

static size_t receive(const char *text)
{
	return fake.reader(fake.opaque, (const uint8_t *)text, strlen(text));
}

static void test_transmit(void **state)
{
	assert_int_equal(in(UART_LSR), UART_LSR_THRE | UART_LSR_TEMT);
	out(UART_TX, 'h');
	out(UART_TX, 'i');
	assert_int_equal(fake.out_len, 2);
	assert_memory_equal(fake.out, "hi", 2);
	assert_int_equal(fake.pin_calls, 0);
}

static void test_registers(void **state)
{
	out(UART_SCR, 0x5a);
	assert_int_equal(in(UART_SCR), 0x5a);
	out(UART_LCR, UART_LCR_DLAB | UART_LCR_WLEN8);
	out(UART_DLL, 0x34);
	out(UART_DLM, 0x12);
	assert_int_equal(in(UART_DLL), 0x34);
	assert_int_equal(in(UART_DLM), 0x12);
	assert_int_equal(state_of()->divisor, 0x1234);
	out(UART_LCR, UART_LCR_WLEN8);
	assert_int_equal(fake.out_len, 0);
	out(UART_IER, 0xff);
	assert_int_equal(in(UART_IER), 0x0f); /* a 16550A, no more */
	assert_int_equal(in(UART_MSR), UART_MSR_DCD | UART_MSR_DSR | UART_MSR_CTS);
	/* one wide access is several narrow ones */
	outn(PORT + UART_MCR, 4, 0x77000003);
	assert_int_equal(in(UART_MCR), 3);
	assert_int_equal(in(UART_SCR), 0x77);
	assert_int_equal(inn(PORT + UART_LCR, 2), 3 << 8 | UART_LCR_WLEN8);
}

static void test_fifo_identity(void **state)
{
	assert_int_equal(in(UART_IIR), UART_IIR_NO_INT);
	out(UART_FCR, UART_FCR_ENABLE_FIFO);
	assert_int_equal(in(UART_IIR), 0xc0 | UART_IIR_NO_INT);
}

/* What Linux' 8250 driver does to tell a UART from nothing (autoconfig). */
static void test_loopback(void **state)
{
	out(UART_MCR, UART_MCR_LOOP | UART_MCR_OUT2 | UART_MCR_RTS);
	assert_int_equal(in(UART_MSR)&0xf0, UART_MSR_DCD | UART_MSR_CTS);
	out(UART_MCR, UART_MCR_LOOP | UART_MCR_OUT1 | UART_MCR_DTR);
	assert_int_equal(in(UART_MSR)&0xf0, UART_MSR_RI | UART_MSR_DSR);
	assert_int_equal(receive("y"), 0); /* cut off from the line */
	out(UART_TX, 'x');
	assert_int_equal(fake.out_len, 0);
	assert_true(in(UART_LSR)&UART_LSR_DR);
	assert_int_equal(in(UART_RX), 'x');
	unsigned before = fake.ready_calls;
	out(UART_MCR, 0);
	assert_int_equal(fake.ready_calls, before + 1);
	assert_int_equal(receive("y"), 1);
	assert_int_equal(in(UART_RX), 'y');
}

static void test_overrun(void **state)
{
	out(UART_IER, UART_IER_RLSI);
	out(UART_MCR, UART_MCR_LOOP);
	out(UART_TX, 1);
	assert_false(fake.pin[IRQ]);
	out(UART_TX, 2);
	assert_true(fake.pin[IRQ]);
	assert_int_equal(in(UART_IIR), UART_IIR_RLSI);
	assert_true(in(UART_LSR)&UART_LSR_OE);
	assert_false(fake.pin[IRQ]);
	assert_false(in(UART_LSR)&UART_LSR_OE);
	assert_int_equal(in(UART_RX), 1);
}

static void test_receive(void **state)
{
	assert_int_equal(receive("ab"), 1); /* no FIFO: one */
	assert_int_equal(receive("b"), 0);
	assert_int_equal(in(UART_RX), 'a');
	assert_int_equal(fake.ready_calls, 1);

	out(UART_FCR, UART_FCR_ENABLE_FIFO | UART_FCR_TRIGGER_14);
	out(UART_IER, UART_IER_RDI);
	assert_int_equal(receive("0123456789abcdefXYZ"), 16);
	assert_true(fake.pin[IRQ]);
	assert_int_equal(in(UART_IIR), 0xc0 | UART_IIR_RDI);
	for (unsigned i = 0; i < 16; i++) {
		assert_true(fake.pin[IRQ]); /* below the trigger level too */
		assert_int_equal(in(UART_RX), "0123456789abcdef"[i]);
	}
	assert_false(fake.pin[IRQ]);
	assert_int_equal(fake.pin_rises, 1);
	assert_int_equal(in(UART_LSR)&UART_LSR_DR, 0);
	assert_int_equal(in(UART_RX), 0);

	assert_int_equal(receive("q"), 1);
	out(UART_FCR, UART_FCR_ENABLE_FIFO | UART_FCR_CLEAR_RCVR);
	assert_int_equal(in(UART_LSR)&UART_LSR_DR, 0);
	assert_false(fake.pin[IRQ]);
}

static void test_thre_interrupt(void **state)
{
	out(UART_IER, UART_IER_THRI); /* empty already: at once */
	assert_true(fake.pin[IRQ]);
	assert_int_equal(in(UART_IIR), UART_IIR_THRI);
	assert_false(fake.pin[IRQ]); /* reading acknowledged it */
	assert_int_equal(in(UART_IIR), UART_IIR_NO_INT);
	out(UART_TX, 'a');
	assert_true(fake.pin[IRQ]);
	assert_int_equal(fake.pin_rises, 2);
	out(UART_TX, 'b'); /* not acknowledged: a new edge all the same */
	assert_int_equal(fake.pin_rises, 3);
	out(UART_IER, 0);
	assert_false(fake.pin[IRQ]);
	out(UART_IER, UART_IER_THRI); /* Linux' test for a missing re-raise */
	assert_int_equal(in(UART_IIR), UART_IIR_THRI);
}

static void test_priority(void **state)
{
	out(UART_IER, UART_IER_THRI | UART_IER_RDI);
	assert_int_equal(receive("a"), 1);
	assert_int_equal(in(UART_IIR), UART_IIR_RDI);
	assert_int_equal(in(UART_RX), 'a');
	assert_int_equal(in(UART_IIR), UART_IIR_THRI);
}

static void test_flow_control(void **state)
{
	out(UART_FCR, UART_FCR_ENABLE_FIFO);
	out(UART_IER, UART_IER_THRI);
	in(UART_IIR);
	fake.out_room = 0;
	for (unsigned i = 0; i < SERIAL_FIFO_LEN; i++)
		out(UART_TX, (uint8_t)('A' + i));
	assert_int_equal(in(UART_LSR), 0);
	assert_false(fake.pin[IRQ]);
	out(UART_TX, '!'); /* against the rules: lost */

	fake.out_room = 4;
	fake.drained(fake.opaque);
	assert_int_equal(fake.out_len, 4);
	assert_int_equal(in(UART_LSR), 0);
	assert_false(fake.pin[IRQ]);

	fake.out_room = 100;
	fake.drained(fake.opaque);
	assert_int_equal(fake.out_len, SERIAL_FIFO_LEN);
	assert_memory_equal(fake.out, "ABCDEFGHIJKLMNOP", SERIAL_FIFO_LEN);
	assert_int_equal(in(UART_LSR), UART_LSR_THRE | UART_LSR_TEMT);
	assert_true(fake.pin[IRQ]);
	assert_int_equal(in(UART_IIR), 0xc0 | UART_IIR_THRI);
}

static void test_clear_transmit(void **state)
{
	out(UART_FCR, UART_FCR_ENABLE_FIFO);
	fake.out_room = 0;
	out(UART_TX, 'a');
	assert_int_equal(in(UART_LSR), 0);
	out(UART_FCR, UART_FCR_ENABLE_FIFO | UART_FCR_CLEAR_XMIT);
	assert_int_equal(in(UART_LSR), UART_LSR_THRE | UART_LSR_TEMT);
	fake.out_room = 100;
	fake.drained(fake.opaque);
	assert_int_equal(fake.out_len, 0);
}

static void test_state(void **state)
{
	struct error err = {0};
	assert_int_equal(unit_uncovered(&serial_state_class), sizeof(struct serial_state));
	out(UART_FCR, UART_FCR_ENABLE_FIFO);
	out(UART_IER, UART_IER_RDI | UART_IER_THRI);
	out(UART_SCR, 0x99);
	fake.out_room = 0;
	out(UART_TX, 't');
	receive("hello");
	struct serial_state before = *state_of();
	unsigned calls = fake.pin_calls;
	assert_int_equal(state_round_trip(&err), 0);
	assert_int_equal(state_of()->rx_len, 5);
	/* what lies beyond the used bytes is not carried */
	assert_memory_equal(state_of()->rx, "hello", 5);
	assert_int_equal(state_of()->tx_len, 1);
	assert_int_equal(state_of()->tx[0], 't');
	assert_memory_equal(state_of(), &before, offsetof(struct serial_state, rx));
	assert_int_equal(fake.pin_calls, calls); /* no interrupt invented */
	fake.out_room = 10;
	fake.drained(fake.opaque);
	assert_int_equal(fake.out[0], 't');
}

static void test_hostile_state(void **state)
{
	struct error err = {0};
	state_of()->irq_level = 2;
	assert_int_equal(state_round_trip(&err), -EBADMSG);
	assert_non_null(strstr(err.text, "serial@3f8"));
	state_of()->irq_level = 0;
	state_of()->divisor = 0x10000;
	assert_int_equal(state_round_trip(&err), -EBADMSG);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_transmit),	T(test_registers), T(test_fifo_identity),
		T(test_loopback),	T(test_overrun),   T(test_receive),
		T(test_thre_interrupt), T(test_priority),  T(test_flow_control),
		T(test_clear_transmit), T(test_state),	   T(test_hostile_state),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
