/* SPDX-License-Identifier: MIT */
/*
 * Registers and interrupts: data sheet of the PC16550D (National Semiconductor, 1995). The baud
 * rate means nothing. The modem lines are those of a connected terminal, and never change.
 */
#include "devices/pc/pc.h"

#include <linux/serial_reg.h>

#include "vmm/arch/x86_64/layout.h"
#include "vmm/console/console.h"
#include "vmm/machine.h"

#define NODE	   "serial@3f8"
#define MODEM_LINE (UART_MSR_DCD | UART_MSR_DSR | UART_MSR_CTS)

struct serial {
	struct device dev;
	struct serial_state state;
};

#define S struct serial_state
static const struct field serial_fields[] = {
	FIELD_U(S, ier),
	FIELD_U(S, fcr),
	FIELD_U(S, lcr),
	FIELD_U(S, mcr),
	FIELD_U(S, lsr),
	FIELD_U(S, scr),
	FIELD_U(S, thre_pending),
	FIELD_U(S, irq_level),
	FIELD_U(S, divisor),
	FIELD_OPAQUE_LEN(S, rx, rx_len),
	FIELD_OPAQUE_LEN(S, tx, tx_len),
};
#undef S

STATE_CLASS(serial_state_class, "serial", 1, struct serial_state, serial_fields);

static uint32_t fifo_len(const struct serial_state *s)
{
	return s->fcr & UART_FCR_ENABLE_FIFO ? SERIAL_FIFO_LEN : 1;
}

/* Highest-priority interrupt cause, as IIR shows it. Bytes below the trigger level raise the same
 * cause as bytes above it: the time-out that separates the two would be over at once. */
static uint8_t cause(const struct serial_state *s)
{
	if (s->ier & UART_IER_RLSI && s->lsr)
		return UART_IIR_RLSI;
	if (s->ier & UART_IER_RDI && s->rx_len)
		return UART_IIR_RDI;
	if (s->ier & UART_IER_THRI && s->thre_pending)
		return UART_IIR_THRI;
	return UART_IIR_NO_INT;
}

/* Tells the pin only of changes. An update does not raise it again: KVM's controllers carry what an
 * edge left there, and a second edge would be an interrupt that the device never sent. */
static void update_irq(struct serial *serial)
{
	uint8_t level = cause(&serial->state) != UART_IIR_NO_INT;
	if (level == serial->state.irq_level)
		return;
	serial->state.irq_level = level;
	irq_pin(&serial->dev.m->irq, LAYOUT_SERIAL_IRQ, level);
}

static void rx_push(struct serial_state *s, uint8_t byte)
{
	if (s->rx_len < fifo_len(s))
		s->rx[s->rx_len++] = byte;
	else
		s->lsr |= UART_LSR_OE;
}

/* ---- the host's side ---- */

static void tx_flush(struct serial *serial)
{
	struct serial_state *s = &serial->state;
	if (!s->tx_len)
		return;
	size_t n = console_write(serial->dev.m->console, s->tx, s->tx_len);
	if (n > s->tx_len)
		n = s->tx_len;
	s->tx_len -= (uint32_t)n;
	memmove(s->tx, s->tx + n, s->tx_len);
	if (!s->tx_len)
		s->thre_pending = 1;
}

static size_t serial_receive(void *opaque, const uint8_t *buf, size_t len)
{
	struct serial *serial = opaque;
	struct serial_state *s = &serial->state;
	size_t n = 0;
	if (s->mcr & UART_MCR_LOOP) /* the line is cut off */
		return 0;
	while (n < len && s->rx_len < fifo_len(s))
		rx_push(s, buf[n++]);
	update_irq(serial);
	return n;
}

static void serial_drained(void *opaque)
{
	tx_flush(opaque);
	update_irq(opaque);
}

/* ---- the guest's side ---- */

static void write_thr(struct serial *serial, uint8_t value)
{
	struct serial_state *s = &serial->state;
	s->thre_pending = 0;
	update_irq(serial); /* the next "empty" is a new edge */
	if (s->mcr & UART_MCR_LOOP) {
		rx_push(s, value);
		s->thre_pending = 1;
		return;
	}
	if (s->tx_len < fifo_len(s)) /* else lost, as in hardware: LSR said "not empty" */
		s->tx[s->tx_len++] = value;
	tx_flush(serial);
}

static void write_ier(struct serial_state *s, uint8_t value)
{
	/* Enabling the interrupt while the transmitter is empty raises it. */
	if (value & ~s->ier & UART_IER_THRI && !s->tx_len)
		s->thre_pending = 1;
	s->ier = value & 0x0f;
}

static void write_fcr(struct serial *serial, uint8_t value)
{
	struct serial_state *s = &serial->state;
	bool toggled = (value ^ s->fcr) & UART_FCR_ENABLE_FIFO;
	if (toggled || value & UART_FCR_CLEAR_RCVR)
		s->rx_len = 0;
	if ((toggled || value & UART_FCR_CLEAR_XMIT) && s->tx_len) {
		s->tx_len = 0;
		s->thre_pending = 1;
	}
	s->fcr = value & (UART_FCR_ENABLE_FIFO | UART_FCR_TRIGGER_MASK);
	console_ready(serial->dev.m->console);
}

