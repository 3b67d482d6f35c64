/* SPDX-License-Identifier: MIT */
/* What all devices have in common: their memory, their name, their section of the state. */
#include "vmm/device.h"

#include <signal.h>

#include "vmm/machine.h"

int device_create(const struct device_class *cls, struct machine *m, const char *arg,
		  struct device **out, struct error *err)
{
	struct device *dev = pool_alloc(1, cls->size);
	if (!dev)
		return error_errno(err, ENOMEM, "device %s", cls->name);
	*dev = (struct device){.cls = cls, .m = m};
	snprintf(dev->name, sizeof(dev->name), "%s", cls->name);
	snprintf(dev->node, sizeof(dev->node), "%s", cls->node ?: cls->name);
	int rc = cls->init ? cls->init(dev, arg, err) : 0;
	if (rc)
		pool_free(dev);
	else
		*out = dev;
	return rc;
}

int device_realize(struct device *dev, struct error *err)
{
	const struct device_class *cls = dev->cls;
	struct state_section s = {.cls = cls->state,
				  .state = (char *)dev + cls->state_offset,
				  .opaque = dev,
				  .pre_save = cls->pre_save,
				  .post_load = cls->post_load};
	memcpy(s.node, dev->node, sizeof(s.node));
	int rc = cls->realize ? cls->realize(dev, err) : 0;
	return rc || !s.cls ? rc : state_register(&dev->m->tree, &s, err);
}

void device_tell(struct device *dev, const char *trouble, bool ends_guest)
{
	dev->trouble = trouble;
	dev->told = true;
	dev->ends_guest = ends_guest;
	pthread_kill(dev->m->leader, MACHINE_WAKE_SIGNAL);
}

void device_leave(struct device *dev)
{
	dev->leaving = true;
	pthread_kill(dev->m->leader, MACHINE_WAKE_SIGNAL);
}

void devices_release(struct machine *m)
{
	for (unsigned i = 0; i < m->ndevices; i++) {
		struct device *dev = m->devices[i];
		pthread_mutex_lock(&m->lock);
		bool leaving = dev->leaving;
		dev->leaving = false;
		pthread_mutex_unlock(&m->lock);
		if (leaving)
			dev->cls->release(dev);
	}
}

bool device_destroy(struct device *dev)
{
	if (dev->cls->destroy)
		dev->cls->destroy(dev);
	if (dev->stays)
		return false;
	pool_free(dev);
	return true;
}
