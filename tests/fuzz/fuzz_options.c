/* SPDX-License-Identifier: MIT */
/* The words of a command line, one after another with a NUL between; then what the device classes
 * make of theirs. */
#include "tests/fuzz/fuzz.h"
#include "tests/unit/fake_machine.h"

#include "vmm/device.h"

#define MAX_WORDS 80

void machine_stop(struct machine *m, int code, const char *reason)
{
}

void machine_end(struct machine *m, int code, const char *reason)
{
}

static void expect_refusal(const struct error *err)
{
	fuzz_expect(err->text[0] && err->exit == EXIT_USAGE, "'%s', exit code %d", err->text,
		    err->exit);
}

static void expect_sane(const struct options *opt)
{
	fuzz_expect(opt->cpus >= 1 && opt->cpus <= OPTIONS_MAX_CPUS, "%u vCPUs", opt->cpus);
	fuzz_expect(opt->mem.size >= 32 * MIB && opt->mem.size % PAGE_LEN == 0, "memory");
	fuzz_expect(opt->ndevices <= OPTIONS_MAX_DEVICES, "%u devices", opt->ndevices);
	fuzz_expect((opt->take ? *opt->take : opt->kernel && *opt->kernel) && opt->console &&
			    opt->cmdline,
		    "missing");
	fuzz_expect(!opt->name || strlen(opt->name) <= 32, "name");
}

static void create_devices(const struct options *opt)
{
	struct machine *m = fake_machine(true);
	for (unsigned i = 0; i < opt->ndevices; i++) {
		struct error err = {0};
		const struct device_class *cls = devices_find(opt->devices[i].cls);
		fuzz_expect(cls, "no class %s", opt->devices[i].cls);
		int rc = machine_add_device(m, cls, opt->devices[i].arg, &err);
		if (rc)
			fuzz_expect(err.text[0], "refused without a reason");
	}
	fake_destroy(m);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	char *words[MAX_WORDS];
	int n = 0;
	struct error err = {0};
	static struct options opt;
	char *copy = malloc(len + 1);
	memcpy(copy, data, len);
	copy[len] = 0;
	for (char *p = copy; p < copy + len && n < MAX_WORDS; p += strlen(p) + 1)
		words[n++] = p;
	if (options_parse(&opt, n, words, &err)) {
		expect_refusal(&err);
	} else {
		expect_sane(&opt);
		create_devices(&opt);
	}
	free(copy);
	return 0;
}
