/* SPDX-License-Identifier: MIT */
/* The words of --cpus: topology, affinity, and what the guest gets only on request. */
#include "vmm/cpu_options.h"

#include <ctype.h>

#include "vmm/options.h"

#define HOST_CPUS (SCHED_AFFINITY_WORDS * 64)

/* Decimal digits, at most @max. Moves *@text behind them. */
static bool number(const char **text, uint32_t max, uint32_t *out)
{
	uint64_t n = 0;
	if (!isdigit((uint8_t) * *text))
		return false;
	for (; isdigit((uint8_t) * *text) && n <= max; (*text)++)
		n = n * 10 + (uint64_t)(**text - '0');
	*out = (uint32_t)n;
	return n <= max;
}

/* Moves *@text behind one set, "0-3+8", whose processors are added to @mask. */
static bool read_set(const char **text, uint64_t mask[SCHED_AFFINITY_WORDS])
{
	uint32_t first, last;
	for (;; (*text)++) {
		if (!number(text, HOST_CPUS - 1, &first))
			return false;
		last = first;
		if (**text == '-' &&
		    ((*text)++, !number(text, HOST_CPUS - 1, &last) || last < first))
			return false;
		for (; first <= last; first++)
			mask[first / 64] |= 1ull << first % 64;
		if (**text != '+')
			return true;
	}
}

void cpu_options_affinity(const struct cpu_options *opt, uint32_t index,
			  uint64_t mask[SCHED_AFFINITY_WORDS])
{
	const char *text = opt->affinity;
	for (uint32_t i = 0; i <= index && text; i++) {
		memset(mask, 0, SCHED_AFFINITY_WORDS * sizeof(*mask));
		if (!read_set(&text, mask) || *text++ != ':')
			return;
	}
}

/* At most a set for each vCPU. */
static bool is_affinity(const char *text, size_t len, uint32_t cpus)
{
	uint64_t mask[SCHED_AFFINITY_WORDS];
	const char *end = text + len;
	for (uint32_t i = 0; i < cpus; i++, text++) {
		if (!read_set(&text, mask))
			return false;
		if (text == end || *text != ':')
			return text == end;
	}
	return false;
}

static const char *arrange(struct cpu_options *opt, uint32_t cpus)
{
	bool given = opt->sockets || opt->cores || opt->threads;
	opt->threads = opt->threads ?: 1;
	if (!opt->sockets)
		opt->sockets = opt->cores ? cpus / (opt->cores * opt->threads) : 1;
	if (!opt->cores && opt->sockets)
		opt->cores = cpus / (opt->sockets * opt->threads);
	if (given && opt->sockets * opt->cores * opt->threads != cpus)
		return "sockets= times cores= times threads= as many as there are vCPUs";
	if ((opt->sockets > 1 && !is_pow2(opt->cores)) ||
	    (opt->sockets * opt->cores > 1 && !is_pow2(opt->threads)))
		return "powers of two for threads= of several cores and cores= of several sockets";
	return NULL;
}

const char *cpu_options_parse(struct cpu_options *opt, uint32_t cpus, const char *text)
{
	const struct {
		const char *name;
		uint32_t *value;
	} counts[] = {
		{"sockets=", &opt->sockets}, {"cores=", &opt->cores}, {"threads=", &opt->threads}};
	const struct {
		const char *name;
		bool *on;
	} switches[] = {{"nested=", &opt->nested}, {"pmu=", &opt->pmu}};
	memset(opt, 0, sizeof(*opt));
	while (text) {
		size_t len = strcspn(text, ",");
		const char *next = text[len] ? text + len + 1 : NULL, *end = text + len;
		bool known = !strncmp(text, "affinity=", 9);
		if (known) {
			opt->affinity = text + 9;
			if (!is_affinity(opt->affinity, len - 9, cpus))
				return "affinity=SET[:SET]..., at most one for each vCPU, like "
				       "0-3+8";
		}
		for (unsigned i = 0; i < ARRAY_LEN(switches); i++) {
			size_t n = strlen(switches[i].name);
			if (len <= n || strncmp(text, switches[i].name, n))
				continue;
			*switches[i].on = len == n + 2 && !strncmp(text + n, "on", 2);
			known = *switches[i].on || (len == n + 3 && !strncmp(text + n, "off", 3));
		}
		for (unsigned i = 0; i < ARRAY_LEN(counts); i++) {
			size_t n = strlen(counts[i].name);
			if (strncmp(text, counts[i].name, n))
				continue;
			text += n;
			known = number(&text, OPTIONS_MAX_CPUS, counts[i].value) &&
				*counts[i].value && text == end;
			break;
		}
		if (!known)
			return "affinity=SET[:SET]..., sockets=, cores= or threads= with a number, "
			       "nested= or pmu= with on or off";
		text = next;
	}
	return arrange(opt, cpus);
}
