/* SPDX-License-Identifier: MIT */
/* The IOAPIC of machines with more than 255 vCPUs: registers, masks, levels, EOIs, extended ids; lines of eventfds; and
 * states that cannot be. KVM is a fake. */
#include "tests/unit/unit.h"

#include <linux/kvm.h>
#include <sys/eventfd.h>

#include "vmm/arch/x86_64/cpu.h"
#include "vmm/base/pool.h"
#include "vmm/machine.h"

#define BASE	   0xfec00000ull
#define LEVEL	   0x8000u
#define REMOTE_IRR 0x4000u
#define MASKED	   0x10000u
#define EXTENDED   1 /* id 300 is this times 256, and 44 */

static struct {
	struct kvm_msi sent; /* the last one */
	unsigned messages, uploads;
	int takers; /* what KVM says of a message */
	struct kvm_irq_routing_entry route[IRQ_PINS];
	unsigned routes;
} kvm;

long vm_ioctl(int fd, unsigned long request, void *arg)
{
	if (request == KVM_SIGNAL_MSI) {
		kvm.sent = *(struct kvm_msi *)arg;
		kvm.messages++;
		return kvm.takers;
	}
	assert_int_equal(request, KVM_SET_GSI_ROUTING);
	const struct kvm_irq_routing *r = arg;
	assert_true(r->nr <= ARRAY_LEN(kvm.route));
	kvm.routes = r->nr;
	kvm.uploads++;
	memcpy(kvm.route, r->entries, r->nr * sizeof(kvm.route[0]));
	return 0;
}

static struct machine *m;
static struct error err;

static struct machine *new_machine(void)
{
	struct machine *new = calloc(1, sizeof(*new));
	irq_init(&new->irq, &new->vm);
	assert_int_equal(ioapic_realize(new, &err), 0);
	return new;
}

static void free_machine(struct machine *old)
{
	close(old->irq.lines_fd);
	pool_free(old->irq.pins);
	free(old);
}

static int setup(void **state)
{
	memset(&kvm, 0, sizeof(kvm));
	kvm.takers = 1;
	m = new_machine();
	return 0;
}

static int teardown(void **state)
{
	free_machine(m);
	return 0;
}

static uint64_t reg(uint32_t offset, bool write, uint32_t len, uint64_t value)
{
	struct bus_access a = {.len = len, .write = write, .value = write ? value : ~0ull};
	assert_true(bus_dispatch(&m->mmio, BASE + offset, &a));
	return a.value;
}

static void put(uint8_t index, uint32_t value)
{
	reg(0, true, 4, index);
	reg(0x10, true, 4, value);
}

static uint32_t get(uint8_t index)
{
	reg(0, true, 4, index);
	return (uint32_t)reg(0x10, false, 4, 0);
}

/* As Linux does: the high half first. */
static void entry(unsigned pin, uint32_t low, uint32_t cpu)
{
	put((uint8_t)(0x11 + 2 * pin), (cpu & 0xff) << 24 | cpu >> 8 << 17);
	put((uint8_t)(0x10 + 2 * pin), low);
}

static uint32_t low_half(unsigned pin)
{
	return get((uint8_t)(0x10 + 2 * pin));
}

static void registers(void **state)
{
	assert_int_equal(get(1), 0x00170011); /* 24 entries, and no EOI register */
	assert_int_equal(get(0), 0);
	put(0, ~0u);
	assert_int_equal(get(0), 0x0f000000);
	assert_int_equal(get(2), 0x0f000000);
	put(1, ~0u);
	put(3, ~0u);
	put(0x40, ~0u); /* the EOI register of later ones, and where a 25th entry would be */
	assert_int_equal(get(1), 0x00170011);
	assert_int_equal(get(0x40), ~0u);
	for (unsigned pin = 0; pin < IRQ_PINS; pin++)
		assert_int_equal(low_half(pin), MASKED);
	entry(23, ~0u, 0);
	assert_int_equal(low_half(23), 0x1afff); /* what can be written */
	put(0x3f, ~0u);
	assert_int_equal(get(0x3f), 0xfffe0000);
	assert_int_equal(reg(0, false, 1, 0), 0x3f);
	assert_int_equal(reg(0x10, false, 8, 0), ~0ull); /* 32 bits alone */
	reg(0x10, true, 2, 0);
	reg(0x20, true, 4, 0);
	assert_int_equal(get(0x3f), 0xfffe0000);
}

