/* SPDX-License-Identifier: MIT */
/* The option --vfio: which device, and how the guest is to have it. */
#include <ctype.h>
#include <limits.h>

#include "devices/vfio/vfio.h"

static int usage_error(const char *arg, struct error *err)
{
	error_end(err, EXIT_USAGE, EINVAL,
		  "--vfio %.200s: expected DEVICE[,rom=on|off][,iommu=type1|iommufd][,p2p=on|off]"
		  "[,noreset][,unbind=wait|poweroff|eject[,unbind_timeout=SECONDS]][,vf_token=UUID]"
		  "[,slot=shared|own]",
		  arg);
	return error_hint(err,
			  "DEVICE is a PCI address such as 0000:00:05.0 or 00:05.0 (lspci -D lists "
			  "them), or mdev:UUID (ls /sys/bus/mdev/devices)");
}

/* A PCI address, with or without its domain, which may have more than four digits behind some bridges. */
static bool parse_bdf(struct vfio_dev *dev, const char *word)
{
	unsigned domain = 0, bus, slot, fn;
	int used = 0;
	if (sscanf(word, "%8x:%2x:%2x.%1x%n", &domain, &bus, &slot, &fn, &used) != 4 || !used) {
		domain = 0;
		if (sscanf(word, "%2x:%2x.%1x%n", &bus, &slot, &fn, &used) != 3 || !used)
			return false;
	}
	snprintf(dev->id, sizeof(dev->id), "%04x:%02x:%02x.%x", domain, bus & 0xff, slot, fn);
	return !word[used] && slot <= 31 && fn <= 7;
}

static bool is_uuid(const char *word)
{
	static const char form[] = "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx";
	unsigned i = 0;
	while (form[i] && (form[i] == '-' ? word[i] == '-' : isxdigit((uint8_t)word[i])))
		i++;
	return !form[i] && !word[i];
}

/* A mediated device's UUID, in lower case as sysfs has it. */
static bool parse_uuid(struct vfio_dev *dev, const char *word)
{
	unsigned i = 0;
	if (!is_uuid(word))
		return false;
	for (; word[i]; i++)
		dev->id[i] = (char)tolower(word[i]);
	dev->id[i] = 0;
	return true;
}

static bool parse_token(struct vfio_dev *dev, const char *word)
{
	if (!is_uuid(word))
		return false;
	for (unsigned i = 0; i < sizeof(dev->token); word += 2) {
		word += *word == '-';
		sscanf(word, "%2hhx", &dev->token[i++]);
	}
	dev->has_token = true;
	return true;
}

/* The device as --vfio names it: an address, a UUID, or a path in sysfs, whose last part is either. */
static bool parse_device(struct vfio_dev *dev, char *word)
{
	size_t len = strlen(word);
	if (word[0] == '/') {
		while (len > 1 && word[len - 1] == '/')
			word[--len] = 0;
		word = strrchr(word, '/') + 1;
		return parse_uuid(dev, word) || parse_bdf(dev, word);
	}
	if (!strncmp(word, "mdev:", strlen("mdev:")))
		return parse_uuid(dev, word + strlen("mdev:"));
	return parse_bdf(dev, word);
}

static bool parse_unbind(struct vfio_dev *dev, const char *word)
{
	static const char *const words[] = {[VFIO_UNBIND_WAIT] = "wait",
					    [VFIO_UNBIND_POWEROFF] = "poweroff",
					    [VFIO_UNBIND_EJECT] = "eject"};
	unsigned i = 0;
	while (i < ARRAY_LEN(words) && strcmp(word, words[i]))
		i++;
	dev->unbind = i;
	return i < ARRAY_LEN(words);
}

static bool parse_seconds(const char *word, uint32_t *seconds)
{
	char *end;
	unsigned long n = strtoul(word, &end, 10);
	*seconds = (uint32_t)n;
	return isdigit((uint8_t)*word) && !*end && n && n <= UINT32_MAX;
}

static bool parse_word(struct vfio_dev *dev, const char *word)
{
	if (!strcmp(word, "rom=on") || !strcmp(word, "rom=off")) {
		dev->rom = !strcmp(word, "rom=on");
		return true;
	}
	if (!strcmp(word, "p2p=on") || !strcmp(word, "p2p=off")) {
		dev->p2p = !strcmp(word, "p2p=on");
		return true;
	}
	if (!strcmp(word, "noreset")) {
		dev->noreset = true;
		return true;
	}
	if (!strncmp(word, "unbind=", strlen("unbind=")))
		return parse_unbind(dev, word + strlen("unbind="));
	if (!strncmp(word, "unbind_timeout=", strlen("unbind_timeout=")))
		return parse_seconds(word + strlen("unbind_timeout="), &dev->unbind_timeout_s);
	if (!strcmp(word, "slot=shared") || !strcmp(word, "slot=own")) {
		dev->own_slot = !strcmp(word, "slot=own");
		return true;
	}
	if (!strncmp(word, "vf_token=", strlen("vf_token=")))
		return parse_token(dev, word + strlen("vf_token="));
	for (int i = 0; i < VFIO_IOMMU_KINDS; i++) {
		if (strncmp(word, "iommu=", strlen("iommu=")) ||
		    strcmp(word + strlen("iommu="), vfio_iommus[i]->name))
			continue;
		dev->iommu = i;
		return true;
	}
	return false;
}

int vfio_option(struct vfio_dev *dev, const char *arg, struct error *err)
{
	char text[PATH_MAX], *rest = text;
	dev->rom = true;
	dev->iommu = -1;
	if ((size_t)snprintf(text, sizeof(text), "%s", arg) >= sizeof(text) ||
	    !parse_device(dev, strsep(&rest, ",")))
		return usage_error(arg, err);
	while (rest)
		if (!parse_word(dev, strsep(&rest, ",")))
			return usage_error(arg, err);
	return dev->unbind_timeout_s && dev->unbind != VFIO_UNBIND_EJECT ? usage_error(arg, err)
									 : 0;
}
