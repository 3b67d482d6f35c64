/* SPDX-License-Identifier: MIT */
/* Reads what molt metrics prints, as strictly as the format is written down (prometheus.io, "Exposition formats"). */
#ifndef RUNNER_METRICS_H
#define RUNNER_METRICS_H

struct session;

#define METRICS_MAX 128

struct metric {
	char name[200]; /* with its labels, as they are written */
	double value;
};

struct metrics {
	struct metric m[METRICS_MAX];
	unsigned n;
};

/* Each family has one HELP and one TYPE line, and then its samples; buckets add up. 0, or -1 with session.error. */
int metrics_read(struct session *s, const char *text, struct metrics *out);
/* NaN: there is none. */
double metrics_get(const struct metrics *m, const char *name);

#endif
