/* SPDX-License-Identifier: MIT */
/* Messages to the supervisor, sent here or by a sender in this process's place (sd_notify(3)). */
#include "vmm/notify.h"

#include <stdarg.h>
#include <sys/socket.h>
#include <sys/un.h>

/* $NOTIFY_SOCKET is a path or, with an @ in front, an abstract name. Returns 0 where it is neither. */
static socklen_t address(struct sockaddr_un *addr, const char *name)
{
	size_t n = strlen(name);
	if ((name[0] != '/' && name[0] != '@') || n >= sizeof(addr->sun_path))
		return 0;
	*addr = (struct sockaddr_un){.sun_family = AF_UNIX};
	memcpy(addr->sun_path, name, n);
	if (name[0] == '@')
		addr->sun_path[0] = 0;
	return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n);
}

static int send_text(const char *name, const char *text)
{
	struct sockaddr_un addr;
	socklen_t len = address(&addr, name);
	if (!len)
		return -EINVAL;
	fd_auto int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || sendto(fd, text, strlen(text), MSG_DONTWAIT | MSG_NOSIGNAL,
			     (const struct sockaddr *)&addr, len) < 0)
		return -errno;
	return 0;
}

static int (*sender)(const char *text);

void notify_set_sender(int (*send)(const char *text))
{
	sender = send;
}

void notify_forward(const char *text)
{
	static bool warned;
	const char *name = getenv("NOTIFY_SOCKET");
	int rc = name ? send_text(name, text) : 0;
	if (rc && !warned)
		log_warn("NOTIFY_SOCKET %.200s: %s: the supervisor is not told", name,
			 strerror(-rc));
	warned = warned || rc;
}

void notify_send(const char *assignments, const char *status, ...)
{
	char text[1024];
	va_list ap;

	if (!getenv("NOTIFY_SOCKET"))
		return;
	int n = snprintf(text, sizeof(text), "%s%sSTATUS=", assignments,
			 assignments[0] ? "\n" : "");
	va_start(ap, status);
	vsnprintf(text + n, sizeof(text) - (size_t)n, status, ap);
	va_end(ap);
	/* A newline would begin another assignment. */
	for (char *p = text + n; *p; p++)
		if ((unsigned char)*p < ' ')
			*p = ' ';
	if (!sender || sender(text))
		notify_forward(text);
}

void notify_reloading(void)
{
	char assignments[80];
	snprintf(assignments, sizeof(assignments), "RELOADING=1\nMONOTONIC_USEC=%lu",
		 (now_ns() / 1000));
	notify_send(assignments, "updating");
}
