/* SPDX-License-Identifier: MIT */
/* The IOAPIC of machines with more than 255 vCPUs under a guest that writes anything into its registers, devices that
 * assert and lower any pin, EOIs of any vector and updates at any time. */
#include "tests/fuzz/fuzz.h"

#include <linux/kvm.h>

#include "vmm/arch/x86_64/cpu.h"
#include "vmm/arch/x86_64/layout.h"
#include "vmm/base/pool.h"
#include "vmm/machine.h"

static struct {
	bool refuses;
	int takers;
} kvm;

/* KVM refuses the whole table for one route whose id it does not take (kvm_msi_route_invalid). */
static void check_route(const struct kvm_irq_routing_entry *e)
{
	fuzz_expect(e->type == KVM_IRQ_ROUTING_MSI && e->gsi < IRQ_PINS, "GSI %u", e->gsi);
	fuzz_expect(!(e->u.msi.address_hi & 0xff), "address 0x%x", e->u.msi.address_hi);
	fuzz_expect(e->u.msi.address_lo >> 20 == 0xfee, "address 0x%x", e->u.msi.address_lo);
	fuzz_expect(e->u.msi.data & 0x8000, "a route of an edge, data 0x%x", e->u.msi.data);
}

long vm_ioctl(int fd, unsigned long request, void *arg)
{
	const struct kvm_msi *msi = arg;
	const struct kvm_irq_routing *r = arg;
	if (request == KVM_SIGNAL_MSI) {
		fuzz_expect(msi->address_lo >> 20 == 0xfee && !(msi->address_hi & 0xff),
			    "message to 0x%x%08x", msi->address_hi, msi->address_lo);
		return kvm.takers;
	}
	fuzz_expect(request == KVM_SET_GSI_ROUTING, "ioctl 0x%lx", request);
	for (uint32_t i = 0; i < r->nr; i++)
		check_route(&r->entries[i]);
	return kvm.refuses ? -ENOMEM : 0;
}

static struct machine *begin(void)
{
	struct error err;
	struct machine *m = calloc(1, sizeof(*m));
	irq_init(&m->irq, &m->vm);
	fuzz_expect(!ioapic_realize(m, &err), "%s", err.text);
	return m;
}

static void end(struct machine *m)
{
	close(m->irq.lines_fd);
	pool_free(m->irq.pins);
	free(m);
}

static struct machine *update(struct machine *m)
{
	static uint64_t data[1024];
	static struct state_blob blob;
	struct state_header header = {.version = "test"};
	struct fdset fds = {0};
	struct error err;
	size_t len;
	struct machine *next = begin();
	int rc = state_save(&m->tree, &fds, &header, data, sizeof(data), &len, &err)
			 ?: state_open(&blob, data, len, &err)
			 ?: state_load_section(&blob, &next->tree.sections[0], &err);
	fuzz_expect(!rc, "not taken over: %s", err.text);
	fuzz_expect(!memcmp(m->tree.sections[0].state, next->tree.sections[0].state,
			    sizeof(struct ioapic_state)),
		    "another state");
	end(m);
	return next;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct input in = {data, len};
	struct machine *m = begin();
	while (in.n) {
		unsigned kind = input_u8(&in), pin = input_u8(&in) % IRQ_PINS;
		struct bus_access a = {.len = 1u << (kind >> 6), .write = kind & 0x20};
		fuzz_guest_acts();
		kvm.refuses = kind & 0x10;
		kvm.takers = (int)(kind >> 6) - 1;
		switch (kind & 7) {
		case 0:
			irq_pin(&m->irq, pin, kind & 0x20);
			break;
		case 1:
			arch_pins_raise(m->irq.pins, pin);
			break;
		case 2:
			irq_eoi(&m->irq, (uint8_t)input_u8(&in));
			break;
		case 3:
			fuzz_log.guest = false;
			m = update(m);
			break;
		default:
			a.value = input_num(&in, a.len);
			bus_dispatch(&m->mmio, LAYOUT_IOAPIC_BASE + (kind & 8 ? 0x10 : 0), &a);
		}
	}
	fuzz_log.guest = false;
	end(m);
	return 0;
}
