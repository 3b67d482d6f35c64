/* SPDX-License-Identifier: MIT */
/* Numbers that C and assembly share. */
#ifndef GUEST_LAYOUT_H
#define GUEST_LAYOUT_H

#define GUEST_MAX_CPUS	320
#define GUEST_STACK_LEN 16384

/* Where application processors wake up: a page below 1 MiB, the SIPI vector is its number. */
#define AP_PAGE 0x8000

/* Selectors. Each CPU's TSS follows, 16 bytes apiece. */
#define SEL_KCODE32 0x08
#define SEL_KDATA   0x10
#define SEL_KCODE   0x18
#define SEL_UDATA   0x23
#define SEL_UCODE   0x2b
#define SEL_LDT	    0x30
#define SEL_TSS	    0x40

/* A gate that CPL3 may use. */
#define VEC_USER_INT 0x80

#endif
