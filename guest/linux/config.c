/* SPDX-License-Identifier: MIT */
/* Settings of the guest, from the kernel command line. */
#include "guest.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool number_in(const char *text, unsigned int lo, unsigned int hi, unsigned int *out)
{
	char *end;
	unsigned long v = strtoul(text, &end, 10);

	if (end == text || *end || v < lo || v > hi)
		return false;
	*out = (unsigned int)v;
	return true;
}

static bool flag_in(const char *text, bool *out)
{
	unsigned int v;

	if (!number_in(text, 0, 1, &v))
		return false;
	*out = v;
	return true;
}

static bool name_copy(char *to, size_t size, const char *from)
{
	size_t len = strlen(from);

	if (len == 0 || len >= size)
		return false;
	memcpy(to, from, len + 1);
	return true;
}

static bool mode_parse(const char *value, struct config *cfg)
{
	if (!strcmp(value, "ping"))
		cfg->mode = MODE_PING;
	else if (!strcmp(value, "udp"))
		cfg->mode = MODE_UDP;
	else if (!strcmp(value, "idle"))
		cfg->mode = MODE_IDLE;
	else
		return false;
	return true;
}

static bool setting_apply(struct config *cfg, const char *key, const char *value)
{
	if (!strcmp(key, "mode"))
		return mode_parse(value, cfg);
	if (!strcmp(key, "pings"))
		return flag_in(value, &cfg->pings);
	if (!strcmp(key, "counter"))
		return flag_in(value, &cfg->counter);
	if (!strcmp(key, "interval_ms"))
		return number_in(value, 1, 10000, &cfg->interval_ms);
	if (!strcmp(key, "sample_ms"))
		return number_in(value, 1, 1000, &cfg->sample_ms);
	if (!strcmp(key, "beat_ms"))
		return number_in(value, 100, 60000, &cfg->beat_ms);
	if (!strcmp(key, "beats"))
		return number_in(value, 0, 1000000, &cfg->beats);
	if (!strcmp(key, "port"))
		return number_in(value, 1, 65535, &cfg->port);
	if (!strcmp(key, "tcp"))
		return number_in(value, 1, 65535, &cfg->tcp_port);
	if (!strcmp(key, "kvm"))
		return number_in(value, 0, 4, &cfg->kvm);
	if (!strcmp(key, "p2p"))
		return number_in(value, 0, 2, &cfg->p2p);
	if (!strcmp(key, "vsock"))
		return number_in(value, 1, 65535, &cfg->vsock_port);
	if (!strcmp(key, "if"))
		return name_copy(cfg->ifname, sizeof(cfg->ifname), value);
	if (!strcmp(key, "irq"))
		return name_copy(cfg->irq, sizeof(cfg->irq), value);
	if (!strcmp(key, "disk"))
		return name_copy(cfg->disk, sizeof(cfg->disk), value);
	if (!strcmp(key, "tty"))
		return name_copy(cfg->tty, sizeof(cfg->tty), value);
	if (!strcmp(key, "ip"))
		return inet_pton(AF_INET, value, &cfg->ip) == 1;
	if (!strcmp(key, "peer"))
		return inet_pton(AF_INET, value, &cfg->peer) == 1;
	return false;
}

static void config_default(struct config *cfg)
{
	*cfg = (struct config){
		.mode = MODE_PING,
		.pings = true,
		.interval_ms = 20,
		.sample_ms = 5,
		.beat_ms = 1000,
		.port = 9000,
		.ifname = "eth0",
	};
	/* QEMU's user network: the guest's usual address and the gateway that answers pings. */
	inet_pton(AF_INET, "10.0.2.15", &cfg->ip);
	inet_pton(AF_INET, "10.0.2.2", &cfg->peer);
}

int config_read(struct config *cfg)
{
	static char line[4096];
	char *save = NULL, *word, *value;
	ssize_t len = 0;
	int fd = open("/proc/cmdline", O_RDONLY | O_CLOEXEC);

	config_default(cfg);
	if (fd >= 0) {
		len = read(fd, line, sizeof(line) - 1);
		close(fd);
	}
	line[len > 0 ? len : 0] = '\0';
	for (word = strtok_r(line, " \n", &save); word; word = strtok_r(NULL, " \n", &save)) {
		if (strncmp(word, "molt.", 5))
			continue;
		value = strchr(word, '=');
		if (value)
			*value++ = '\0';
		if (!value || !setting_apply(cfg, word + 5, value)) {
			console_line("FAIL what=cmdline word=%s value=%s", word,
				     value ? value : "-");
			return -1;
		}
	}
	if (!cfg->irq[0])
		name_copy(cfg->irq, sizeof(cfg->irq), cfg->ifname);
	return 0;
}
