/* SPDX-License-Identifier: MIT */
/* The options of `molt run`: one table, and the command line that is read by it. */
#include "vmm/options.h"

#include <getopt.h>

#include "vmm/base/config_file.h"
#include "vmm/options_values.h"

#define LONG_BASE 256 /* getopt_long's value of table entry 0 */

const char *const options_groups[GROUP_COUNT] = {
	[GROUP_GUEST] = "Guest",
	[GROUP_DEVICES] = "Devices",
	[GROUP_RUN] = "Running and updating",
	[GROUP_DEBUG] = "Debugging",
};

#define AT(m) .offset = offsetof(struct options, m)

const struct option_entry options_table[] = {
	{"kernel", 'k', "FILE",
	 "Kernel to boot: a Linux bzImage, or an ELF file with a PVH note. Required.", NULL,
	 GROUP_GUEST, option_value_file, AT(kernel)},
	{"initrd", 'i', "FILE", "Initial RAM disk given to the kernel.", NULL, GROUP_GUEST,
	 option_value_file, AT(initrd)},
	{"cmdline", 'p', "STRING", "Kernel command line, for example \"console=ttyS0\".", "",
	 GROUP_GUEST, option_value_string, AT(cmdline)},
	{"mem", 'm', "SIZE[,hugetlb=2M|1G][,collapse][,node=N][,path=FILE]",
	 "Guest memory: a number alone is MiB, or it ends with B, K, M, G or T; at least 32M. "
	 "hugetlb= takes reserved huge pages of that size (sysctl vm.nr_hugepages; those of 1G are "
	 "best reserved on the kernel's command line). collapse touches all memory at start "
	 "and asks for huge pages, where the host does not give them by itself: this costs about 3 "
	 "ms per MiB at start and makes the guest faster after an update. node=N takes memory of "
	 "that "
	 "NUMA node of the host only, and updates keep it there. path=FILE uses a file "
	 "that is new or empty (on /dev/shm, a hugetlbfs), a DAX device, which is cleared first, "
	 "or an unnamed file in a folder, and may not contain a comma; without it memory is a "
	 "sealed "
	 "memfd. FILE is the guest's alone while it lives, and afterwards keeps what it had in "
	 "memory: remove it then.",
	 "256M", GROUP_GUEST, option_value_mem},
	{"cpus", 'c', "N[,sockets=N,cores=N,threads=N][,affinity=SET[:SET]...][,nested=on,pmu=on]",
	 "Number of virtual CPUs, and what the guest sees of their arrangement: threads of a core, "
	 "cores of a socket; by default each is a core of one socket. affinity= says on which of "
	 "the host's processors each may run, like 2:3:4-7+9, the last set for all further ones. "
	 "What taskset(1) changes later is kept over updates. nested=on gives the guest AMD's SVM, "
	 "by "
	 "which it may run guests of its own, also over updates; it lets the guest use a part of "
	 "KVM "
	 "that is closed to it otherwise. pmu=on gives it the host's performance counters (perf), "
	 "also over updates.",
	 "1", GROUP_GUEST, option_value_cpus},
	{"vfio", 0, "DEVICE[,WORD]...",
	 "Give this PCI device, bound to vfio-pci, to the guest, like 0000:00:05.0, or a "
	 "mediated one, like mdev:UUID. rom=off hides its option ROM. iommu=type1 or "
	 "iommu=iommufd chooses the kernel's interface to the IOMMU; by default it is iommufd "
	 "where the host has it. p2p=on lets the guest's other devices reach its BARs by DMA; "
	 "such a guest is not updated. noreset starts the device as its last user left it. "
	 "unbind=poweroff: when the host wants the device back, the guest is asked to power "
	 "off. unbind=eject: the guest is asked to give up the device, and runs on without it; "
	 "if it has not done so after unbind_timeout=SECONDS, it is asked to power off. "
	 "vf_token=UUID: "
	 "the token that the owner of a virtual function's physical function has set. "
	 "Functions of one device that follow its function 0 share its slot in the guest, as "
	 "on the host; slot=own gives the function a slot of its own. May be repeated.",
	 NULL, GROUP_DEVICES, option_value_device},
	{"disk", 0, "PATH[,ro][,direct][,serial=TEXT][,queues=N][,aio=threads|io_uring]",
	 "Give the guest a virtio disk in this file, a raw image or a block device. No other "
	 "program may write to it meanwhile. ro: the guest cannot write to it, and several "
	 "guests may have it. direct bypasses the host's page cache. serial=TEXT: the disk's "
	 "serial number in the guest, at most 20 characters. queues=N: number of queues, 1 to "
	 "16, 1 by default; the guest uses one for each vCPU. aio: what reads and writes the "
	 "file, threads by default. PATH has no comma. May be repeated.",
	 NULL, GROUP_DEVICES, option_value_device},
	{"net", 0, "tap=IFNAME|fd=N|user[=SOCKET][,mac=MAC][,vhost=on|off][,queues=N]",
	 "Give the guest a virtio network interface. tap: on this tap interface of the host, "
	 "which molt-net-tap makes. fd: on an inherited descriptor, a tap or a stream socket "
	 "that speaks as passt does. user: through passt, which molt starts and which needs no "
	 "rights on the host, or which listens at SOCKET. mac: its address; by default a "
	 "random one, and a new one when the guest reboots in place (--on-reset reboot). "
	 "vhost: whether the host's kernel moves a tap's frames; by default it does where "
	 "/dev/vhost-net can be opened. queues=N: number of pairs of queues, 1 to 8, 1 by "
	 "default, on a tap that allows several; the guest uses one for each vCPU. May be "
	 "repeated.",
	 NULL, GROUP_DEVICES, option_value_device},
	{"rng", 0, NULL, "Give the guest a virtio source of random bytes from the host's kernel.",
	 NULL, GROUP_DEVICES, option_value_device},
	{"balloon", 0, NULL,
	 "Give the guest a virtio balloon. It is never inflated: the guest reports memory that "
	 "it does not use, and the host may use that until the guest needs it again. Not with "
	 "--vfio, nor with guest memory of huge pages or on a device.",
	 NULL, GROUP_DEVICES, option_value_device},
	{"vsock", 0, "cid=N",
	 "Give the guest sockets to its host. The guest is context id N, 3 or more, which no "
	 "other guest may have. The host's kernel serves them (/dev/vhost-vsock). An update "
	 "resets the connections.",
	 NULL, GROUP_DEVICES, option_value_device},
	{"console", 0, "stdio|pty[:LINK]|file:PATH|unix:PATH|none",
	 "Where the serial console goes. On a terminal, Ctrl-a x quits and Ctrl-a ? helps. "
	 "pty:LINK makes a symbolic link to the pseudo terminal. unix:PATH listens for one client, "
	 "which first gets the last lines.",
	 "stdio", GROUP_DEVICES, option_value_console, AT(console)},
	{"name", 0, "NAME",
	 "Name of the guest, put before each line of the log: at most 32 letters, digits, '.', '_' "
	 "and '-', neither '.' nor '-' first. It also gives the guest a control socket under that "
	 "name.",
	 NULL, GROUP_RUN, option_value_name, AT(name)},
	{"control", 0, "PATH|none",
	 "Where to make the control socket, for molt status, update, stop and events. Without this "
	 "option there is one for a guest with a --name only, /run/molt/NAME.sock for root and "
	 "$XDG_RUNTIME_DIR/molt/NAME.sock for others. none: no socket.",
	 NULL, GROUP_RUN, option_value_control, AT(control)},
	{"take", 0, "GUEST",
	 "Do not start a guest, but take over the running GUEST, a name or the path of a "
	 "control socket, with all that it has. The guest runs on under this process; the one "
	 "that had it ends with status 0. No other option may be given.",
	 NULL, GROUP_RUN, option_value_file, AT(take)},
	{"report", 0, "FILE", "Append one JSON record to FILE for each update.", NULL, GROUP_RUN,
	 option_value_file, AT(report)},
	{"log", 0, "FILE",
	 "Append molt's messages to FILE, each with the time and its level, instead of writing "
	 "them to standard error, which gets errors only. SIGHUP opens FILE again.",
	 NULL, GROUP_RUN, option_value_file, AT(log)},
	{"log-level", 0, "error|warning|info",
	 "Leave out messages that are less important than this.", "info", GROUP_RUN,
	 option_value_choice, AT(log_level)},
	{"on-reset", 0, "reboot|exit",
	 "What to do when the guest resets: reboot boots it again in the same processes, with "
	 "its console, control socket and clients, from the files as they are then; exit ends "
	 "molt with status 32, so that a supervisor can decide.",
	 "exit", GROUP_RUN, option_value_choice, AT(on_reset)},
	{"on-crash", 0, "reboot|exit|pause",
	 "What to do when the guest crashes (triple fault: status 33; pvpanic: 34; a failure "
	 "of KVM: 1): reboot and exit as for --on-reset; pause keeps it as it is, for "
	 "inspection, until molt stop ends it with that status.",
	 "exit", GROUP_RUN, option_value_choice, AT(on_crash)},
	{"stop-timeout", 0, "SECONDS",
	 "After SIGTERM or SIGINT, how long the guest may take to power off.", "30", GROUP_RUN,
	 option_value_number, AT(stop_timeout_s), .min = 0, .max = 86400},
	{"update-timeout", 0, "MS",
	 "How long the guest may stand still, at most, until the new program has taken over. "
	 "After that it runs on in the old one. 0: twenty times as long as the new program "
	 "took to try the state before the pause; at least 200, at least 5 for each vCPU, at "
	 "most 10000.",
	 "0", GROUP_RUN, option_value_number, AT(update_timeout_ms), .min = 0, .max = 3600000},
	{"prepare-timeout", 0, "MS",
	 "How long a new program may take for each step of its preparation, while the guest runs.",
	 "10000", GROUP_RUN, option_value_number, AT(prepare_timeout_ms), .min = 100,
	 .max = 3600000},
	{"warm-budget", 0, "MS",
	 "How long a new program may fill its page tables with guest memory before it takes "
	 "over, so that the guest does not have to fault it in again. The rest is faulted in "
	 "when the guest touches it. 0: fill none.",
	 "30000", GROUP_RUN, option_value_number, AT(warm_budget_ms), .min = 0, .max = 3600000},
	{"dry-run", 0, NULL,
	 "Start nothing. Say whether this host can run the guest, and if not, what to do (molt "
	 "host-check).",
	 NULL, GROUP_RUN, option_value_flag, AT(dry_run)},
	{"insecure-exe", 0, NULL,
	 "Let an update run a program file that its group or everybody may write to, or that "
	 "belongs to another user than root and the one who runs molt.",
	 NULL, GROUP_RUN, option_value_flag, AT(insecure_exe)},
	{"config", 0, "FILE",
	 "Read options from FILE, each on a line of its own: NAME = VALUE, or NAME, without the "
	 "dashes; "
	 "# begins a comment line, and double quotes around VALUE keep blanks at its ends. What "
	 "comes later on the command line wins. The guest keeps what "
	 "it was started with: no update reads FILE again.",
	 NULL, GROUP_RUN, option_value_config},
	{"sandbox", 0, "kill|log|off",
	 "What to do when a thread that serves the guest makes a system call that it does not "
	 "need: kill ends the guest with status 159, log allows the call. Both name it in the "
	 "log. off installs no filters.",
	 SECCOMP_DEFAULT, GROUP_RUN, option_value_choice, AT(sandbox)},
	{"testdev", 0, "ARGUMENT", "Add a test device. May be repeated.", NULL, GROUP_DEBUG,
	 option_value_device},
	{"debug-hold", 0, "MS",
	 "Hold every update's pause open this long before the state is handed over.", "0",
	 GROUP_DEBUG, option_value_number, AT(hold_ms), .min = 0, .max = 3600000},
};
const unsigned options_table_len = ARRAY_LEN(options_table);
_Static_assert(ARRAY_LEN(options_table) <= OPTIONS_MAX, "options.texts");

