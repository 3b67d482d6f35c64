/* SPDX-License-Identifier: MIT */
#include "tests/unit/unit.h"

#include <fcntl.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <unistd.h>

#include "vmm/arch/x86_64/cpu.h"
#include "vmm/machine.h"

static struct {
	struct kvm_cpuid2 head;
	struct kvm_cpuid_entry2 entries[CPUID_MAX_ENTRIES];
} cpuid;

static struct kvm_cpuid_entry2 *find(uint32_t function, uint32_t index)
{
	for (uint32_t i = 0; i < cpuid.head.nent; i++)
		if (cpuid.entries[i].function == function && cpuid.entries[i].index == index)
			return &cpuid.entries[i];
	return NULL;
}

static struct kvm_cpuid_entry2 *need(uint32_t function, uint32_t index)
{
	struct kvm_cpuid_entry2 *e = find(function, index);
	if (!e)
		fail_msg("no leaf 0x%x.%u", function, index);
	return e;
}

/* A processor that has everything. */
static void make(uint32_t vendor_ecx)
{
	static const struct {
		uint32_t function, indices;
	} leaves[] = {{0, 1},	       {1, 1},		{4, 5},		 {7, 2},
		      {0xa, 1},	       {0xb, 2},	{0xd, 20},	 {0x12, 3},
		      {0x14, 2},       {0x1d, 2},	{0x1e, 1},	 {0x1f, 4},
		      {0x40000000, 1}, {0x40000001, 1}, {0x80000001, 1}, {0x80000008, 1},
		      {0x8000000a, 1}, {0x8000001d, 4}, {0x8000001e, 1}, {0x80000022, 1},
		      {0x29, 2},       {0x80000030, 1}};
	cpuid.head.nent = 0;
	for (unsigned i = 0; i < ARRAY_LEN(leaves); i++)
		for (uint32_t k = 0; k < leaves[i].indices; k++)
			cpuid.entries[cpuid.head.nent++] =
				(struct kvm_cpuid_entry2){.function = leaves[i].function,
							  .index = k,
							  .eax = ~0u,
							  .ebx = ~0u,
							  .ecx = ~0u,
							  .edx = ~0u};
	need(0, 0)->eax = 0x1f;
	need(0, 0)->ecx = vendor_ecx;
	for (uint32_t i = 2; i < 20; i++) { /* XSAVE: components of 64 bytes from 576 on */
		need(0xd, i)->eax = 64;
		need(0xd, i)->ebx = 576 + 64 * (i - 2);
	}
	need(4, 0)->eax = 1 << 5 | 1;
	need(4, 1)->eax = 1 << 5 | 2;
	need(4, 2)->eax = 2 << 5 | 3;
	need(4, 3)->eax = 3 << 5 | 3 | 0xfc000000 | 0x3ffc000;
	need(4, 4)->eax = 0;
}

static const struct cpu_options flat4 = {.sockets = 1, .cores = 4, .threads = 1};

#define AMD   0x444d4163
#define INTEL 0x6c65746e

