/* SPDX-License-Identifier: MIT */
/* The test device in the life of a machine, and where the host refuses. */
#include "tests/unit/fake_machine.h"

#include <linux/pci_regs.h>

#include "devices/pc/pc.h"
#include "vmm/base/log.h"

#define SLOT 1

/* In the place of vmm/base/log.c. */
static unsigned lines;

void log_info(const char *fmt, ...)
{
	lines++;
}

void log_warn(const char *fmt, ...)
{
	lines++;
}

void log_error(const struct error *err)
{
	lines++;
}

bool log_guest_ok(unsigned *counter, unsigned burst)
{
	return *counter < burst && ++*counter;
}

static struct machine *m;

static int teardown(void **state)
{
	for (unsigned i = 0; i < m->fds.n; i++)
		close(m->fds.e[i].fd);
	fake_destroy(m);
	return 0;
}

static void add_eventfd(const char *name)
{
	assert_int_equal(fdset_keep(&m->fds, name, eventfd(0, EFD_NONBLOCK), NULL), 0);
}

static void start(void)
{
	struct error err = {0};
	assert_int_equal(fake_realize(m, &err), 0);
	assert_int_equal(fake_reset(m, &err), 0);
	assert_int_equal(fake_start(m, &err), 0);
}

static void refused_interrupt_is_said_a_few_times(void **state)
{
	m = fake_machine(true);
	add_eventfd("testdev0:trigger");
	add_eventfd("testdev0:unmask");
	assert_int_equal(machine_add_device(m, &testdev_class, "trigger=0,unmask=0", NULL), 0);
	start();
	fake.irqfd_error = EMFILE;
	for (int i = 0; i < 100; i++) {
		config_put(m, SLOT, PCI_COMMAND, 2, PCI_COMMAND_INTX_DISABLE);
		config_put(m, SLOT, PCI_COMMAND, 2, 0);
	}
	fake.irqfd_error = 0;
	assert_in_range(lines, 1, 10);
}

/* The last device goes first, and leaves nothing of its own in the machine's list of interrupts. */
static void devices_go_one_after_another(void **state)
{
	m = fake_machine(true);
	add_eventfd("testdev0:trigger");
	add_eventfd("testdev1:trigger");
	add_eventfd("testdev1:unmask");
	assert_int_equal(machine_add_device(m, &testdev_class, "trigger=0", NULL), 0);
	assert_int_equal(machine_add_device(m, &testdev_class, "trigger=0,unmask=0", NULL), 0);
	start();
	assert_int_equal(irq_detach_all(&m->irq, NULL), 0);
	device_destroy(m->devices[2]);
	m->ndevices = 2;
	assert_non_null(m->irq.sources);
	assert_null(m->irq.sources->next);
}

/* What KVM waits for is left until the guest runs. */
static void lines_are_attached_apart(void **state)
{
	m = fake_machine(true);
	add_eventfd("testdev0:trigger");
	add_eventfd("testdev0:unmask");
	assert_int_equal(machine_add_device(m, &testdev_class, "trigger=0,unmask=0", NULL), 0);
	start();
	assert_int_equal(fake.irqfds, 1);
	assert_int_equal(irq_detach_all(&m->irq, NULL), 0);
	irq_attach_all(&m->irq, IRQ_MSI);
	assert_int_equal(fake.irqfds, 0);
	irq_attach_all(&m->irq, IRQ_LEVEL);
	assert_int_equal(fake.irqfds, 1);
}

/* KVM is short of memory for the line's irqfd: it is attached when there is some, and looked at then. */
static void a_line_that_kvm_refuses(void **state)
{
	uint64_t count;
	m = fake_machine(true);
	add_eventfd("testdev0:trigger");
	add_eventfd("testdev0:unmask");
	assert_int_equal(machine_add_device(m, &testdev_class, "trigger=0,unmask=0", NULL), 0);
	start();
	assert_int_equal(irq_detach_all(&m->irq, NULL), 0);
	fake.irqfd_error = ENOMEM;
	irq_attach_all(&m->irq, IRQ_LEVEL);
	assert_int_equal(fake.irqfds, 0);
	assert_true(m->irq.missing);
	irq_attach_missing(&m->irq);
	assert_true(m->irq.missing);
	fake.irqfd_error = 0;
	int unmask = fdset_get(&m->fds, "testdev0:unmask");
	assert_int_equal(read(unmask, &count, sizeof(count)), sizeof(count));
	irq_attach_missing(&m->irq);
	assert_false(m->irq.missing);
	assert_int_equal(fake.irqfds, 1);
	assert_int_equal(read(unmask, &count, sizeof(count)), sizeof(count));
}

/* A line that was asserted before the update is looked at again. One that was signalled in it reaches the guest, whose
 * EOI unmasks it: before that it would come twice. */
static void a_line_is_unmasked_once(void **state)
{
	const uint64_t one = 1;
	uint64_t count;
	m = fake_machine(true);
	add_eventfd("testdev0:trigger");
	add_eventfd("testdev0:unmask");
	assert_int_equal(machine_add_device(m, &testdev_class, "trigger=0,unmask=0", NULL), 0);
	start();
	int trigger = fdset_get(&m->fds, "testdev0:trigger"),
	    unmask = fdset_get(&m->fds, "testdev0:unmask");
	read(unmask, &count, sizeof(count)); /* of the start */
	for (unsigned signalled = 0; signalled < 2; signalled++) {
		assert_int_equal(irq_detach_all(&m->irq, NULL), 0);
		if (signalled)
			assert_int_equal(write(trigger, &one, sizeof(one)), sizeof(one));
		irq_attach_all(&m->irq, IRQ_LEVEL);
		assert_int_equal(fake.irqfds, 1);
		assert_int_equal(read(unmask, &count, sizeof(count)), signalled ? -1 : 8);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(refused_interrupt_is_said_a_few_times, teardown),
		cmocka_unit_test_teardown(devices_go_one_after_another, teardown),
		cmocka_unit_test_teardown(lines_are_attached_apart, teardown),
		cmocka_unit_test_teardown(a_line_that_kvm_refuses, teardown),
		cmocka_unit_test_teardown(a_line_is_unmasked_once, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