static void an_edge_is_one_message(void **state)
{
	entry(4, 0x42, 300);
	assert_int_equal(kvm.routes, 0); /* its EOI is nobody's business */
	irq_pin(&m->irq, 4, true);
	irq_pin(&m->irq, 4, true);
	assert_int_equal(kvm.messages, 1);
	assert_int_equal(kvm.sent.address_lo, 0xfee00000 | 44 << 12);
	assert_int_equal(kvm.sent.address_hi, EXTENDED << 8);
	assert_int_equal(kvm.sent.data, 0x4042);
	irq_pin(&m->irq, 4, false);
	irq_eoi(&m->irq, 0x42);
	assert_int_equal(kvm.messages, 1);
	irq_pin(&m->irq, 4, true);
	assert_int_equal(kvm.messages, 2);
	assert_false(low_half(4) & REMOTE_IRR);
	/* masked: it is lost */
	irq_pin(&m->irq, 4, false);
	entry(4, 0x42 | MASKED, 300);
	irq_pin(&m->irq, 4, true);
	entry(4, 0x42, 300);
	assert_int_equal(kvm.messages, 2);
	/* logical destination, lowest priority */
	irq_pin(&m->irq, 4, false);
	entry(4, 0x943, 3);
	irq_pin(&m->irq, 4, true);
	assert_int_equal(kvm.sent.address_lo, 0xfee00004 | 3 << 12);
	assert_int_equal(kvm.sent.address_hi, 0);
	assert_int_equal(kvm.sent.data, 0x4143);
}

static void a_level_is_sent_until_it_is_low(void **state)
{
	entry(16, 0x50 | LEVEL, 300);
	assert_int_equal(kvm.routes, 1);
	assert_int_equal(kvm.route[0].gsi, 16);
	assert_int_equal(kvm.route[0].type, KVM_IRQ_ROUTING_MSI);
	assert_int_equal(kvm.route[0].u.msi.address_hi, EXTENDED << 8);
	assert_int_equal(kvm.route[0].u.msi.data, 0xc050);
	irq_pin(&m->irq, 16, true);
	assert_int_equal(kvm.messages, 1);
	assert_int_equal(kvm.sent.data, 0xc050);
	assert_true(low_half(16) & REMOTE_IRR);
	irq_pin(&m->irq, 16, false);
	irq_pin(&m->irq, 16, true);
	assert_int_equal(kvm.messages, 1);
	irq_eoi(&m->irq, 0x51); /* another one's */
	assert_int_equal(kvm.messages, 1);
	irq_eoi(&m->irq, 0x50);
	assert_int_equal(kvm.messages, 2);
	irq_pin(&m->irq, 16, false);
	irq_eoi(&m->irq, 0x50);
	assert_int_equal(kvm.messages, 2);
	assert_false(low_half(16) & REMOTE_IRR);
}

/* While it is served its EOI is still told. */
static void a_level_is_masked(void **state)
{
	entry(16, 0x50 | LEVEL | MASKED, 1);
	assert_int_equal(kvm.routes, 0);
	irq_pin(&m->irq, 16, true);
	assert_int_equal(kvm.messages, 0);
	entry(16, 0x50 | LEVEL, 1);
	assert_int_equal(kvm.messages, 1);
	unsigned uploads = kvm.uploads;
	entry(16, 0x50 | LEVEL | MASKED, 1);
	assert_int_equal(kvm.routes, 1);
	irq_eoi(&m->irq, 0x50);
	assert_int_equal(kvm.messages, 1);
	entry(16, 0x50 | LEVEL, 1);
	assert_int_equal(kvm.messages, 2);
	assert_int_equal(kvm.uploads, uploads + 2); /* of the high half while masked, and back */
}

