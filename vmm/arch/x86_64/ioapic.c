/* SPDX-License-Identifier: MIT */
/*
 * The IOAPIC of a machine with more than 255 vCPUs: KVM's own has 8 bits for a local APIC's id. Intel's 82093AA data
 * sheet, with the extended destination ids that KVM's guests know (Documentation/virt/kvm/x86/cpuid.rst,
 * KVM_FEATURE_MSI_EXT_DEST_ID): bits 8 to 14 of an id are bits 49 to 55 of an entry, and bits 5 to 11 of the address of
 * a message.
 *
 * What an entry sends goes to KVM as a message. KVM tells the EOI of a level-triggered vector only if one of the routes
 * of the pins' GSIs has it (kvm_scan_ioapic_routes), so the entries are routes too.
 *
 * As in KVM's, the polarity of a pin is ignored: lines say whether they are asserted.
 */
#include "vmm/arch/x86_64/cpu.h"
#include "vmm/arch/x86_64/layout.h"
#include "vmm/machine.h"

enum { REG_SELECT = 0x00, REG_WINDOW = 0x10, LEN = 0x100 };
enum { INDEX_ID = 0, INDEX_VERSION = 1, INDEX_ARBITRATION = 2, INDEX_ENTRIES = 0x10 };
#define VERSION	 (0x11 | (IRQ_PINS - 1) << 16) /* of the 82093AA: it has no EOI register */
#define ID_SHIFT 24

#define ENTRY_VECTOR	 0xffull
#define ENTRY_MODE_SHIFT 8
#define ENTRY_LOGICAL	 (1ull << 11)
#define ENTRY_REMOTE_IRR (1ull << 14)
#define ENTRY_LEVEL	 (1ull << 15)
#define ENTRY_MASKED	 (1ull << 16)
#define ENTRY_WRITABLE	 (0xfffe00000001afffull)

/* Messages: Intel SDM 3A, 11.11. */
#define MSG_ADDRESS  0xfee00000u
#define MSG_LOGICAL  (1u << 2)
#define MSG_ASSERT   (1u << 14)
#define MSG_LEVEL    (1u << 15)
#define MSG_EXTENDED 0xfe0u /* bits 8 to 14 of the id */

#define S struct ioapic_state
static const struct field ioapic_fields[] = {
	FIELD_U(S, id),	    FIELD_U(S, index),	   FIELD_U(S, lines),
	FIELD_U(S, raised), FIELD_ARRAY(S, entry),
};
#undef S

STATE_CLASS(ioapic_state_class, "ioapic", 1, struct ioapic_state, ioapic_fields);

struct arch_pins {
	struct irq *irq;
	struct ioapic_state state;
	unsigned complaints;
};

/* What the guest writes has bits 8 to 14 of the id in the low half. KVM wants them in the high one, the others there
 * zero (kvm_msi_route_invalid). Else the high half means nothing. */
uint64_t arch_pins_msi_addr(uint64_t addr)
{
	uint64_t id = (addr & MSG_EXTENDED) << 3; /* where it belongs in an id: bits 8 to 14 */
	return id << 32 | (uint32_t)(addr & ~(uint64_t)MSG_EXTENDED);
}

static uint64_t message_addr(uint64_t entry)
{
	uint64_t id = entry >> 56, extended = entry >> 49 & 0x7f;
	return extended << 40 | MSG_ADDRESS | id << 12 | (entry & ENTRY_LOGICAL ? MSG_LOGICAL : 0);
}

static uint32_t message_data(uint64_t entry)
{
	return (uint32_t)(entry & (ENTRY_VECTOR | 7ull << ENTRY_MODE_SHIFT)) | MSG_ASSERT |
	       (entry & ENTRY_LEVEL ? MSG_LEVEL : 0);
}

/* A level is sent once, until its EOI. */
static void send(struct arch_pins *p, uint32_t pin)
{
	uint64_t *e = &p->state.entry[pin];
	if (*e & (ENTRY_MASKED | ENTRY_REMOTE_IRR))
		return;
	int taken = irq_msi_send(p->irq, message_addr(*e), message_data(*e));
	if (taken > 0 && *e & ENTRY_LEVEL)
		*e |= ENTRY_REMOTE_IRR;
}

