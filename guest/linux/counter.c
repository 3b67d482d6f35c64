/* SPDX-License-Identifier: MIT */
#include "counter.h"

#include <pthread.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

static union {
	struct counter_page page;
	uint8_t bytes[4096];
} counter __attribute__((aligned(4096)));

static void *count(void *unused)
{
	volatile struct counter_page *page = &counter.page;

	(void)unused;
	/* Of this thread only: Linux keeps the nice value per thread. */
	setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), 19);
	for (;;)
		page->count++;
	return NULL;
}

int counter_start(void)
{
	volatile struct counter_page *page = &counter.page;
	pthread_t thread;

	/* To be found at once: the thread may be long in starting. */
	page->magic = COUNTER_MAGIC;
	page->inverse = ~page->magic;
	return pthread_create(&thread, NULL, count, NULL);
}
