/* SPDX-License-Identifier: MIT */
/* A stream socket on which each frame comes behind its length, a big-endian word: what passt and others speak who
 * carry a guest's traffic without any rights on the host (netdev "stream" of QEMU). */
#include <arpa/inet.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "devices/virtio/net.h"

#define WORD sizeof(uint32_t)

/* The frame at rx_at, if all of it is there. */
static int whole(const struct net *net, struct net_frame *f)
{
	const struct net_state *s = &net->state;
	uint32_t word, have = s->rx_len - net->rx_at;
	if (have < WORD)
		return 0;
	memcpy(&word, s->rx + net->rx_at, WORD);
	f->len = ntohl(word);
	if (!f->len || f->len > NET_FRAME_MAX)
		return -EPROTO; /* nobody can tell where the next one begins */
	f->header = (struct virtio_net_hdr_v1){0};
	f->data = s->rx + net->rx_at + WORD;
	return have - WORD >= f->len;
}

static int stream_next(struct net_pair *pair, struct net_frame *f)
{
	struct net *net = pair->net;
	struct net_state *s = &net->state;
	int rc = whole(net, f);
	if (rc)
		return rc;
	s->rx_len -= net->rx_at;
	memmove(s->rx, s->rx + net->rx_at, s->rx_len);
	net->rx_at = 0;
	ssize_t n = read(pair->fd, s->rx + s->rx_len, NET_STREAM_LEN - s->rx_len);
	if (n <= 0)
		return !n ? -EPIPE : errno == EAGAIN || errno == EINTR ? 0 : -errno;
	s->rx_len += (uint32_t)n;
	return whole(net, f);
}

static void stream_done(struct net_pair *pair, const struct net_frame *f, bool waits)
{
	if (!waits)
		pair->net->rx_at += (uint32_t)(WORD + f->len);
}

static int send_failed(void)
{
	return errno == EAGAIN || errno == EINTR ? -EAGAIN : -EPIPE;
}

static int stream_flush(struct net *net)
{
	struct net_state *s = &net->state;
	while (s->tx_len) {
		ssize_t n = write(net->pair[0].fd, s->tx, s->tx_len);
		if (n < 0)
			return send_failed();
		s->tx_len -= (uint32_t)n;
		memmove(s->tx, s->tx + n, s->tx_len);
	}
	return 0;
}

/* The header of virtio says nothing here, as no offload was offered. What a full socket leaves of a frame is kept. */
static int stream_send(struct net_pair *pair, const struct iovec *iov, unsigned n)
{
	struct net *net = pair->net;
	struct iovec part[VIRTIO_MAX_BUFFERS + 1], *rest = part + 1;
	int rc = stream_flush(net);
	if (rc)
		return rc;
	memcpy(rest, iov, n * sizeof(*iov));
	iov_cut_front(&rest, &n, NET_HEADER_LEN);
	size_t len = iov_size(rest, n);
	uint32_t word = htonl((uint32_t)len);
	*--rest = (struct iovec){&word, WORD};
	n++;
	ssize_t sent = writev(pair->fd, rest, (int)n);
	if (sent < 0)
		return send_failed();
	iov_cut_front(&rest, &n, (size_t)sent);
	net->state.tx_len = (uint32_t)iov_read(rest, n, net->state.tx, sizeof(net->state.tx));
	return 0;
}

static void stream_started(struct net *net)
{
}

const struct net_link net_stream = {
	.gone = "the process behind its network has ended, or sends what are no frames",
	.tx_most = NET_STREAM_LEN,
	.next = stream_next,
	.done = stream_done,
	.send = stream_send,
	.flush = stream_flush,
	.started = stream_started,
};

int net_stream_connect(const char *path, struct error *err)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", path);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return error_errno(err, errno, "net %s: socket", path);
	if (!connect(fd, (struct sockaddr *)&addr, sizeof(addr)))
		return fd;
	int rc = error_end(err, EXIT_CONFIG, errno, "net %s: connecting to passt: %m", path);
	close(fd);
	return rc == -ENOENT || rc == -ECONNREFUSED
		       ? error_hint(err, "start 'passt --socket %s' first, or let --net user do it",
				    path)
		       : error_file_hint(err);
}
