/* SPDX-License-Identifier: MIT */
/* What all answers of the control socket have in common. */
#include "cpr/handover/answer.h"

#include "vmm/base/build.h"
#include "vmm/control/control.h"
#include "vmm/machine.h"

void answer_begin(struct json *j, char *buf, size_t size, const char *event)
{
	json_begin(j, buf, size);
	json_open(j, NULL, '{');
	json_string(j, "event", event);
	json_string(j, "result", "ok");
}

void answer_put_version(struct json *j)
{
	json_string(j, "version", build_version());
	json_string(j, "build", build_id());
}

void answer_end(struct machine *m, struct json *j)
{
	json_close(j, '}');
	if (json_end(j))
		control_answer(m->control, j->text, j->len);
	else
		control_answer_error(m->control, &(struct error){.text = "the answer is too long"});
}
