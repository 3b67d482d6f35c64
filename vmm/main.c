/* SPDX-License-Identifier: MIT */
/* The program: words of the command line, and as whom this image was started. */
#include <fcntl.h>

#include "cpr/fault.h"
#include "cpr/handover/link.h"
#include "cpr/handover/parent.h"
#include "cpr/handover/worker.h"
#include "cpr/host_check.h"
#include "cpr/inspect.h"
#include "cpr/program.h"
#include "vmm/base/build.h"
#include "vmm/base/config_file.h"
#include "vmm/completion.h"
#include "vmm/control/client.h"
#include "vmm/machine.h"

static _Alignas(PAGE_LEN) struct machine machine;
static struct program program;

/* Descriptors 0 to 2 exist, or what is opened next would become somebody's standard output. */
static void open_standard_fds(void)
{
	int fd;
	while ((fd = open("/dev/null", O_RDWR)) >= 0 && fd <= STDERR_FILENO)
		;
	if (fd > STDERR_FILENO)
		close(fd);
}

static int fail(const struct error *err)
{
	log_error(err);
	return (int)err->exit;
}

static void machine_init(struct machine *m)
{
	pthread_mutex_init(&m->lock, NULL);
	m->leader = pthread_self();
	m->stop_code = -1;
}

/* The word may also be the argument of another option. */
static bool asks_dry_run(int argc, char *argv[])
{
	for (int i = 2; i < argc; i++)
		if (!strncmp(argv[i], "--dry", 5))
			return true;
	return false;
}

/* Started by somebody: becomes a parent, whose workers are execed by a descriptor and so do not know their path. */
static int start(int argc, char *argv[], const struct role *role)
{
	char path[PROGRAM_PATH_LEN];
	struct error err;

	for (int i = 2; i < argc; i++)
		if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h")) {
			options_help(stdout);
			return 0;
		}
	open_standard_fds();
	char **given = argv;
	if (config_file_expand(&argc, &argv, &err))
		return fail(&err);
	/* The worker would find the same mistakes, but not the line of the file. */
	if (argv != given || asks_dry_run(argc, argv)) {
		machine_init(&machine);
		if (options_parse(&machine.opt, argc - 2, argv + 2, &err))
			return fail(&err);
		if (machine.opt.dry_run)
			return host_check(&machine, false);
	}
	if (program_path(path, argv[0], &err))
		return fail(&err);
	setenv(PROGRAM_PATH_ENV, path, 1);
	return parent_run(argc, argv, role);
}

static int run(int argc, char *argv[])
{
	struct role role = role_incoming();

	switch (role.kind) {
	case ROLE_PERSON:
		return start(argc, argv, &role);
	case ROLE_PARENT:
	case ROLE_REHEARSAL:
		fault_point(role.kind == ROLE_PARENT ? "parent" : "rehearsal");
		return parent_run(argc, argv, &role);
	case ROLE_WORKER:
	case ROLE_SUCCESSOR:
		machine_init(&machine);
		return worker_run(&machine, &program, argc, argv, &role);
	case ROLE_CONFUSED:
		break;
	}
	return fail(&(struct error){.text = ROLE_ENV " is set but makes no sense",
				    .hint = "unset it: it belongs to molt itself",
				    .exit = EXIT_USAGE});
}

static void usage(FILE *out)
{
	fprintf(out, "usage: molt run OPTIONS    run a guest (molt run --help)\n"
		     "       molt host-check [DEVICE...] [--mem SIZE] [--json]\n");
	client_usage(out);
	fprintf(out, "       " INSPECT_USAGE "       molt --version\n"
		     "       molt --help\n"
		     "GUEST is a --name, or the path of a control socket (with a slash in it)\n"
		     "signals of a running guest: SIGUSR1 updates the program in place,\n"
		     "       SIGTERM and SIGINT power off, SIGHUP opens log files anew\n");
}

/* What --help says, and the options of run. */
static void completion(FILE *out)
{
	char *text = NULL;
	size_t len;
	FILE *help = open_memstream(&text, &len);
	if (!help)
		return;
	usage(help);
	fclose(help);
	completion_usage(out, text);
	completion_options(out);
	free(text);
}

static void version(FILE *out)
{
	fprintf(out, "molt %s (build %s)\n", build_version(), build_id());
}

static int state(int argc, char *argv[])
{
	struct error err;
	int rc = inspect_run(argc - 2, argv + 2, &err);
	return rc < 0 ? fail(&err) : rc;
}

static int check_host(int argc, char *argv[])
{
	machine_init(&machine);
	return host_check_run(&machine, argc, argv);
}

/* The first word of the command line says which. Each gets all of main's arguments. */
static const struct {
	const char *word;
	int (*run)(int argc, char *argv[]);
	void (*print)(FILE *out); /* instead; takes no further words */
} verbs[] = {
	{"run", run, NULL},
	{"state", state, NULL},
	{"host-check", check_host, NULL},
	{"list", client_run, NULL},
	{"status", client_run, NULL},
	{"config", client_run, NULL},
	{"update", client_run, NULL},
	{"stop", client_run, NULL},
	{"metrics", client_run, NULL},
	{"console", client_run, NULL},
	{"pause", client_run, NULL},
	{"resume", client_run, NULL},
	{"rescan", client_run, NULL},
	{"events", client_run, NULL},
	{"--version", NULL, version},
	{"-V", NULL, version},
	{"--help", NULL, usage},
	{"-h", NULL, usage},
	{"--man-options", NULL, options_man}, /* for the build of the man page */
	{"--completion-words", NULL, completion},
};

static int command(int argc, char *argv[])
{
	struct error err;
	for (unsigned i = 0; argc >= 2 && i < ARRAY_LEN(verbs); i++) {
		if (strcmp(argv[1], verbs[i].word))
			continue;
		if (verbs[i].run)
			return verbs[i].run(argc, argv);
		if (argc == 2) {
			verbs[i].print(stdout);
			return 0;
		}
		error_end(&err, EXIT_USAGE, EINVAL, "%s: unexpected argument '%.200s'", argv[1],
			  argv[2]);
		error_hint(&err, "%s stands alone", argv[1]);
		return fail(&err);
	}
	if (argc < 2) {
		usage(stderr);
		return EXIT_USAGE;
	}
	error_end(&err, EXIT_USAGE, EINVAL, "unknown command '%.200s'", argv[1]);
	error_hint(&err, "molt --help lists the commands");
	return fail(&err);
}

/* C libraries differ in whether they still know the errno of a write that was made while the answer was printed. So the
 * message names the file, and not the errno. */
static int not_written(void)
{
	struct error err;
	char file[200] = "?";
	ssize_t n = readlink("/proc/self/fd/1", file, sizeof(file) - 1);
	if (n > 0)
		file[n] = 0;
	error_set(&err, EIO, "standard output (%s): the answer could not be written whole", file);
	error_hint(&err, "make room there, or give it another output");
	return fail(&err);
}

/* Output that cannot be written is a failure. */
int main(int argc, char *argv[])
{
	int status = command(argc, argv);
	bool written = !fflush(stdout) && !ferror(stdout);
	return status || written ? status : not_written();
}
