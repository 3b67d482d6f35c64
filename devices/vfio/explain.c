/* SPDX-License-Identifier: MIT */
/* Messages: what keeps a device from being passed through (group, driver, permission, limit), and what to do about
 * it. */
#include <dirent.h>
#include <limits.h>
#include <linux/capability.h>
#include <sys/resource.h>
#include <sys/utsname.h>

#include "devices/vfio/vfio.h"
#include "vmm/base/users.h"

#define LIST_LEN 400 /* of culprits in a message */

struct vfio_host vfio_host = {.sys = "/sys", .proc = "/proc", .dev = "/dev"};

/* Last component of what a symbolic link says, or "" if there is none. */
static void link_name(const char *path, char *name, size_t size)
{
	char target[PATH_MAX];
	ssize_t n = readlink(path, target, sizeof(target) - 1);
	target[n > 0 ? n : 0] = 0;
	const char *slash = strrchr(target, '/');
	snprintf(name, size, "%.*s", (int)size - 1, slash ? slash + 1 : target);
}

/* The name of a mediated device is a UUID. */
static bool is_mdev(const char *id)
{
	return strchr(id, '-') != NULL;
}

/* @below: the device's folder in sysfs. */
static void sysfs_path(char *path, const char *id, const char *below)
{
	snprintf(path, PATH_MAX, "%s/bus/%s/devices/%s%s", vfio_host.sys,
		 is_mdev(id) ? "mdev" : "pci", id, below);
}

static void driver_of(const char *id, char *name, size_t size)
{
	char path[PATH_MAX];
	sysfs_path(path, id, "/driver");
	link_name(path, name, size);
}

static int no_group(const char *id, struct error *err)
{
	char path[PATH_MAX], cpu[4096] = "";
	snprintf(path, sizeof(path), "%s/cpuinfo", vfio_host.proc);
	file_read_text(path, cpu, sizeof(cpu)); /* longer than the buffer: the vendor comes early */
	error_end(err, EXIT_HOST, ENODEV, "vfio %s: the device is in no IOMMU group", id);
	if (strstr(cpu, "AuthenticAMD"))
		return error_hint(err,
				  "enable AMD-Vi (IOMMU) in the firmware, and boot the host with "
				  "amd_iommu=on if it still finds none (dmesg | grep AMD-Vi)");
	return error_hint(err, "enable VT-d (AMD: AMD-Vi) in the firmware and boot the host with "
			       "intel_iommu=on (dmesg | grep -e DMAR -e AMD-Vi)");
}

static int wrong_driver(const char *id, const char *driver, struct error *err)
{
	if (*driver)
		error_end(err, EXIT_HOST, EBUSY, "vfio %s: the device belongs to driver %s", id,
			  driver);
	else
		error_end(err, EXIT_HOST, ENODEV, "vfio %s: the device has no driver", id);
	return error_hint(err, "give it to vfio-pci: molt-vfio-bind %s (and back: --restore)", id);
}

static int no_device(const char *id, struct error *err)
{
	error_end(err, EXIT_HOST, ENODEV, "vfio %s: there is no such %s device", id,
		  is_mdev(id) ? "mediated" : "PCI");
	if (is_mdev(id))
		return error_hint(err,
				  "ls /sys/bus/mdev/devices; one is made by: echo %s > "
				  "/sys/class/mdev_bus/PARENT/mdev_supported_types/TYPE/create",
				  id);
	return error_hint(err, "lspci -D lists those there are");
}

bool vfio_group_of(const char *id, unsigned *group)
{
	char path[PATH_MAX], name[256], *end;
	sysfs_path(path, id, "/iommu_group");
	link_name(path, name, sizeof(name));
	unsigned long number = strtoul(name, &end, 10);
	*group = (unsigned)number;
	return *name && !*end && number <= INT_MAX;
}

int vfio_explain_device(const char *id, unsigned *group, struct error *err)
{
	char path[PATH_MAX], name[256];
	unsigned number;
	sysfs_path(path, id, "");
	if (access(path, F_OK))
		return no_device(id, err);
	/* A mediated device has a group only where the kernel still has groups (CONFIG_VFIO_GROUP). */
	if (!vfio_group_of(id, group ?: &number) && (group || !is_mdev(id)))
		return no_group(id, err);
	driver_of(id, name, sizeof(name));
	/* vfio-pci, or a vendor's variant of it (mlx5-vfio-pci). A mediated device belongs to who made it. */
	return is_mdev(id) || strstr(name, "vfio") ? 0 : wrong_driver(id, name, err);
}

bool vfio_is_virtual(const char *id)
{
	char path[PATH_MAX];
	sysfs_path(path, id, "/physfn");
	return !access(path, F_OK);
}

