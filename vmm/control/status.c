/* SPDX-License-Identifier: MIT */
/* `molt status` for people. */
#include "vmm/base/json.h"
#include "vmm/control/client.h"

#define COLUMN 14

static void show(const char *label, const char *text)
{
	printf("%-*s%s\n", COLUMN, label, text);
}

static void show_time(const char *label, uint64_t s)
{
	printf("%-*s%lu d %02lu:%02lu:%02lu\n", COLUMN, label, s / 86400, s / 3600 % 24,
	       s / 60 % 60, s % 60);
}

static void show_devices(const char *devices)
{
	char name[64], text[1400];
	unsigned kept = 0, blocked = 0;
	for (const char *d = json_first(devices); d; d = json_next(d))
		if (!strcmp(json_get_text(d, "kept", text, sizeof(text)), "true"))
			kept++;
		else
			blocked++;
	printf("%-*s%s: %u of %u devices can be kept\n", COLUMN, "update",
	       blocked ? "would be refused" : "possible as far as devices go", kept,
	       kept + blocked);
	for (const char *d = json_first(devices); d; d = json_next(d)) {
		json_get_text(d, "name", name, sizeof(name));
		if (!strcmp(json_get_text(d, "kept", text, sizeof(text)), "true")) {
			printf("  %-*s can be kept\n", 24, name);
			continue;
		}
		json_get_text(d, "reason", text, sizeof(text));
		printf("  %-*s cannot be kept now: %s\n", 24, name, text);
		if (json_get_text(d, "remedy", text, sizeof(text))[0])
			printf("  %-*s remedy: %s\n", 24, "", text);
	}
}

static void show_last(const char *last)
{
	char result[32], reason[1400];
	if (!last)
		return;
	json_get_text(last, "result", result, sizeof(result));
	json_get_text(last, "reason", reason, sizeof(reason));
	uint64_t us = json_get_u64(last, "pause_ns") / 1000;
	if (reason[0])
		printf("%-*s%s: %s\n", COLUMN, "last update", result, reason);
	else
		printf("%-*s%s, guest paused %lu.%03lu ms\n", COLUMN, "last update", result,
		       us / 1000, us % 1000);
}

void client_show_status(const char *answer)
{
	static const char *const texts[] = {"name",    "state", "pid", "worker",
					    "version", "build", "exe"};
	char text[4096], page[64];

	for (unsigned i = 0; i < ARRAY_LEN(texts); i++)
		if (json_get(answer, texts[i]))
			show(texts[i], json_get_text(answer, texts[i], text, sizeof(text)));
	show_time("uptime", json_get_u64(answer, "uptime_s"));
	show("vcpus", json_get_text(answer, "vcpus", text, sizeof(text)));
	printf("%-*s%lu MiB, pages %s\n", COLUMN, "memory",
	       (json_get_u64(answer, "memory_bytes") / MIB),
	       json_get_text(answer, "page_size", page, sizeof(page)));
	show("updates", json_get_text(answer, "updates", text, sizeof(text)));
	show_last(json_get(answer, "last_update"));
	show_devices(json_get(answer, "devices"));
}