/* What nobody saves is not shown, be it known today or not. */
static void hides_what_is_not_carried(void **state)
{
	make(INTEL);
	cpuid_filter(&cpuid.head, true, &flat4);
	static const struct {
		uint32_t function, index;
		enum { EAX, EBX, ECX, EDX } reg;
		uint32_t bits;
	} hidden[] = {
		{0x1, 0, ECX, 1 << 5 | 1 << 2 | 1 << 15}, /* VMX, 64-bit debug store, PDCM */
		{0x1, 0, EDX, 1 << 21},			  /* debug store */
		{0x7, 0, EBX,
		 1 << 2 | 1 << 25 | 1 << 22}, /* SGX, processor trace, one of tomorrow's */
		{0x7, 0, ECX, 1 << 7 | 1 << 23 | 1 << 30}, /* shadow stacks, key locker, SGX */
		{0x7, 0, EDX,
		 1 << 5 | 1 << 19 | 1 << 20}, /* user interrupts, branch records, IBT */
		{0x7, 1, EAX, 1 << 17},	      /* FRED */
		{0x7, 1, EBX, ~0u},	      /* a register of tomorrow's */
		{0xd, 0, EAX, ~0x602ffu},     /* XCR0 beyond PKRU and AMX */
		{0xd, 0, EDX, ~0u},
		{0x1e, 0, EAX, ~0u},				  /* more indices of AMX */
		{0xd, 1, ECX, ~0u},				  /* XSS */
		{0x40000001, 0, EAX, 1 << 4 | 1 << 10 | 1 << 14}, /* async page faults */
		{0x80000001, 0, ECX, 1 << 2 | 1 << 12 | 0x19800000},
		{0x80000008, 0, EBX, 1 << 1},
	};
	for (unsigned i = 0; i < ARRAY_LEN(hidden); i++) {
		const struct kvm_cpuid_entry2 *e = need(hidden[i].function, hidden[i].index);
		const uint32_t reg[] = {e->eax, e->ebx, e->ecx, e->edx};
		if (reg[hidden[i].reg] & hidden[i].bits)
			fail_msg("0x%x.%u, register %u shows 0x%x", e->function, e->index,
				 hidden[i].reg, reg[hidden[i].reg] & hidden[i].bits);
	}
	static const uint32_t gone[] = {0xa,	    0x12,	0x14,	    0x29,
					0x8000000a, 0x8000001f, 0x80000022, 0x80000030};
	for (unsigned i = 0; i < ARRAY_LEN(gone); i++)
		for (uint32_t k = 0; k < 4; k++)
			assert_null(find(gone[i], k));
	for (uint32_t i = 0; i < 20; i++)
		assert_int_equal(find(0xd, i) != NULL, i < 8 || i == 9 || i == 17 || i == 18);
}

static void shows_what_is(void **state)
{
	make(INTEL);
	cpuid_filter(&cpuid.head, true, &flat4);
	assert_int_equal(need(7, 0)->eax, 2);
	assert_int_equal(need(7, 0)->ebx, ~(1u << 2 | 1u << 12 | 1u << 15 | 1u << 22 | 1u << 25));
	assert_int_equal(need(1, 0)->ecx & 0xb0982203, 0xb0982203); /* SSE3 to RDRAND */
	assert_int_equal(need(1, 0)->eax, ~0u);
	assert_int_equal(need(0x80000001, 0)->edx >> 29 & 1, 1); /* long mode */
	assert_int_equal(need(0x80000008, 0)->eax, ~0u);
	assert_int_equal(need(0xd, 0)->eax, 0x602ff);
	/* the largest area is that of what remains */
	need(0xd, 0)->eax = 7;
	cpuid_filter(&cpuid.head, true, &flat4);
	assert_int_equal(need(0xd, 0)->ecx, 640);
}

/* KVM shows them in XCR0 only to a process that may have them; in the other leaves always. */
static void amx_where_there_are_tiles(void **state)
{
	static const uint32_t without[] = {0x2ff, 0x202ff, 0x402ff};
	make(INTEL);
	cpuid_filter(&cpuid.head, true, &flat4);
	assert_int_equal(need(7, 0)->edx & (1 << 22 | 1 << 24 | 1 << 25),
			 1 << 22 | 1 << 24 | 1 << 25);
	assert_int_equal(need(7, 1)->eax & 1 << 21, 1 << 21);
	assert_int_equal(need(7, 1)->edx & 1 << 8, 1 << 8);
	assert_int_equal(need(0xd, 1)->eax & 1 << 4, 1 << 4);
	assert_int_equal(need(0xd, 0)->ecx, 576 + 64 * 17);
	assert_int_equal(need(0x1e, 0)->ebx, ~0u);
	assert_non_null(find(0x1d, 1));
	for (unsigned i = 0; i < ARRAY_LEN(without); i++) {
		make(INTEL);
		need(0xd, 0)->eax = without[i];
		cpuid_filter(&cpuid.head, true, &flat4);
		assert_int_equal(need(7, 0)->edx & (1 << 22 | 1 << 24 | 1 << 25), 0);
		assert_int_equal(need(7, 1)->eax & 1 << 21, 0);
		assert_int_equal(need(7, 1)->edx & 1 << 8, 0);
		assert_int_equal(need(0xd, 0)->eax, 0x2ff);
		assert_int_equal(need(0xd, 1)->eax & 1 << 4, 0); /* XFD */
		assert_null(find(0xd, 17));
		assert_null(find(0xd, 18));
		assert_null(find(0x1d, 0));
		assert_null(find(0x1d, 1));
		assert_null(find(0x1e, 0));
	}
}

/* For those who ask. Of what KVM can do for such a guest, less what nobody saves: branch records, and what is
 * unknown. */