int vfio_explain_container(int code, struct error *err)
{
	error_end(err, EXIT_HOST, code, "%s/vfio/vfio: %m", vfio_host.dev);
	if (code == EACCES || code == EPERM)
		return error_hint(
			err,
			"chmod 0666 %s/vfio/vfio: it is harmless, only the groups in %s/vfio "
			"give access to devices",
			vfio_host.dev, vfio_host.dev);
	return error_hint(err, "load the driver: modprobe vfio-pci");
}

bool vfio_node(const char *id, char *node, size_t size)
{
	char path[PATH_MAX];
	sysfs_path(path, id, "/vfio-dev");
	DIR *dir = opendir(path);
	struct dirent *e;
	*node = 0;
	while (dir && !*node && (e = readdir(dir)))
		if (e->d_name[0] != '.')
			snprintf(node, size, "%s/vfio/devices/%s", vfio_host.dev, e->d_name);
	if (dir)
		closedir(dir);
	return *node;
}

/* Names the process that uses the device. It may have opened the group's node or the device's own (Linux 6.6): the
 * kernel then refuses the other node, too. */
static int in_use(const char *id, const char *group, struct error *err)
{
	char node[PATH_MAX], users[FILE_USERS_LEN];
	vfio_node(id, node, sizeof(node));
	if ((*group && file_users(vfio_host.proc, group, users, sizeof(users))) ||
	    (*node && file_users(vfio_host.proc, node, users, sizeof(users))))
		return error_hint(err, "%s has it open: end it first", users);
	return error_hint(err, "another process has it open: sudo fuser -v %s%s%s", group,
			  *group && *node ? " " : "", node);
}

int vfio_explain_node(const char *id, const char *path, int code, struct error *err)
{
	char group_path[PATH_MAX] = "", name[256];
	error_end(err, EXIT_HOST, code, "vfio %s: %s: %m", id, path ?: "a node of its own");
	if (code == EACCES || code == EPERM)
		return error_hint(err, "sudo chown %d %s", (int)getuid(), path);
	if (code == EBUSY || code == EINVAL) {
		char link[PATH_MAX];
		sysfs_path(link, id, "/iommu_group");
		link_name(link, name, sizeof(name));
		snprintf(group_path, sizeof(group_path), "%s/vfio/%s", vfio_host.dev, name);
		return in_use(id, group_path, err);
	}
	return error_hint(err,
			  "iommufd needs devices' own nodes (Linux 6.6, CONFIG_VFIO_DEVICE_CDEV): "
			  "iommu=type1 does without");
}

int vfio_explain_iommufd(int code, struct error *err)
{
	if (code == ENOTTY) {
		error_end(err, EXIT_HOST, code,
			  "%s/iommu: this kernel's iommufd has no file mappings", vfio_host.dev);
		return error_hint(err, "they came with Linux 6.14: iommu=type1 does without");
	}
	error_end(err, EXIT_HOST, code, "%s/iommu: %m", vfio_host.dev);
	if (code == EACCES || code == EPERM)
		return error_hint(err,
				  "chmod 0666 %s/iommu: it is harmless, only the nodes in "
				  "%s/vfio/devices give access to devices",
				  vfio_host.dev, vfio_host.dev);
	return error_hint(err,
			  "modprobe iommufd; kernels built without it (CONFIG_IOMMUFD) have type1 "
			  "only: iommu=type1");
}

int vfio_explain_group(const char *id, unsigned group, int code, struct error *err)
{
	char path[PATH_MAX];
	snprintf(path, sizeof(path), "%s/vfio/%u", vfio_host.dev, group);
	error_end(err, EXIT_HOST, code, "vfio %s: %s: %m", id, path);
	if (code == EACCES || code == EPERM)
		return error_hint(err, "sudo chown %d %s", (int)getuid(), path);
	if (code == EBUSY)
		return in_use(id, path, err);
	return error_hint(err, "modprobe vfio-pci, then molt-vfio-bind %s", id);
}

int vfio_explain_open(const char *id, unsigned group, int code, struct error *err)
{
	char path[PATH_MAX];
	snprintf(path, sizeof(path), "%s/vfio/%u", vfio_host.dev, group);
	error_end(err, EXIT_HOST, code, "vfio %s: opening the device: %m", id);
	if (code == EBUSY)
		return in_use(id, path, err);
	return error_hint(err, "the reason is in the kernel log: dmesg | grep %s", id);
}

/* Drivers that do not make a group unusable (linux drivers/vfio/group.c), and no driver at all. */
static bool driver_harmless(const char *driver)
{
	return !*driver || strstr(driver, "vfio") || !strcmp(driver, "pci-stub") ||
	       !strcmp(driver, "pcieport");
}

