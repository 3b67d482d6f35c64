/* SPDX-License-Identifier: MIT */
/* The leader does what clients of the control socket ask for. */
#include "cpr/handover/serve.h"

#include "cpr/handover/answer.h"
#include "cpr/handover/incumbent.h"
#include "cpr/handover/status.h"
#include "cpr/handover/check.h"
#include "cpr/program.h"
#include "cpr/handover/report.h"
#include "vmm/base/build.h"
#include "vmm/base/json.h"
#include "vmm/base/reasons.h"
#include "vmm/base/config_file.h"
#include "vmm/console/console.h"
#include "vmm/control/control.h"
#include "vmm/control/request.h"
#include "vmm/machine.h"

/* Room for all arguments, with each character escaped, and for the defaults. */
#define CONFIG_LEN (2 * PROGRAM_ARGS_LEN + OPTIONS_MAX * 128 + PROGRAM_PATH_LEN)

static int put_options(struct json *j, const struct options *opt, struct error *err)
{
	const char *name, *text;
	int rc = 0;
	json_open(j, "options", '[');
	for (unsigned i = 0; !rc && options_effective(opt, i, &name, &text); i++) {
		rc = text ? config_file_check(name, text, err) : 0;
		json_open(j, NULL, '{');
		json_string(j, "name", name);
		if (text)
			json_string(j, "value", text);
		json_close(j, '}');
	}
	json_close(j, ']');
	return rc;
}

static void config(struct machine *m)
{
	static char buf[CONFIG_LEN];
	char cwd[PROGRAM_PATH_LEN];
	struct error err;
	struct json j;
	answer_begin(&j, buf, sizeof(buf), "config");
	answer_put_version(&j);
	json_string(&j, "folder", getcwd(cwd, sizeof(cwd)) ?: "");
	if (put_options(&j, &m->opt, &err))
		control_answer_error(m->control, &err);
	else
		answer_end(m, &j);
}

/* The client gets its answer when the update has ended. */
static void begin_update(struct machine *m, struct program *p, const struct control_request *req)
{
	const struct incumbent_request asked = {.path = req->exe[0] ? req->exe : NULL,
						.check = req->check,
						.taker = req->peer > 0 ? req->peer : 0,
						.taker_pid = (pid_t)req->pid};
	char text[512];
	struct error err;
	if (incumbent_busy()) {
		error_set(&err, EBUSY, "an update is under way: %s",
			  incumbent_text(text, sizeof(text)));
		error_hint(&err, "try again when it is over: molt events tells");
		control_answer_error(m->control, &err);
		if (req->peer >= 0)
			close(req->peer);
		return;
	}
	control_await_update(m->control);
	incumbent_begin(m, p, &asked, &err);
}

/* To pause a guest that is paused is no error: then @changed is false. */
static void answer_paused(struct machine *m, const char *event, bool changed, uint64_t lasted_s)
{
	char buf[1024];
	struct json j;
	answer_begin(&j, buf, sizeof(buf), event);
	json_bool(&j, "changed", changed);
	report_put_paused(&j, m);
	if (changed && !m->paused.since_s)
		json_number(&j, "paused_s", lasted_s);
	answer_end(m, &j);
}

static void tell_paused(struct machine *m, const struct control_request *req)
{
	char by[64];
	int n = snprintf(by, sizeof(by), "user %u", req->uid);
	if (req->pid)
		snprintf(by + n, sizeof(by) - (size_t)n, ", process %u", req->pid);
	report_paused(m, by);
}

/* A guest that has crashed can neither be paused nor resumed: it never runs again. */
static void answer_crashed(struct machine *m)
{
	struct error err;
	error_set(&err, ENOTRECOVERABLE, "the guest has crashed (%s) and stays as it is",
		  m->paused.reason);
	error_hint(&err, "molt stop ends it, with exit status %u", m->paused.code);
	control_answer_error(m->control, &err);
}

static void pause_guest(struct machine *m, const struct control_request *req)
{
	struct error err;
	if (m->paused.code) {
		answer_crashed(m);
		return;
	}
	if (m->ending) {
		error_set(&err, EBUSY, "the guest was asked to power off: it is not paused now");
		error_hint(&err, "it ends by itself, or after --stop-timeout");
		control_answer_error(m->control, &err);
		return;
	}
	bool changed = paused_begin(m, req->uid, req->pid);
	answer_paused(m, "pause", changed, 0);
	if (changed)
		tell_paused(m, req);
}

