/* SPDX-License-Identifier: MIT */
/* vsock-echo PORT: takes one connection of a guest after the other and sends everything back; how each has ended is a
 * line on standard output, "reset" or what else. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <linux/vm_sockets.h>

static const char *serve(int fd)
{
	char data[4096];
	ssize_t n = 1, sent = 0;
	while (n > 0 && sent >= 0) {
		n = recv(fd, data, sizeof(data), 0);
		for (ssize_t at = 0; at < n && sent >= 0; at += sent)
			sent = send(fd, data + at, (size_t)(n - at), MSG_NOSIGNAL);
	}
	return !n ? "end" : errno == ECONNRESET ? "reset" : strerror(errno);
}

int main(int argc, char **argv)
{
	struct sockaddr_vm at = {.svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY};
	int fd = socket(AF_VSOCK, SOCK_STREAM, 0);
	if (argc != 2) {
		fprintf(stderr, "usage: vsock-echo PORT\n");
		return 2;
	}
	at.svm_port = (unsigned)atoi(argv[1]);
	if (fd < 0 || bind(fd, (struct sockaddr *)&at, sizeof(at)) || listen(fd, 4)) {
		perror("vsock-echo");
		return 1;
	}
	for (;;) {
		int one = accept(fd, NULL, NULL);
		if (one < 0)
			continue;
		puts(serve(one));
		fflush(stdout);
		close(one);
	}
}
