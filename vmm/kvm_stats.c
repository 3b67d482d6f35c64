/* SPDX-License-Identifier: MIT */
/* KVM's counters: a header, a description of each, and the values, read from one descriptor. */
#include "vmm/kvm_stats.h"

#include <fcntl.h>
#include <linux/kvm.h>
#include <sys/ioctl.h>

#define DESCS_LEN 65536 /* some 5 KiB in Linux 6.18 */

int kvm_stats_open(int vcpu_fd, int *fd)
{
	*fd = ioctl(vcpu_fd, KVM_GET_STATS_FD, NULL);
	if (*fd >= 0)
		fcntl(*fd, F_SETFD, FD_CLOEXEC);
	return *fd >= 0 || errno == ENOTTY || errno == EINVAL ? 0 : -errno;
}

static int read_one(int fd, const struct kvm_stats_header *h, const uint8_t *descs,
		    const char *name, uint64_t *value)
{
	size_t each = sizeof(struct kvm_stats_desc) + h->name_size;
	for (uint32_t i = 0; i < h->num_desc; i++) {
		struct kvm_stats_desc d;
		memcpy(&d, descs + i * each, sizeof(d));
		const char *its = (const char *)descs + i * each + sizeof(d);
		if (strncmp(its, name, h->name_size) || d.size != 1)
			continue;
		return pread(fd, value, sizeof(*value), (off_t)h->data_offset + d.offset) ==
				       sizeof(*value)
			       ? 0
			       : -EIO;
	}
	return -ENOENT;
}

int kvm_stats_read(int fd, const char *const names[], unsigned n, uint64_t *values)
{
	struct kvm_stats_header h;
	if (fd < 0)
		return -ENOSYS;
	if (pread(fd, &h, sizeof(h), 0) != sizeof(h))
		return -EIO;
	size_t each = sizeof(struct kvm_stats_desc) + h.name_size;
	if (h.name_size > DESCS_LEN || h.num_desc > DESCS_LEN / each)
		return -E2BIG;
	size_t len = each * h.num_desc;
	uint8_t *descs = malloc(len ?: 1);
	int rc = !descs ? -ENOMEM : pread(fd, descs, len, h.desc_offset) != (ssize_t)len ? -EIO : 0;
	for (unsigned i = 0; !rc && i < n; i++)
		rc = read_one(fd, &h, descs, names[i], &values[i]);
	free(descs);
	return rc;
}
