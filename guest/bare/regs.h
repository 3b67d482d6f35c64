/* SPDX-License-Identifier: MIT */
/* Layout that regs.c and regs.S share: what one CPU's registers are filled with, and come back as. */
#ifndef REGS_H
#define REGS_H

/* Offsets from the image's start; rsp points at REGS_GPR while the loop runs. */
#define REGS_STACK    0	  /* regs_spin's own stack */
#define REGS_FLAGS    8	  /* in: RFLAGS; out: the same place */
#define REGS_GPR      16  /* in: rax rbx rcx rdx rsi rdi rbp (rsp) r8 to r15 */
#define REGS_GOT      144 /* out: the same order */
#define REGS_AVX      272 /* nonzero: upper halves of ymm0 to ymm15 too */
#define REGS_FX	      288 /* in: FXSAVE image */
#define REGS_GOT_FX   800
#define REGS_HIGH     1312 /* in: upper halves, 16 bytes each */
#define REGS_GOT_HIGH 1568
#define REGS_LEN      1824

#define REGS_RSP 7 /* index of rsp among the general registers */
#define REGS_RCX 2 /* loop count in the low half */

#ifndef __ASSEMBLER__
#include <stdint.h>

struct regs_image {
	uint64_t stack, flags, gpr[16], got[16];
	uint64_t avx, pad;
	uint8_t fx[512], got_fx[512];
	uint8_t high[256], got_high[256];
} __attribute__((aligned(16)));

_Static_assert(sizeof(struct regs_image) == REGS_LEN, "layout");

/* CPL3: fills all registers, counts rcx's low half down to 0, reads all registers back. */
void regs_spin(struct regs_image *image);
#endif

#endif