static bool asserted(const struct arch_pins *p, uint32_t pin)
{
	return (p->state.lines | p->state.raised) >> pin & 1;
}

static void send_level(struct arch_pins *p, uint32_t pin)
{
	if (asserted(p, pin) && p->state.entry[pin] & ENTRY_LEVEL)
		send(p, pin);
}

static void set(struct arch_pins *p, uint32_t pin, uint32_t *lines, bool on)
{
	bool was = asserted(p, pin);
	*lines = on ? *lines | 1u << pin : *lines & ~(1u << pin);
	if (asserted(p, pin) && !was)
		send(p, pin); /* an edge that is masked is lost: data sheet, 3.2.4, bit 16 */
}

void arch_pins_set(struct arch_pins *p, uint32_t gsi, bool on)
{
	set(p, gsi, &p->state.lines, on);
}

void arch_pins_raise(struct arch_pins *p, uint32_t gsi)
{
	set(p, gsi, &p->state.raised, true);
}

uint32_t arch_pins_eoi(struct arch_pins *p, uint8_t vector)
{
	const uint64_t served = ENTRY_REMOTE_IRR | ENTRY_LEVEL;
	uint32_t ended = 0;
	for (uint32_t pin = 0; pin < IRQ_PINS; pin++) {
		uint64_t *e = &p->state.entry[pin];
		if ((*e & ENTRY_VECTOR) != vector || (*e & served) != served)
			continue;
		*e &= ~ENTRY_REMOTE_IRR;
		ended |= p->state.raised & 1u << pin;
		p->state.raised &= ~(1u << pin);
		send_level(p, pin);
	}
	return ended;
}

bool arch_pins_in_service(const struct arch_pins *p)
{
	for (uint32_t pin = 0; pin < IRQ_PINS; pin++)
		if (p->state.entry[pin] & ENTRY_REMOTE_IRR)
			return true;
	return false;
}

/* Those whose EOI is to be told. An entry that was masked while its interrupt is served is one of them. */
static uint32_t entry_routes(const struct arch_pins *p, struct kvm_irq_routing_entry *out)
{
	uint32_t n = 0;
	for (uint32_t pin = 0; pin < IRQ_PINS; pin++) {
		uint64_t e = p->state.entry[pin], addr = message_addr(e);
		if (!(e & ENTRY_LEVEL) || (e & ENTRY_MASKED && !(e & ENTRY_REMOTE_IRR)))
			continue;
		out[n++] = (struct kvm_irq_routing_entry){
			.gsi = pin,
			.type = KVM_IRQ_ROUTING_MSI,
			.u.msi = {.address_lo = (uint32_t)addr,
				  .address_hi = (uint32_t)(addr >> 32),
				  .data = message_data(e)}};
	}
	return n;
}

/* Of KVM's controllers: GSI 0 to 15 to PIC and IOAPIC, 16 to 23 to the IOAPIC alone; IRQ 0 is wired to IOAPIC pin
 * 2 as on a PC, which the MADT's override tells the guest. */
uint32_t arch_pin_routes(const struct arch_pins *p, struct kvm_irq_routing_entry *e)
{
	uint32_t n = 0;
	if (p)
		return entry_routes(p, e);
	for (uint32_t gsi = 0; gsi < IRQ_PINS; gsi++) {
		if (gsi < 16)
			e[n++] = (struct kvm_irq_routing_entry){
				.gsi = gsi,
				.type = KVM_IRQ_ROUTING_IRQCHIP,
				.u.irqchip = {.irqchip = gsi < 8 ? KVM_IRQCHIP_PIC_MASTER
								 : KVM_IRQCHIP_PIC_SLAVE,
					      .pin = gsi % 8}};
		if (gsi == 2)
			continue;
		e[n++] = (struct kvm_irq_routing_entry){
			.gsi = gsi,
			.type = KVM_IRQ_ROUTING_IRQCHIP,
			.u.irqchip = {.irqchip = KVM_IRQCHIP_IOAPIC, .pin = gsi == 0 ? 2 : gsi}};
	}
	return n;
}

