/* SPDX-License-Identifier: MIT */
/* A virtio disk: its option, its configuration, its life cycle. */
#include "devices/virtio/disk.h"

#include <linux/virtio_ids.h>

#include "vmm/machine.h"

#define SEG_MAX	    (VIRTIO_MAX_BUFFERS - 2) /* beside header and status */
#define SEG_LEN	    (512 * KIB) /* of a segment: SEG_MAX of them are less than DISK_REQUEST_MAX */
#define RANGE_MAX   (DISK_REQUEST_MAX / DISK_SECTOR) /* of one discard, or write of zeroes */
#define CLASS_OTHER 0x018000			     /* mass storage that is no kind of its own */

static const struct field disk_fields[] = {
	VIRTIO_STATE_FIELDS(struct disk_state, virtio),
	FIELD_U(struct disk_state, sectors),
	FIELD_U(struct disk_state, block_len),
	FIELD_U(struct disk_state, reserved),
};
static STATE_CLASS(disk_state_class, "disk", 1, struct disk_state, disk_fields);

static const struct virtio_ops disk_ops = {
	.type = VIRTIO_ID_BLOCK,
	.pci_class = CLASS_OTHER,
	.own_threads = true,
	.kick = virtio_look_again,
	.oldest = disk_oldest,
};

static int usage_error(const char *arg, struct error *err)
{
	error_end(err, EXIT_USAGE, EINVAL,
		  "--disk %.200s: expected PATH[,ro][,direct][,serial=TEXT][,queues=N]"
		  "[,aio=threads|io_uring]",
		  arg);
	return error_hint(err,
			  "PATH is a raw image or a block device and has no comma; TEXT has up to "
			  "%d characters; N is 1 to %d",
			  DISK_ID_LEN, DISK_QUEUES_MAX);
}

static bool parse_queues(struct disk *disk, const char *text)
{
	int used = 0;
	return sscanf(text, "%2u%n", &disk->queues, &used) == 1 && !text[used] && disk->queues &&
	       disk->queues <= DISK_QUEUES_MAX;
}

static bool parse_word(struct disk *disk, const char *word)
{
	if (!strcmp(word, "ro"))
		return disk->readonly = true;
	if (!strcmp(word, "direct"))
		return disk->direct = true;
	if (!strncmp(word, "queues=", strlen("queues=")))
		return parse_queues(disk, word + strlen("queues="));
	if (!strncmp(word, "aio=", strlen("aio=")))
		return (disk->wanted = disk_engine_find(word + strlen("aio=")));
	if (strncmp(word, "serial=", strlen("serial=")))
		return false;
	word += strlen("serial=");
	return *word && (size_t)snprintf(disk->serial, sizeof(disk->serial), "%s", word) <
				sizeof(disk->serial);
}

static int parse_arg(struct disk *disk, const char *arg, struct error *err)
{
	char text[PATH_MAX + 64], *rest = text;
	if ((size_t)snprintf(text, sizeof(text), "%s", arg) >= sizeof(text))
		return usage_error(arg, err);
	const char *path = strsep(&rest, ",");
	if (!*path ||
	    (size_t)snprintf(disk->path, sizeof(disk->path), "%s", path) >= sizeof(disk->path))
		return usage_error(arg, err);
	while (rest)
		if (!parse_word(disk, strsep(&rest, ",")))
			return usage_error(arg, err);
	return 0;
}

static int disk_init(struct device *base, const char *arg, struct error *err)
{
	struct disk *disk = (struct disk *)base;
	unsigned index = 0;
	disk->fd = -1;
	disk->queues = 1;
	disk->wanted = &disk_pool_engine;
	for (struct device *d = NULL; (d = machine_device(base->m, "disk", d));)
		index++;
	snprintf(base->node, sizeof(base->node), "disk@%u", index);
	int rc = parse_arg(disk, arg, err);
	snprintf(base->name, sizeof(base->name), "disk %.40s", disk->path);
	return rc
		       ?: virtio_dev_init(&disk->virtio, base, &disk_ops, &disk->state.virtio,
					  disk->queues, err);
}

static int file_open(struct disk *disk, struct error *err)
{
	struct machine *m = disk->dev.m;
	char name[FDSET_NAME_LEN];
	snprintf(name, sizeof(name), "%.48s:file", disk->dev.node);
	disk->fd = fdset_get(&m->fds, name);
	if (disk->fd >= 0)
		return 0;
	if (!m->fresh)
		return error_set(err, EBADMSG, "%s: descriptor %s was not handed over",
				 disk->dev.name, name);
	int fd = disk_file_open(disk, err);
	if (fd < 0)
		return fd;
	int rc = fdset_keep(&m->fds, name, fd, err);
	if (rc)
		close(fd);
	else
		disk->fd = fd;
	return rc;
}

/* Before an update's pause, which has no time for new pages. */
static int requests_alloc(struct disk *disk, struct error *err)
{
	unsigned n = disk_room(disk);
	disk->requests = calloc(n, sizeof(*disk->requests));
	if (!disk->requests)
		return error_errno(err, ENOMEM, "%s", disk->dev.name);
	for (unsigned i = n; i-- > 0;) {
		disk->requests[i].next = disk->free;
		disk->free = &disk->requests[i];
	}
	return 0;
}