static void svm_where_it_is_asked_for(void **state)
{
	make(AMD);
	cpuid_filter(&cpuid.head, true, &(struct cpu_options){.nested = true});
	assert_int_equal(need(0x80000001, 0)->ecx & 1 << 2, 1 << 2);
	assert_int_equal(need(0x8000000a, 0)->eax, ~0u);
	assert_int_equal(need(0x8000000a, 0)->ebx, ~0u);
	assert_int_equal(need(0x8000000a, 0)->ecx, 0);
	assert_int_equal(need(0x8000000a, 0)->edx, 0x100114f9);
	assert_int_equal(need(1, 0)->ecx & 1 << 5, 0); /* never VMX */
}

/* All of it or nothing: Intel's leaf, AMD's, and AMD's bit. */
static void pmu_on_request(void **state)
{
	static const uint32_t vendors[] = {INTEL, AMD};
	for (unsigned i = 0; i < ARRAY_LEN(vendors); i++) {
		make(vendors[i]);
		cpuid_filter(&cpuid.head, true, &(struct cpu_options){.pmu = true});
		assert_int_equal(need(0xa, 0)->eax, ~0u);
		assert_int_equal(need(0xa, 0)->edx, ~0u);
		assert_int_equal(need(0x80000001, 0)->ecx & 0x19800000, 1 << 23);
		assert_int_equal(need(0x80000022, 0)->eax, 1);
		assert_int_equal(need(0x80000022, 0)->ebx, 0xf);
		assert_int_equal(need(0x80000022, 0)->ecx, 0);
		/* debug store and PERF_CAPABILITIES */
		assert_int_equal(need(1, 0)->ecx & (1 << 2 | 1 << 15), 0);
		assert_int_equal(need(1, 0)->edx & 1 << 21, 0);
		assert_null(find(0x8000000a, 0));
	}
}

static void deadline_timer(void **state)
{
	make(INTEL);
	cpuid_filter(&cpuid.head, false, &flat4);
	assert_int_equal(need(1, 0)->ecx & (1 << 24), 0);
	cpuid_filter(&cpuid.head, true, &flat4);
	assert_true(need(1, 0)->ecx & (1 << 24));
	assert_true(need(1, 0)->ecx & (1u << 31));
}

static void topology(void **state)
{
	static const struct {
		uint32_t ncpus, shift;
	} cases[] = {{1, 0}, {2, 1}, {3, 2}, {4, 2}, {8, 3}, {64, 6}};
	for (unsigned c = 0; c < ARRAY_LEN(cases); c++) {
		uint32_t n = cases[c].ncpus, shift = cases[c].shift;
		for (uint32_t i = 0; i < n; i++) {
			make(AMD);
			cpuid_filter(&cpuid.head, true, &flat4);
			cpuid_for_cpu(
				&cpuid.head, i,
				&(struct cpu_options){.sockets = 1, .cores = n, .threads = 1});
			assert_int_equal(need(1, 0)->ebx >> 24, i);
			assert_int_equal(need(1, 0)->ebx >> 16 & 0xff, 1 << shift);
			assert_int_equal(need(1, 0)->edx >> 28 & 1, n > 1);
			static const uint32_t leaf[] = {0xb, 0x1f};
			for (unsigned k = 0; k < 2; k++) {
				struct kvm_cpuid_entry2 *t = need(leaf[k], 0),
							*core = need(leaf[k], 1);
				assert_int_equal(t->eax, 0);
				assert_int_equal(t->ebx, 1);
				assert_int_equal(t->ecx, 0x100);
				assert_int_equal(t->edx, i);
				assert_int_equal(core->eax, shift);
				assert_int_equal(core->ebx, n);
				assert_int_equal(core->ecx, 0x201);
				assert_int_equal(core->edx, i);
				assert_int_equal(need(leaf[k], 2)->ecx, 2);
				assert_int_equal(need(leaf[k], 2)->ebx, 0);
				assert_null(find(leaf[k], 3));
			}
			assert_int_equal(need(0x80000008, 0)->ecx & 0xff, n - 1);
			assert_int_equal(need(0x80000008, 0)->ecx >> 12 & 0xf, shift);
			assert_int_equal(need(0x80000001, 0)->ecx >> 1 & 1, n > 1);
			assert_int_equal(need(0x8000001e, 0)->eax, i);
			/* level 1 alone, level 3 shared by all */
			assert_int_equal(need(4, 0)->eax, ((1u << shift) - 1) << 26 | 1 << 5 | 1);
			assert_int_equal(need(4, 3)->eax >> 14 & 0xfff, (1u << shift) - 1);
			assert_int_equal(need(4, 4)->eax, 0);
		}
	}
	make(INTEL);
	cpuid_for_cpu(&cpuid.head, 1, &flat4);
	assert_int_equal(need(0x80000008, 0)->ecx, ~0u); /* reserved there: left alone */
}

