/* SPDX-License-Identifier: MIT */
/* Version and build id of this program. */
#include "vmm/base/build.h"

#include <elf.h>

extern const Elf64_Ehdr __ehdr_start; /* defined by the linker: this program's ELF header */

const char *build_version(void)
{
	return MOLT_VERSION;
}

static void find_note(const char *p, size_t len, char *out, size_t size)
{
	while (len >= sizeof(Elf64_Nhdr)) {
		Elf64_Nhdr n;
		memcpy(&n, p, sizeof(n));
		size_t name = align_up(n.n_namesz, 4), desc = align_up(n.n_descsz, 4);
		if (!range_fits(sizeof(n) + name, desc, len))
			return;
		const char *d = p + sizeof(n) + name;
		if (n.n_type == NT_GNU_BUILD_ID && !memcmp(p + sizeof(n), "GNU", 4)) {
			for (size_t i = 0; i < n.n_descsz && 2 * i + 2 < size; i++)
				snprintf(out + 2 * i, 3, "%02x", (unsigned char)d[i]);
			return;
		}
		p = d + desc;
		len -= sizeof(n) + name + desc;
	}
}

const char *build_id(void)
{
	static char id[48];
	if (id[0])
		return id;
	const char *base = (const char *)&__ehdr_start;
	const Elf64_Ehdr *ehdr = (const void *)base;
	const Elf64_Phdr *ph = (const void *)(base + ehdr->e_phoff);
	for (int i = 0; i < ehdr->e_phnum; i++)
		if (ph[i].p_type == PT_NOTE)
			find_note(base + ph[i].p_offset, ph[i].p_filesz, id, sizeof(id));
	return id;
}