/* ---- the guest's registers ---- */

static uint32_t read_window(const struct ioapic_state *s)
{
	uint32_t word = s->index - INDEX_ENTRIES;
	if (s->index == INDEX_VERSION)
		return VERSION;
	if (s->index == INDEX_ID || s->index == INDEX_ARBITRATION)
		return (uint32_t)s->id << ID_SHIFT;
	if (s->index < INDEX_ENTRIES || word >= 2 * IRQ_PINS)
		return UINT32_MAX;
	return (uint32_t)(s->entry[word / 2] >> 32 * (word % 2));
}

/* An entry that is made edge-triggered is no longer served: so guests end it where there is no EOI register. */
static void write_entry(struct arch_pins *p, uint32_t word, uint32_t value)
{
	struct error err;
	uint64_t *e = &p->state.entry[word / 2], shift = 32 * (word % 2);
	uint64_t mask = ENTRY_WRITABLE & 0xffffffffull << shift;
	*e = (*e & ~mask) | ((uint64_t)value << shift & mask);
	if (!(*e & ENTRY_LEVEL))
		*e &= ~ENTRY_REMOTE_IRR;
	p->irq->routes_dirty = true;
	if (irq_routes_commit(p->irq, &err) && log_guest_ok(&p->complaints, 5))
		log_error(&err);
	send_level(p, word / 2);
}

static void write_window(struct arch_pins *p, uint32_t value)
{
	struct ioapic_state *s = &p->state;
	uint32_t word = s->index - INDEX_ENTRIES;
	if (s->index == INDEX_ID)
		s->id = value >> ID_SHIFT & 0xf;
	else if (s->index >= INDEX_ENTRIES && word < 2 * IRQ_PINS)
		write_entry(p, word, value);
}

static void ioapic_access(void *opaque, struct bus_access *a)
{
	struct arch_pins *p = opaque;
	if (a->offset == REG_SELECT && a->write)
		p->state.index = (uint8_t)a->value;
	else if (a->offset == REG_SELECT)
		a->value = p->state.index;
	else if (a->offset == REG_WINDOW && a->len == 4 && a->write)
		write_window(p, (uint32_t)a->value);
	else if (a->offset == REG_WINDOW && a->len == 4)
		a->value = read_window(&p->state);
}

/* ---- its life ---- */

static int post_load(void *opaque, struct error *err)
{
	const struct ioapic_state *s = &((struct arch_pins *)opaque)->state;
	bool bad = s->id > 0xf || (s->lines | s->raised) >> IRQ_PINS;
	for (uint32_t pin = 0; pin < IRQ_PINS; pin++) {
		bool served = s->entry[pin] & ENTRY_REMOTE_IRR;
		bad |= s->entry[pin] & ~(ENTRY_WRITABLE | ENTRY_REMOTE_IRR);
		bad |= served && !(s->entry[pin] & ENTRY_LEVEL);
	}
	return bad ? error_set(err, EBADMSG, "state ioapic: no IOAPIC can be like that") : 0;
}

int ioapic_realize(struct machine *m, struct error *err)
{
	struct arch_pins *p = pool_alloc(1, sizeof(*p));
	if (!p)
		return error_errno(err, ENOMEM, "IOAPIC");
	p->irq = &m->irq;
	for (uint32_t pin = 0; pin < IRQ_PINS; pin++)
		p->state.entry[pin] = ENTRY_MASKED;
	struct state_section s = {.node = "ioapic",
				  .cls = &ioapic_state_class,
				  .state = &p->state,
				  .opaque = p,
				  .post_load = post_load};
	struct bus_region region = {.base = LAYOUT_IOAPIC_BASE,
				    .len = LEN,
				    .name = "ioapic",
				    .handler = ioapic_access,
				    .opaque = p};
	return irq_use_pins(&m->irq, p, err)
		       ?: bus_add(&m->mmio, &region, err) ?: state_register(&m->tree, &s, err);
}
