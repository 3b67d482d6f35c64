/* SPDX-License-Identifier: MIT */
/* The command line out of hvm_start_info (xen/include/public/arch-x86/hvm/start_info.h). */
#include "guest.h"

extern uint32_t pvh_info;
void option_init(void);

struct hvm_start_info {
	uint32_t magic, version, flags, nr_modules;
	uint64_t modlist_paddr, cmdline_paddr, rsdp_paddr;
};

static char line[512]; /* our copy: the original may lie where tests write */

void option_init(void)
{
	const struct hvm_start_info *info = (const void *)(uintptr_t)pvh_info;

	if (!info || info->magic != 0x336ec578)
		guest_fail("no hvm_start_info");
	const char *src = (const char *)info->cmdline_paddr;
	for (size_t i = 0; src && i + 1 < sizeof(line) && src[i]; i++)
		line[i] = src[i];
}

/* The text after "key=", or NULL. */
static const char *option_find(const char *key)
{
	size_t len = strlen(key);

	for (const char *p = line; *p; p++)
		if ((p == line || p[-1] == ' ') && !memcmp(p, key, len) && p[len] == '=')
			return p + len + 1;
	return NULL;
}

uint64_t option_number(const char *key, uint64_t def)
{
	const char *p = option_find(key);
	uint64_t v = 0;

	if (!p)
		return def;
	for (; *p >= '0' && *p <= '9'; p++)
		v = v * 10 + (uint64_t)(*p - '0');
	return v;
}

bool option_is(const char *key, const char *value)
{
	const char *p = option_find(key);
	size_t len = strlen(value);

	return p && !memcmp(p, value, len) && (p[len] == ' ' || !p[len]);
}