/* What Intel's SDM (vol. 3, 9.9.3) and AMD's APM (vol. 3, E.4) would have of such processors. */
static void sockets_cores_and_threads(void **state)
{
	static const struct {
		struct cpu_options cpu;
		uint32_t index;
		uint32_t ids, many; /* leaf 1 */
		uint32_t cache1, cache3,
			cores; /* leaf 4: ids less one that share it; in a package */
		uint32_t smt_bits, smt, core_bits, core; /* leaf 0xb */
		uint32_t nc, amd_bits;			 /* 0x80000008 */
		uint32_t core_id, node;			 /* 0x8000001e */
	} cases[] = {
		{{1, 1, 1, NULL}, 0, 1, 0, 0, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0},
		{{1, 2, 2, NULL}, 3, 4, 1, 1, 3, 1, 1, 2, 2, 4, 3, 2, 1, 0},
		{{1, 3, 2, NULL}, 4, 8, 1, 1, 7, 3, 1, 2, 3, 6, 5, 3, 2, 0},
		{{1, 1, 3, NULL}, 2, 4, 1, 3, 3, 0, 2, 3, 2, 3, 2, 2, 0, 0},
		{{2, 4, 1, NULL}, 5, 4, 1, 0, 3, 3, 0, 1, 2, 4, 3, 2, 1, 1},
		{{3, 2, 2, NULL}, 11, 4, 1, 1, 3, 1, 1, 2, 2, 4, 3, 2, 1, 2},
		{{4, 1, 1, NULL}, 3, 1, 0, 0, 0, 0, 0, 1, 0, 1, 0, 0, 0, 3},
		{{2, 16, 2, NULL}, 63, 32, 1, 1, 31, 15, 1, 2, 5, 32, 31, 5, 15, 1},
	};
	for (unsigned c = 0; c < ARRAY_LEN(cases); c++) {
		uint32_t id = cases[c].index;
		make(AMD);
		cpuid_filter(&cpuid.head, true, &flat4);
		cpuid_for_cpu(&cpuid.head, id, &cases[c].cpu);
		assert_int_equal(need(1, 0)->ebx >> 16, id << 8 | cases[c].ids);
		assert_int_equal(need(1, 0)->edx >> 28 & 1, cases[c].many);
		assert_int_equal(need(4, 0)->eax >> 14, cases[c].cores << 12 | cases[c].cache1);
		assert_int_equal(need(4, 3)->eax >> 14, cases[c].cores << 12 | cases[c].cache3);
		for (uint32_t leaf = 0xb; leaf <= 0x1f; leaf += 0x14) {
			assert_int_equal(need(leaf, 0)->eax, cases[c].smt_bits);
			assert_int_equal(need(leaf, 0)->ebx, cases[c].smt);
			assert_int_equal(need(leaf, 0)->ecx, 0x100);
			assert_int_equal(need(leaf, 0)->edx, id);
			assert_int_equal(need(leaf, 1)->eax, cases[c].core_bits);
			assert_int_equal(need(leaf, 1)->ebx, cases[c].core);
			assert_int_equal(need(leaf, 1)->ecx, 0x201);
			assert_int_equal(need(leaf, 1)->edx, id);
		}
		assert_int_equal(need(0x80000001, 0)->ecx >> 1 & 1, cases[c].many);
		assert_int_equal(need(0x80000008, 0)->ecx & 0xff, cases[c].nc);
		assert_int_equal(need(0x80000008, 0)->ecx >> 12 & 0xf, cases[c].amd_bits);
		assert_int_equal(need(0x8000001e, 0)->eax, id);
		assert_int_equal(need(0x8000001e, 0)->ebx,
				 (cases[c].cpu.threads - 1) << 8 | cases[c].core_id);
		assert_int_equal(need(0x8000001e, 0)->ecx, cases[c].node);
	}
}

