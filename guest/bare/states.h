/* SPDX-License-Identifier: MIT */
/* Shared by states.c and states.S. */
#ifndef GUEST_STATES_H
#define GUEST_STATES_H

#define LEGACY_L    1 /* a code segment whose descriptor has L */
#define LEGACY_LME  2 /* EFER.LME stays set */
#define LEGACY_REAL 4 /* real mode, with the code segment's attributes of protected mode */
#define LEGACY_PAE  8 /* paging with PDPTEs */

/* Below 64 KiB. */
#define LEGACY_PAGE 0x9000

#endif
