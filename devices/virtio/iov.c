/* SPDX-License-Identifier: MIT */
/* Bytes of a chain of buffers, however the guest has cut them: no device may rely on that (VIRTIO 1.2, 2.7.4). */
#include "devices/virtio/virtio.h"

size_t iov_size(const struct iovec *iov, unsigned n)
{
	size_t size = 0;
	while (n--)
		size += iov++->iov_len;
	return size;
}

/* Copies between @n buffers and @flat. */
static size_t copy(const struct iovec *iov, unsigned n, void *flat, size_t len, bool out)
{
	size_t done = 0;
	for (; n-- && done < len; iov++) {
		size_t part = len - done < iov->iov_len ? len - done : iov->iov_len;
		if (out)
			memcpy((uint8_t *)flat + done, iov->iov_base, part);
		else
			memcpy(iov->iov_base, (const uint8_t *)flat + done, part);
		done += part;
	}
	return done;
}

size_t iov_read(const struct iovec *iov, unsigned n, void *to, size_t len)
{
	return copy(iov, n, to, len, true);
}

size_t iov_write(const struct iovec *iov, unsigned n, const void *from, size_t len)
{
	return copy(iov, n, (void *)from, len, false);
}

bool iov_cut_front(struct iovec **iov, unsigned *n, size_t len)
{
	for (; *n && len >= (*iov)->iov_len; ++*iov, --*n)
		len -= (*iov)->iov_len;
	if (!*n)
		return !len;
	(*iov)->iov_base = (uint8_t *)(*iov)->iov_base + len;
	(*iov)->iov_len -= len;
	return true;
}

bool iov_cut_back(struct iovec *iov, unsigned *n, size_t len)
{
	for (; *n && len >= iov[*n - 1].iov_len; --*n)
		len -= iov[*n - 1].iov_len;
	if (!*n)
		return !len;
	iov[*n - 1].iov_len -= len;
	return true;
}