int vfio_explain_viable(const char *id, unsigned group, struct error *err)
{
	char path[PATH_MAX], driver[256], list[LIST_LEN] = "", bind[LIST_LEN] = "";
	size_t used = 0, bind_used = 0;
	snprintf(path, sizeof(path), "%s/kernel/iommu_groups/%u/devices", vfio_host.sys, group);
	DIR *dir = opendir(path);
	struct dirent *e;
	while (dir && (e = readdir(dir))) {
		if (e->d_name[0] == '.' || !strcmp(e->d_name, id))
			continue;
		driver_of(e->d_name, driver, sizeof(driver));
		if (driver_harmless(driver))
			continue;
		if (used < sizeof(list))
			used += (size_t)snprintf(list + used, sizeof(list) - used, "%s%s (%s)",
						 used ? ", " : "", e->d_name, driver);
		if (bind_used < sizeof(bind))
			bind_used += (size_t)snprintf(bind + bind_used, sizeof(bind) - bind_used,
						      " %s", e->d_name);
	}
	if (dir)
		closedir(dir);
	error_end(err, EXIT_HOST, EBUSY,
		  "vfio %s: IOMMU group %u is not viable: the host still uses %s", id, group,
		  *list ? list : "a device of it");
	return error_hint(err, "all devices of a group go together: molt-vfio-bind%s",
			  *bind ? bind : " each of them");
}

int vfio_explain_iommu(const char *id, int code, struct error *err)
{
	error_end(err, EXIT_HOST, code, "vfio %s: putting its group under the IOMMU: %m", id);
	if (code == EPERM)
		return error_hint(
			err, "the host has no interrupt remapping: enable it in the firmware "
			     "(x2APIC, VT-d); or, if the guest is trusted not to forge interrupts, "
			     "modprobe vfio_iommu_type1 allow_unsafe_interrupts=1");
	if (code == EBUSY)
		return error_hint(
			err, "another program has the group, or DMA addresses of the container "
			     "are being changed");
	return error_hint(err, "the reason is in the kernel log: dmesg | grep -e vfio -e iommu");
}

static bool may_lock_all(void)
{
	char path[PATH_MAX], text[8192];
	snprintf(path, sizeof(path), "%s/self/status", vfio_host.proc);
	if (file_read_text(path, text, sizeof(text)) < 0)
		return false;
	const char *line = strstr(text, "\nCapEff:");
	return line && strtoull(line + 8, NULL, 16) >> CAP_IPC_LOCK & 1;
}

int vfio_explain_memlock(uint64_t len, struct error *err)
{
	struct rlimit limit;
	if (getrlimit(RLIMIT_MEMLOCK, &limit) || limit.rlim_cur == RLIM_INFINITY ||
	    limit.rlim_cur >= len || may_lock_all())
		return 0;
	error_end(err, EXIT_HOST, ENOMEM,
		  "guest memory of %lu"
		  " KiB must stay in place for DMA, but this process may "
		  "lock only %lu KiB (RLIMIT_MEMLOCK)",
		  len / KIB, (uint64_t)limit.rlim_cur / KIB);
	return error_hint(err, "ulimit -l %lu, or in a systemd unit: LimitMEMLOCK=%lu",
			  (len + KIB - 1) / KIB, len);
}

/* A mediated device in the group's folder, or "". */
static void find_mdev(unsigned group, char *name, size_t size)
{
	char path[PATH_MAX];
	snprintf(path, sizeof(path), "%s/kernel/iommu_groups/%u/devices", vfio_host.sys, group);
	DIR *dir = opendir(path);
	struct dirent *e;
	*name = 0;
	while (dir && !*name && (e = readdir(dir))) {
		snprintf(path, sizeof(path), "%s/kernel/iommu_groups/%u/devices/%s/mdev_type",
			 vfio_host.sys, group, e->d_name);
		if (e->d_name[0] != '.' && !access(path, F_OK))
			snprintf(name, size, "%s", e->d_name);
	}
	if (dir)
		closedir(dir);
}

int vfio_explain_update(const struct vfio_container *c, struct error *err)
{
	char mdev[256];
	for (unsigned i = 0; i < c->nfiles; i++) {
		find_mdev(c->files[i].number, mdev, sizeof(mdev));
		if (!*mdev)
			continue;
		error_end(err, EXIT_REFUSED, EOPNOTSUPP,
			  "%s (IOMMU group %u) is a mediated device: the kernel may touch guest "
			  "memory at its old address at any time",
			  mdev, c->files[i].number);
		return error_hint(err, "start the guest with iommu=iommufd (Linux 6.14): there it "
				       "can be updated in place");
	}
	struct utsname uts;
	uname(&uts);
	error_end(err, EXIT_REFUSED, EOPNOTSUPP,
		  "this kernel (%s) cannot move DMA mappings to a new program now "
		  "(VFIO_UPDATE_VADDR is not offered)",
		  uts.release);
	return error_hint(err, "it came with Linux 5.12, and is not offered while a device in the "
			       "container is not behind an IOMMU of its own");
}
