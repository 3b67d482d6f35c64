/* SPDX-License-Identifier: MIT */
/* The one place from which every system call may be made (seccomp.h): the filter sees the address behind the
 * instruction. A file of its own, since the compiler does not see symbols of assembler text when it optimises at link
 * time. */

	.text
	.globl	arch_seccomp_call
	.type	arch_seccomp_call, @function
/* long arch_seccomp_call(long nr, const long args[6]) */
arch_seccomp_call:
	mov	%rdi, %rax
	mov	%rsi, %r11
	mov	0(%r11), %rdi
	mov	8(%r11), %rsi
	mov	16(%r11), %rdx
	mov	24(%r11), %r10
	mov	32(%r11), %r8
	mov	40(%r11), %r9
	syscall
	.globl	seccomp_call_pass
seccomp_call_pass:
	ret
	.size	arch_seccomp_call, . - arch_seccomp_call

	.section .note.GNU-stack, "", @progbits