static void write_mcr(struct serial *serial, uint8_t value)
{
	struct serial_state *s = &serial->state;
	bool was_cut = s->mcr & UART_MCR_LOOP;
	s->mcr = value & 0x1f;
	if (was_cut && !(value & UART_MCR_LOOP))
		console_ready(serial->dev.m->console);
}

static void serial_write(struct serial *serial, uint64_t reg, uint8_t value)
{
	struct serial_state *s = &serial->state;
	bool dlab = s->lcr & UART_LCR_DLAB;
	switch (reg) {
	case UART_TX:
		if (dlab)
			s->divisor = (s->divisor & 0xff00) | value;
		else
			write_thr(serial, value);
		break;
	case UART_IER:
		if (dlab)
			s->divisor = (s->divisor & 0xff) | (uint32_t)value << 8;
		else
			write_ier(s, value);
		break;
	case UART_FCR:
		write_fcr(serial, value);
		break;
	case UART_LCR:
		s->lcr = value;
		break;
	case UART_MCR:
		write_mcr(serial, value);
		break;
	case UART_SCR:
		s->scr = value;
		break;
	}
}

static uint8_t read_rbr(struct serial *serial)
{
	struct serial_state *s = &serial->state;
	if (!s->rx_len)
		return 0;
	uint8_t value = s->rx[0];
	memmove(s->rx, s->rx + 1, --s->rx_len);
	if (!s->rx_len)
		console_ready(serial->dev.m->console);
	return value;
}

static uint8_t read_iir(struct serial_state *s)
{
	uint8_t value = cause(s);
	if (value == UART_IIR_THRI)
		s->thre_pending = 0;
	return value | (s->fcr & UART_FCR_ENABLE_FIFO ? 0xc0 : 0);
}

static uint8_t read_lsr(struct serial_state *s)
{
	uint8_t value = s->lsr | (s->rx_len ? UART_LSR_DR : 0) |
			(s->tx_len ? 0 : UART_LSR_THRE | UART_LSR_TEMT);
	s->lsr = 0;
	return value;
}

static uint8_t read_msr(const struct serial_state *s)
{
	if (!(s->mcr & UART_MCR_LOOP))
		return MODEM_LINE;
	/* Each output is wired to an input. */
	return (s->mcr & UART_MCR_RTS ? UART_MSR_CTS : 0) |
	       (s->mcr & UART_MCR_DTR ? UART_MSR_DSR : 0) |
	       (s->mcr & UART_MCR_OUT1 ? UART_MSR_RI : 0) |
	       (s->mcr & UART_MCR_OUT2 ? UART_MSR_DCD : 0);
}

static uint8_t serial_read(struct serial *serial, uint64_t reg)
{
	struct serial_state *s = &serial->state;
	bool dlab = s->lcr & UART_LCR_DLAB;
	switch (reg) {
	case UART_RX:
		return dlab ? (uint8_t)s->divisor : read_rbr(serial);
	case UART_IER:
		return dlab ? (uint8_t)(s->divisor >> 8) : s->ier;
	case UART_IIR:
		return read_iir(s);
	case UART_LCR:
		return s->lcr;
	case UART_MCR:
		return s->mcr;
	case UART_LSR:
		return read_lsr(s);
	case UART_MSR:
		return read_msr(s);
	default:
		return s->scr;
	}
}

/* Registers are a byte wide; a wider access is one of each. */
static void serial_access(void *opaque, struct bus_access *access)
{
	struct serial *serial = opaque;
	uint64_t value = 0;
	for (uint32_t i = 0; i < access->len; i++) {
		if (access->write)
			serial_write(serial, access->offset + i, (uint8_t)(access->value >> 8 * i));
		else
			value |= (uint64_t)serial_read(serial, access->offset + i) << 8 * i;
	}
	if (!access->write)
		access->value = value;
	update_irq(serial);
}

/* ---- life cycle ---- */

static int serial_post_load(void *opaque, struct error *err)
{
	const struct serial_state *s = &((struct serial *)opaque)->state;
	if (s->rx_len > SERIAL_FIFO_LEN || s->tx_len > SERIAL_FIFO_LEN || s->irq_level > 1 ||
	    s->divisor > 0xffff)
		return error_set(err, EBADMSG, "state " NODE ": values out of range");
	return 0;
}

static int serial_realize(struct device *dev, struct error *err)
{
	struct serial *serial = (struct serial *)dev;
	struct bus_region region = {.base = LAYOUT_SERIAL_PORT,
				    .len = 8,
				    .name = "serial",
				    .handler = serial_access,
				    .opaque = serial};
	console_attach(dev->m->console, serial_receive, serial_drained, serial);
	return bus_add(&dev->m->pio, &region, err);
}

static int serial_reset(struct device *dev, struct error *err)
{
	struct serial *serial = (struct serial *)dev;
	serial->state = (struct serial_state){.divisor = 12}; /* 9600 baud */
	return 0;
}

const struct device_class serial_class = {
	.name = "serial",
	.state = &serial_state_class,
	.size = sizeof(struct serial),
	.state_offset = offsetof(struct serial, state),
	.node = NODE,
	.realize = serial_realize,
	.reset = serial_reset,
	.post_load = serial_post_load,
};
