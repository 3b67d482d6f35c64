/* SPDX-License-Identifier: MIT */
/* The other end of guests' TCP connections (guest/linux/load_stream.c). A connection's first byte says what it is for:
 * 's': what comes is thrown away; 'r': as much as it takes is sent; 't': each byte goes back. */
#include "peer.h"

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

static uint8_t buffer[256 * 1024];

static void serve(int fd)
{
	char kind = 0;
	ssize_t n = 1;

	if (read(fd, &kind, 1) != 1)
		return;
	while (n > 0) {
		n = kind == 'r' ? 1 : read(fd, buffer, kind == 't' ? 1 : sizeof(buffer));
		if (n > 0 && kind != 's')
			n = send(fd, buffer, kind == 't' ? 1 : sizeof(buffer), MSG_NOSIGNAL);
	}
}

int stream_main(int argc, char **argv)
{
	struct sockaddr_in at = {.sin_family = AF_INET};
	int on = 1, server = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), fd;

	if (argc != 2)
		return 2;
	at.sin_port = htons((uint16_t)atoi(argv[1]));
	if (server < 0 || setsockopt(server, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) ||
	    bind(server, (struct sockaddr *)&at, sizeof(at)) || listen(server, 8))
		return complain("port %s", argv[1]);
	signal(SIGCHLD, SIG_IGN);
	while ((fd = accept(server, NULL, NULL)) >= 0) {
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
		if (!fork()) {
			serve(fd);
			_exit(0);
		}
		close(fd);
	}
	return complain("accept");
}