static int take(struct options *opt, const struct option_entry *o, const char *text,
		struct error *err)
{
	opt->texts[o - options_table] = text ?: "";
	return o->parse(opt, o, text, err);
}

bool options_effective(const struct options *opt, unsigned index, const char **name,
		       const char **text)
{
	for (unsigned i = 0; i < options_table_len; i++) {
		const struct option_entry *o = &options_table[i];
		if (o->parse == option_value_device || !opt->texts[i] || index--)
			continue;
		*name = o->name;
		*text = o->arg ? opt->texts[i] : NULL;
		return true;
	}
	if (index >= opt->ndevices)
		return false;
	*name = opt->devices[index].cls;
	*text = opt->devices[index].arg;
	return true;
}

/* How many letters are in one of the words and not in the other, in whatever order. */
static int distance(const char *a, const char *b, size_t alen)
{
	int count[256] = {0}, sum = 0;
	while (alen--)
		count[(uint8_t)*a++]++;
	while (*b)
		count[(uint8_t)*b++]--;
	for (unsigned i = 0; i < ARRAY_LEN(count); i++)
		sum += abs(count[i]);
	return sum;
}

static int unknown(const char *word, struct error *err)
{
	const char *name = word + strspn(word, "-"), *closest = NULL;
	int best = 3; /* further away is another word */

	error_end(err, EXIT_USAGE, EINVAL, "unknown option %.100s", word);
	for (unsigned i = 0; i < options_table_len; i++) {
		int d = distance(name, options_table[i].name, strcspn(name, "="));
		if (d < best) {
			best = d;
			closest = options_table[i].name;
		}
	}
	return closest ? error_hint(err, "did you mean --%s?", closest)
		       : error_hint(err, "molt run --help lists the options");
}