static int disk_open(struct device *base, struct error *err)
{
	struct disk *disk = (struct disk *)base;
	return file_open(disk, err)
		       ?: requests_alloc(disk, err)
		       ?: virtio_dev_open(&disk->virtio, err)
		       ?: disk_engine_init(disk, err);
}

/* What the guest reads (5.2.4). What it was told when it first did stays: limits are only ever raised. */
static void configure(struct disk *disk)
{
	const struct disk_state *s = &disk->state;
	disk->config = (struct virtio_blk_config){
		.capacity = s->sectors,
		.size_max = SEG_LEN,
		.seg_max = SEG_MAX,
		.blk_size = s->block_len,
		.num_queues = (uint16_t)disk->queues,
		.max_discard_sectors = RANGE_MAX,
		.max_discard_seg = 1,
		.discard_sector_alignment = s->block_len / DISK_SECTOR,
		.max_write_zeroes_sectors = RANGE_MAX,
		.max_write_zeroes_seg = 1,
		.write_zeroes_may_unmap = 1,
	};
}

static int disk_realize(struct device *base, struct error *err)
{
	struct disk *disk = (struct disk *)base;
	uint64_t features = 1ull << VIRTIO_BLK_F_SIZE_MAX | 1ull << VIRTIO_BLK_F_SEG_MAX |
			    1ull << VIRTIO_BLK_F_BLK_SIZE | 1ull << VIRTIO_BLK_F_FLUSH;
	features |= disk->readonly
			    ? 1ull << VIRTIO_BLK_F_RO
			    : 1ull << VIRTIO_BLK_F_DISCARD | 1ull << VIRTIO_BLK_F_WRITE_ZEROES;
	if (disk->queues > 1)
		features |= 1ull << VIRTIO_BLK_F_MQ;
	configure(disk);
	return virtio_dev_realize(&disk->virtio, features, &disk->config, sizeof(disk->config),
				  err);
}

static int disk_reset(struct device *base, struct error *err)
{
	virtio_dev_reset(&((struct disk *)base)->virtio);
	return 0;
}

static int disk_post_load(void *opaque, struct error *err)
{
	struct disk *disk = opaque;
	const struct disk_state *s = &disk->state;
	if (s->sectors > INT64_MAX / DISK_SECTOR || s->block_len < DISK_SECTOR)
		return error_set(err, EBADMSG, "%s: %llu sectors, blocks of %u bytes",
				 disk->dev.name, (unsigned long long)s->sectors, s->block_len);
	configure(disk);
	return virtio_dev_load(&disk->virtio, err);
}

static int disk_spawn(struct device *base, struct error *err)
{
	return disk_engine_spawn((struct disk *)base, err);
}

static int disk_start(struct device *base, struct error *err)
{
	virtio_dev_start(&((struct disk *)base)->virtio);
	return 0;
}

static int disk_serve(struct device *base, struct error *err)
{
	struct disk *disk = (struct disk *)base;
	disk_engine_serve(disk);
	virtio_dev_serve(&disk->virtio);
	return 0;
}

static int disk_quiesce(struct device *base, struct error *err)
{
	return virtio_dev_quiesce(&((struct disk *)base)->virtio, err);
}

static void disk_resume(struct device *base)
{
	virtio_dev_serve(&((struct disk *)base)->virtio);
}

/* It grows with its file. It never shrinks: the guest may have something there. */
static int resize(struct disk *disk, uint64_t bytes, struct error *err)
{
	struct disk_state *s = &disk->state;
	uint64_t before = s->sectors * DISK_SECTOR;
	if (bytes < before) {
		error_set(err, ERANGE, "%s: its file has %llu bytes, the guest's disk %llu",
			  disk->dev.name, (unsigned long long)bytes, (unsigned long long)before);
		return error_hint(err, "make it that long again: what is missing is an I/O error "
				       "for the guest, until it is started anew");
	}
	if (bytes == before)
		return 0;
	log_info("%s: %llu bytes, %llu before: the guest is told", disk->dev.name,
		 (unsigned long long)bytes, (unsigned long long)before);
	s->sectors = bytes / DISK_SECTOR;
	configure(disk);
	virtio_config_changed(&disk->virtio);
	return 1;
}

static int disk_rescan(struct device *base, uint64_t *bytes, struct error *err)
{
	struct disk *disk = (struct disk *)base;
	uint32_t block;
	int rc = disk_file_measure(disk, disk->fd, bytes, &block, err);
	if (rc)
		return rc;
	pthread_mutex_lock(&base->m->lock);
	rc = resize(disk, *bytes, err);
	pthread_mutex_unlock(&base->m->lock);
	return rc;
}

static void disk_destroy(struct device *base)
{
	struct disk *disk = (struct disk *)base;
	base->stays = disk->engine && !disk_engine_end(disk);
	virtio_dev_destroy(&disk->virtio);
	if (!base->stays)
		free(disk->requests);
}

const struct device_class disk_class = {
	.name = "disk",
	.state = &disk_state_class,
	.size = sizeof(struct disk),
	.state_offset = offsetof(struct disk, state),
	.init = disk_init,
	.open = disk_open,
	.realize = disk_realize,
	.reset = disk_reset,
	.post_load = disk_post_load,
	.spawn = disk_spawn,
	.start = disk_start,
	.serve = disk_serve,
	.quiesce = disk_quiesce,
	.resume = disk_resume,
	.rescan = disk_rescan,
	.destroy = disk_destroy,
};
