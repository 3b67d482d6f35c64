/* SPDX-License-Identifier: MIT */
/* A guest, taken over, that does anything to its PCI devices and ports; updates in between. */
#include "tests/fuzz/machine.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct input in = {data, len};
	struct error err;
	int rc;
	const struct paused *p = fuzz_paused(input_u8(&in));
	struct machine *m = fuzz_take_over(p->blob.data, p->blob.len, &rc, &err);
	fuzz_expect(!rc, "%s", err.text);
	fuzz_end(fuzz_guest(m, &in), p);
	return 0;
}