static int parse_words(struct options *opt, int argc, char **words, struct error *err)
{
	struct option longs[ARRAY_LEN(options_table) + 1] = {0};
	char shorts[2 * ARRAY_LEN(options_table) + 3] = "+:", *p = shorts + 2;

	for (unsigned i = 0; i < options_table_len; i++) {
		const struct option_entry *o = &options_table[i];
		longs[i] = (struct option){o->name, o->arg ? required_argument : no_argument, NULL,
					   LONG_BASE + (int)i};
		if (o->letter) {
			*p++ = o->letter;
			if (o->arg)
				*p++ = ':';
		}
	}
	*p = 0;
	optind = 0; /* starts over, in glibc and musl */
	opterr = 0;
	for (int c; (c = getopt_long(argc, words, shorts, longs, NULL)) != -1;) {
		if (c == '?' && optopt > 0 && optopt < LONG_BASE) {
			char word[] = {'-', (char)optopt, 0};
			return unknown(word, err);
		}
		if (c == '?' && optopt >= LONG_BASE)
			return option_usage(err, &options_table[optopt - LONG_BASE],
					    words[optind - 1], "no argument");
		if (c == '?')
			return unknown(words[optind - 1], err);
		/* A line of a file is an option with its value: the next line is not that. */
		if (c != ':' && optarg && optarg == words[optind - 1] &&
		    config_file_gave(words[optind - 2])) {
			optind--;
			c = ':';
		}
		if (c == ':') {
			error_end(err, EXIT_USAGE, EINVAL, "option %s: its argument is missing",
				  words[optind - 1]);
			return error_hint(err, "molt run --help lists the options");
		}
		const struct option_entry *o = options_table;
		if (c >= LONG_BASE)
			o += c - LONG_BASE;
		else
			while (o->letter != c)
				o++;
		int rc = take(opt, o, optarg, err);
		if (rc)
			return rc;
	}
	if (optind < argc) {
		error_end(err, EXIT_USAGE, EINVAL, "unexpected argument '%.200s'", words[optind]);
		return error_hint(err, "the kernel is given with --kernel FILE");
	}
	return 0;
}