static void resume_guest(struct machine *m, const struct control_request *req)
{
	if (m->paused.code) {
		answer_crashed(m);
		return;
	}
	uint64_t lasted_s = paused_s(m);
	bool changed = paused_end(m);
	answer_paused(m, "resume", changed, lasted_s);
	if (changed)
		tell_paused(m, req);
}

/* Asks each device that has something to look at, also after one has failed. The last failure is the answer. */
static void rescan(struct machine *m)
{
	static char buf[MACHINE_MAX_DEVICES * 160 + 256];
	struct error err, failed = {0};
	struct json j;
	answer_begin(&j, buf, sizeof(buf), "rescan");
	json_open(&j, "devices", '[');
	for (unsigned i = 0; i < m->ndevices; i++) {
		struct device *dev = m->devices[i];
		uint64_t bytes;
		int rc = dev->cls->rescan ? dev->cls->rescan(dev, &bytes, &err) : 0;
		if (rc < 0) {
			log_warn("%s", err.text);
			failed = err;
		}
		if (rc < 0 || !dev->cls->rescan)
			continue;
		json_open(&j, NULL, '{');
		json_string(&j, "name", dev->name);
		json_number(&j, "bytes", bytes);
		json_bool(&j, "changed", rc);
		json_close(&j, '}');
	}
	json_close(&j, ']');
	if (failed.text[0])
		control_answer_error(m->control, &failed);
	else
		answer_end(m, &j);
}

static void attach(struct machine *m, const struct control_request *req)
{
	char buf[256];
	struct error err;
	struct json j;
	int rc = req->peer < 0 ? (error_set(&err, EINVAL, "console: no socket came along"),
				  error_hint(&err, "molt console GUEST"))
			       : console_view(m->console, req->peer, &err);
	if (rc) {
		if (req->peer >= 0)
			close(req->peer);
		control_answer_error(m->control, &err);
		return;
	}
	answer_begin(&j, buf, sizeof(buf), "console");
	answer_end(m, &j);
}

bool serve_request(struct machine *m, struct program *p)
{
	static const struct error no_peer = {.text = "take: no socket came along",
					     .hint = "molt run --take GUEST"};
	struct control_request req;
	char buf[1024];
	struct json j;

	if (!control_take(m->control, &req))
		return false;
	switch (req.word) {
	case CONTROL_STATUS:
		status_answer(m, p);
		return false;
	case CONTROL_CONSOLE:
		attach(m, &req);
		return false;
	case CONTROL_METRICS:
		metrics_answer(m, p);
		return false;
	case CONTROL_CONFIG:
		config(m);
		return false;
	case CONTROL_TAKE:
		if (req.peer < 0) {
			control_answer_error(m->control, &no_peer);
			return false;
		}
		begin_update(m, p, &req);
		return false;
	case CONTROL_UPDATE:
		begin_update(m, p, &req);
		return false;
	case CONTROL_PAUSE:
		pause_guest(m, &req);
		return false;
	case CONTROL_RESUME:
		resume_guest(m, &req);
		return false;
	case CONTROL_RESCAN:
		rescan(m);
		return false;
	case CONTROL_VERSION:
		answer_begin(&j, buf, sizeof(buf), "version");
		answer_put_version(&j);
		break;
	case CONTROL_EVENTS:
		answer_begin(&j, buf, sizeof(buf), "events");
		answer_put_version(&j);
		control_subscribe(m->control);
		break;
	case CONTROL_STOP:
		answer_begin(&j, buf, sizeof(buf), "stop");
		json_number(&j, "timeout_s", m->paused.code ? 0 : m->opt.stop_timeout_s);
		if (m->paused.code)
			report_put_paused(&j, m);
		break;
	}
	answer_end(m, &j);
	return req.word == CONTROL_STOP;
}

void serve_warn(const struct machine *m, const struct program *p)
{
	struct error err;
	fd_auto int fd = check_program(p->path, m->opt.insecure_exe, &err);
	if (fd < 0) {
		log_warn("updates will be refused: %s", err.text);
		if (err.hint[0])
			log_info("  remedy: %s", err.hint);
	}
}
