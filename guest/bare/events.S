/* SPDX-License-Identifier: MIT */
/* Code of which the guest knows exactly how many exceptions it raises. */
	.text

/* CPL3. Each raises 8. */
	.globl raise_bp, raise_ud, raise_pf, raise_int
raise_bp:
	.rept 8
	int3
	.endr
	ret
raise_ud:
	.rept 8
	ud2
	.endr
	ret
raise_pf:			/* rdi: not mapped; the handler skips the two bytes */
	.rept 8
	movb %al, (%rdi)
	.endr
	ret
raise_int:
	.rept 8
	int $0x80
	.endr
	ret

/* CPL3: single steps from the instruction after the first popfq. */
	.globl raise_step
raise_step:
	pushfq
	orq $0x100, (%rsp)
	popfq
	.rept 10
	nop
	.endr
	pushfq
	andq $~0x100, (%rsp)
	popfq
	ret

/* CPL3: DR0 breaks on break_here, DR1 on writes to (rdi); 8 of each. */
	.globl raise_break, break_here
raise_break:
	movl $8, %ecx
1:	movb %cl, (%rdi)
break_here:
	nop
	decl %ecx
	jnz 1b
	ret

/* CPL0, interrupts off, one pending: it may come only after HLT has begun. */
	.globl shadow_sti, shadow_sti_end
shadow_sti:
	sti
	hlt
shadow_sti_end:
	cli
	ret

	.section .note.GNU-stack, "", @progbits