int options_parse(struct options *opt, int argc, char *const argv[], struct error *err)
{
	memset(opt, 0, sizeof(*opt));
	for (unsigned i = 0; i < options_table_len; i++) {
		const struct option_entry *o = &options_table[i];
		int rc = o->def ? take(opt, o, o->def, err) : 0;
		if (rc)
			return rc;
	}
	/* getopt starts behind the program's name, and may reorder: it gets its own list. */
	char **words = pool_alloc((size_t)argc + 2, sizeof(*words));
	if (!words)
		return error_errno(err, ENOMEM, "list of options");
	words[0] = (char *)"molt";
	for (int i = 0; i < argc; i++)
		words[i + 1] = argv[i];
	int rc = parse_words(opt, argc + 1, words, err);
	if (rc)
		config_file_blame(words[optind - 1], err);
	pool_free(words);
	if (!rc && opt->take && argc > 2) {
		error_end(err, EXIT_USAGE, EINVAL,
			  "option --take stands alone: the guest keeps its own options");
		return error_hint(err, "molt run --take GUEST, and nothing else");
	}
	if (!rc && !opt->kernel && !opt->take) {
		error_end(err, EXIT_USAGE, EINVAL, "option --kernel is missing");
		rc = error_hint(err, "molt run --kernel FILE; molt run --help lists the options");
	}
	return rc;
}