/* A processor with few leaves gets no topology leaves, and a full list stays in its bounds. */
static void few_leaves(void **state)
{
	make(INTEL);
	need(0, 0)->eax = 0xa;
	cpuid_filter(&cpuid.head, true, &flat4);
	assert_null(find(0xb, 0));
	assert_null(find(0x1f, 0));
	cpuid.head.nent = 0;
	cpuid_filter(&cpuid.head, true, &flat4);
	assert_int_equal(cpuid.head.nent, 0);

	make(INTEL);
	while (cpuid.head.nent < CPUID_MAX_ENTRIES)
		cpuid.entries[cpuid.head.nent++] =
			(struct kvm_cpuid_entry2){.function = 0x4, .index = 9};
	cpuid_filter(&cpuid.head, true, &flat4);
	assert_true(cpuid.head.nent <= CPUID_MAX_ENTRIES);
	for (uint32_t i = 0; i < CPUID_MAX_ENTRIES; i++) /* none of which goes away */
		cpuid.entries[i] =
			(struct kvm_cpuid_entry2){.function = 0x4 * !!i, .index = i, .eax = 0x1f};
	cpuid.head.nent = CPUID_MAX_ENTRIES;
	cpuid_filter(&cpuid.head, true, &flat4);
	assert_int_equal(cpuid.head.nent, CPUID_MAX_ENTRIES);
}

/* KVM accepts what we made of its own list. */
static void on_this_host(void **state)
{
	static struct machine m;
	struct error err = {0};
	m.vm.kvm_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (m.vm.kvm_fd < 0) {
		fprintf(stderr, "no /dev/kvm here\n");
		skip();
	}
	m.vm.fd = (int)vm_ioctl(m.vm.kvm_fd, KVM_CREATE_VM, NULL);
	assert_true(m.vm.fd >= 0);
	assert_true(vm_ioctl(m.vm.fd, KVM_CREATE_IRQCHIP, NULL) >= 0);
	for (uint32_t i = 0; i < 4; i++) {
		int cpu = (int)vm_ioctl(m.vm.fd, KVM_CREATE_VCPU, (void *)(uintptr_t)i);
		assert_true(cpu >= 0);
		assert_int_equal(cpuid_make(&m, &cpuid.head, &err), 0);
		cpuid_for_cpu(&cpuid.head, i, &flat4);
		assert_int_equal(vm_ioctl(cpu, KVM_SET_CPUID2, &cpuid), 0);
		assert_int_equal(need(1, 0)->ebx >> 24, i);
		close(cpu);
	}
	/* Where KVM gives no PMU, who asks for one is told. */
	m.opt.cpu.pmu = true;
	if (cpuid_make(&m, &cpuid.head, &err)) {
		assert_non_null(strstr(err.text, "gives guests no PMU"));
		assert_non_null(strstr(err.hint, "enable_pmu"));
		assert_true(!find(0xa, 0) || !(need(0xa, 0)->eax & 0xff));
	} else {
		assert_true(find(0xa, 0) || find(0x80000022, 0));
	}
	close(m.vm.fd);
	close(m.vm.kvm_fd);
}

static void address_bits_are_those_that_a_guest_can_use(void **state)
{
	static const struct {
		uint32_t eax;
		unsigned bits;
	} cases[] = {{0x3027, 39},   {0x302e, 46},   {0x3934, 52}, {0x303934, 48},
		     {0x34302e, 46}, {0x303930, 48}, {0, 36},	   {0x20, 36}};
	make(AMD);
	for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
		need(0x80000008, 0)->eax = cases[i].eax;
		assert_int_equal(cpuid_address_bits(&cpuid.head), cases[i].bits);
	}
	cpuid.head.nent = 1;
	assert_int_equal(cpuid_address_bits(&cpuid.head), 36);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(hides_what_is_not_carried),
		cmocka_unit_test(shows_what_is),
		cmocka_unit_test(amx_where_there_are_tiles),
		cmocka_unit_test(svm_where_it_is_asked_for),
		cmocka_unit_test(pmu_on_request),
		cmocka_unit_test(deadline_timer),
		cmocka_unit_test(topology),
		cmocka_unit_test(sockets_cores_and_threads),
		cmocka_unit_test(few_leaves),
		cmocka_unit_test(on_this_host),
		cmocka_unit_test(address_bits_are_those_that_a_guest_can_use),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
