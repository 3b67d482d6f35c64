/* SPDX-License-Identifier: MIT */
/* The numbered UDP packet: what udp-send sends, the guest counts and packets-in finds in memory. */
#ifndef TESTS_NESTED_PACKET_H
#define TESTS_NESTED_PACKET_H

#include <stdint.h>

#define PACKET_MARK	0xa7
#define PACKET_MARK_LEN 24

/* The guest (guest/linux/udp.c) needs the number alone. The mark is long enough for one aligned pair
 * of words of it to be anywhere the packet may lie: that makes it quick to find. */
struct packet {
	uint64_t seq;	 /* big-endian */
	uint8_t head[8]; /* "numbered", so that no byte of the number looks like a mark */
	uint8_t mark[PACKET_MARK_LEN];
	uint8_t end[8]; /* "numbered" again */
};

#define PACKET_HEAD "numbered"

#endif