/* So guests end an interrupt where there is no EOI register. Nobody takes one: it is not served. */
static void a_level_ends_otherwise(void **state)
{
	entry(16, 0x50 | LEVEL, 1);
	irq_pin(&m->irq, 16, true);
	entry(16, 0x50 | MASKED, 1);
	assert_false(low_half(16) & REMOTE_IRR);
	entry(16, 0x50 | LEVEL, 1);
	assert_int_equal(kvm.messages, 2);
	irq_pin(&m->irq, 16, false);
	irq_eoi(&m->irq, 0x50);
	for (int takers = 0; takers >= -1; takers--) {
		kvm.takers = takers;
		irq_pin(&m->irq, 16, true);
		assert_false(low_half(16) & REMOTE_IRR);
		irq_pin(&m->irq, 16, false);
	}
	assert_int_equal(kvm.messages, 4);
}

/* What guests write into an MSI, and what KVM is told: never low bits of the high half, for which it refuses all. */
static void ids_of_messages(void **state)
{
	assert_int_equal(arch_pins_msi_addr(0xfee00000), 0xfee00000);
	assert_int_equal(arch_pins_msi_addr(0xfee2c00c | 1 << 5), 0x100fee2c00c);
	assert_int_equal(arch_pins_msi_addr(0xfeeff000 | 0x7f << 5), 0x7f00feeff000);
	assert_int_equal(arch_pins_msi_addr(0x12345678fee2c000), 0xfee2c000);
	struct irq_source src = {.kind = IRQ_MSI,
				 .fd = -1,
				 .gsi = 30,
				 .msi_addr = 0xfee2c020 | 0xffull << 32,
				 .msi_data = 0x40};
	irq_add(&m->irq, &src);
	src.wanted = true;
	assert_int_equal(irq_routes_commit(&m->irq, &err), 0);
	assert_int_equal(kvm.routes, 1);
	assert_int_equal(kvm.route[0].u.msi.address_lo, 0xfee2c000);
	assert_int_equal(kvm.route[0].u.msi.address_hi, 0x100);
	irq_remove(&m->irq, &src);
}

/* ---- eventfds ---- */

static const uint64_t one = 1;

static bool took(int fd)
{
	uint64_t count;
	return read(fd, &count, sizeof(count)) == sizeof(count);
}

static void line_open(struct irq_source *src)
{
	*src = (struct irq_source){.kind = IRQ_LEVEL,
				   .fd = eventfd(0, EFD_NONBLOCK),
				   .unmask_fd = eventfd(0, EFD_NONBLOCK),
				   .gsi = 17};
	irq_add(&m->irq, src);
	irq_want(&m->irq, src, true);
}

static void line_close(struct irq_source *src)
{
	irq_remove(&m->irq, src);
	close(src->fd);
	close(src->unmask_fd);
}

/* All that share the pin look again; a device of ours on it is left alone. */
static void a_line_is_raised_until_its_eoi(void **state)
{
	struct irq_source a, b;
	line_open(&a);
	line_open(&b);
	irq_attach_all(&m->irq, IRQ_LEVEL);
	assert_true(a.attached && b.attached);
	assert_false(took(a.unmask_fd));
	entry(17, 0x60 | LEVEL, 300);
	assert_int_equal(write(a.fd, &one, 8), 8);
	irq_lines_fired(&m->irq, 0);
	irq_lines_fired(&m->irq, 0);
	assert_false(took(a.fd));
	assert_int_equal(kvm.messages, 1);
	irq_pin(&m->irq, 17, true);
	irq_eoi(&m->irq, 0x60);
	assert_true(took(a.unmask_fd) && took(b.unmask_fd));
	assert_int_equal(kvm.messages, 2);
	irq_pin(&m->irq, 17, false);
	irq_eoi(&m->irq, 0x60);
	assert_false(took(a.unmask_fd));
	assert_int_equal(kvm.messages, 2);
	line_close(&a);
	line_close(&b);
}

