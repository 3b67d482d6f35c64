/* SPDX-License-Identifier: MIT */
/* Filters, from rows: a binary search for the number of the call, then its arguments. One is put on
 * inside the pause: that costs 0.15 us for each instruction, and a run for each call there is
 * (below). */
#include <linux/audit.h>
#include <linux/seccomp.h>

#include "vmm/seccomp/rules.h"

/* Where a jump goes: an index, or one of the two ends. */
enum { TO_ALLOW = SECCOMP_MAX_CODE, TO_TRAP };

struct program {
	struct sock_filter *code;
	uint16_t yes[SECCOMP_MAX_CODE], no[SECCOMP_MAX_CODE]; /* of jumps */
	unsigned n, room;				      /* n > room: it did not fit */
	const struct seccomp_env *env;
};

static void emit(struct program *p, uint16_t code, uint32_t k, unsigned yes, unsigned no)
{
	if (p->n < p->room) {
		p->code[p->n] = (struct sock_filter){.code = code, .k = k};
		p->yes[p->n] = (uint16_t)yes;
		p->no[p->n] = (uint16_t)no;
	}
	p->n++;
}

static void load(struct program *p, size_t offset)
{
	emit(p, BPF_LD | BPF_W | BPF_ABS, (uint32_t)offset, 0, 0);
}

static void jump(struct program *p, uint16_t test, uint32_t k, unsigned yes, unsigned no)
{
	emit(p, BPF_JMP | BPF_K | test, k, yes, no);
}

/* All rows of one call: the first that holds allows it. */
static void leaf(struct program *p, const struct seccomp_row *r, unsigned n)
{
	int loaded = -1;
	if (r->test == SECCOMP_ANY) {
		jump(p, BPF_JEQ, r->nr, TO_ALLOW, TO_TRAP);
		return;
	}
	jump(p, BPF_JEQ, r->nr, p->n + 1, TO_TRAP);
	for (unsigned i = 0; i < n; i++) {
		if (loaded != r[i].arg)
			load(p, offsetof(struct seccomp_data, args) + 8 * r[i].arg);
		loaded = r[i].arg;
		unsigned other = i + 1 < n ? p->n + 1 : TO_TRAP;
		if (r[i].test == SECCOMP_LACKS)
			jump(p, BPF_JSET, r[i].value, other, TO_ALLOW);
		else
			jump(p, BPF_JEQ,
			     r[i].test == SECCOMP_IS_PID   ? p->env->pid
			     : r[i].test == SECCOMP_IS_TID ? p->env->tid
							   : r[i].value,
			     TO_ALLOW, other);
	}
}

/* The index at which the right half begins: not inside the rows of one call. @n: there is one. */
static unsigned middle(const struct seccomp_row *rows, unsigned n)
{
	unsigned mid = n / 2;
	while (mid && rows[mid - 1].nr == rows[mid].nr)
		mid--;
	for (; !mid || (mid < n && rows[mid].nr == rows[0].nr); mid++)
		;
	return mid;
}

static void tree(struct program *p, const struct seccomp_row *rows, unsigned n)
{
	unsigned mid = middle(rows, n), at = p->n;
	if (mid == n) {
		leaf(p, rows, n);
		return;
	}
	jump(p, BPF_JGE, rows[mid].nr, 0, at + 1);
	tree(p, rows, mid);
	if (at < p->room)
		p->yes[at] = (uint16_t)p->n;
	tree(p, rows + mid, n - mid);
}

/* Jumps count from the instruction behind them, and reach 255. */
static bool link_jump(const struct program *p, unsigned at, unsigned to, uint8_t *out)
{
	unsigned target = to == TO_ALLOW ? p->n - 2 : to == TO_TRAP ? p->n - 1 : to;
	*out = (uint8_t)(target - at - 1);
	return target - at - 1 <= UINT8_MAX;
}

static bool link_jumps(struct program *p)
{
	bool fits = true;
	for (unsigned i = 0; i < p->n; i++)
		if (BPF_CLASS(p->code[i].code) == BPF_JMP)
			fits &= link_jump(p, i, p->yes[i], &p->code[i].jt) &&
				link_jump(p, i, p->no[i], &p->code[i].jf);
	return fits;
}

static void sort(struct seccomp_row *rows, unsigned n)
{
	for (unsigned i = 1; i < n; i++) {
		struct seccomp_row r = rows[i];
		unsigned k = i;
		for (; k && rows[k - 1].nr > r.nr; k--)
			rows[k] = rows[k - 1];
		rows[k] = r;
	}
}

unsigned seccomp_compile(struct seccomp_row *rows, unsigned n, const struct seccomp_env *env,
			 struct sock_filter *out, unsigned room)
{
	struct program p = {.code = out, .env = env};
	const size_t ip = offsetof(struct seccomp_data, instruction_pointer);

	p.room = room < SECCOMP_MAX_CODE ? room : SECCOMP_MAX_CODE;
	sort(rows, n);
	/* Linux runs a new filter for every call there is until it looks at something that differs
	 * from call to call (seccomp_cache_prepare, since 5.11). This one does so at once: that
	 * saves 50 us. */
	load(&p, ip);
	if (env->pass) {
		jump(&p, BPF_JEQ, (uint32_t)env->pass, p.n + 1, p.n + 3);
		load(&p, ip + 4);
		jump(&p, BPF_JEQ, (uint32_t)((uint64_t)env->pass >> 32), TO_ALLOW, p.n + 1);
	}
	/* Numbers mean something else to another architecture; x32's are in no row. */
	load(&p, offsetof(struct seccomp_data, arch));
	jump(&p, BPF_JEQ, arch_seccomp_audit, p.n + 1, TO_TRAP);
	load(&p, offsetof(struct seccomp_data, nr));
	tree(&p, rows, n);
	emit(&p, BPF_RET | BPF_K, SECCOMP_RET_ALLOW, 0, 0);
	emit(&p, BPF_RET | BPF_K, SECCOMP_RET_TRAP, 0, 0);
	return p.n <= p.room && link_jumps(&p) ? p.n : 0;
}