/* In an update it is off: what comes stays in the eventfd, and what was raised is ended by the EOI that comes. */
static void a_line_that_is_off(void **state)
{
	struct irq_source a;
	line_open(&a);
	irq_attach_all(&m->irq, IRQ_LEVEL);
	entry(17, 0x60 | LEVEL, 300);
	assert_int_equal(write(a.fd, &one, 8), 8);
	irq_lines_fired(&m->irq, 0);
	assert_int_equal(irq_detach_all(&m->irq, &err), 0);
	irq_eoi(&m->irq, 0x60);
	assert_true(took(a.unmask_fd));
	assert_int_equal(write(a.fd, &one, 8), 8);
	irq_lines_fired(&m->irq, 0);
	assert_int_equal(kvm.messages, 1);
	irq_attach_all(&m->irq, IRQ_LEVEL);
	irq_lines_fired(&m->irq, 0);
	assert_int_equal(kvm.messages, 2);
	assert_false(took(a.unmask_fd));
	irq_want(&m->irq, &a, false);
	assert_int_equal(irq_apply(&m->irq, &err), 0);
	irq_eoi(&m->irq, 0x60);
	assert_false(took(a.unmask_fd));
	line_close(&a);
}

/* ---- state ---- */

static void *save(const struct machine *of, size_t *len)
{
	struct state_header header = {.version = "test"};
	struct fdset fds = {0};
	size_t size = state_size_bound(&of->tree, &fds);
	void *data = aligned_alloc(8, align_up(size, 8));
	assert_int_equal(state_save(&of->tree, &fds, &header, data, size, len, &err), 0);
	return data;
}

static int load(struct machine *into, const void *data, size_t len)
{
	static struct state_blob blob;
	assert_int_equal(state_open(&blob, data, len, &err), 0);
	return state_load_section(&blob, &into->tree.sections[0], &err);
}

static struct ioapic_state *state_of(const struct machine *of)
{
	return of->tree.sections[0].state;
}

/* A and then B is B; an interrupt that is served goes on there. */
static void a_state_is_loaded(void **state)
{
	size_t len, first_len;
	struct machine *old = m;
	void *first = save(old, &first_len);
	struct irq_source a;
	line_open(&a);
	irq_attach_all(&m->irq, IRQ_LEVEL);
	entry(17, 0x60 | LEVEL, 300);
	assert_int_equal(write(a.fd, &one, 8), 8);
	irq_lines_fired(&m->irq, 0);
	put(0, 0x05000000);
	line_close(&a);
	assert_true(arch_pins_in_service(m->irq.pins));
	void *data = save(old, &len);
	m = new_machine();
	line_open(&a);
	assert_int_equal(load(m, data, len) ?: load(m, first, first_len), 0);
	assert_false(arch_pins_in_service(m->irq.pins));
	assert_int_equal(load(m, data, len), 0);
	assert_memory_equal(state_of(m), state_of(old), sizeof(struct ioapic_state));
	assert_true(arch_pins_in_service(m->irq.pins));
	m->irq.routes_dirty = true;
	assert_int_equal(irq_routes_commit(&m->irq, &err), 0);
	assert_int_equal(kvm.routes, 1);
	irq_eoi(&m->irq, 0x60);
	assert_true(took(a.unmask_fd));
	assert_int_equal(kvm.messages, 1);
	assert_int_equal(get(0), 0x05000000);
	line_close(&a);
	free_machine(old);
	free(first);
	free(data);
}

static void states_that_cannot_be(void **state)
{
	const struct ioapic_state good = *state_of(m),
				  bad[] = {
					  {.id = 0x10},
					  {.lines = 1u << IRQ_PINS},
					  {.raised = 1u << 31},
					  {.entry[23] = REMOTE_IRR}, /* of an edge */
					  {.entry[0] =
						   LEVEL |
						   1ull << 12}, /* is never pending in the IOAPIC */
					  {.entry[5] = 1ull << 48},
					  {.entry[5] = 1ull << 17},
				  };
	for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
		size_t len;
		*state_of(m) = bad[i];
		void *data = save(m, &len);
		*state_of(m) = good;
		assert_int_equal(load(m, data, len), -EBADMSG);
		assert_non_null(strstr(err.text, "state ioapic"));
		free(data);
	}
	*state_of(m) = (struct ioapic_state){.index = ~0u};
	reg(0x10, false, 4, 0); /* any index is one */
	reg(0x10, true, 4, 0);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(registers),
		T(an_edge_is_one_message),
		T(a_level_is_sent_until_it_is_low),
		T(a_level_is_masked),
		T(a_level_ends_otherwise),
		T(ids_of_messages),
		T(a_line_is_raised_until_its_eoi),
		T(a_line_that_is_off),
		T(a_state_is_loaded),
		T(states_that_cannot_be),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
