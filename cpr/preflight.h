/* SPDX-License-Identifier: MIT */
/*
 * Preflight: before anything of the guest is paused, the new program is asked whether it could take it
 * over. It runs in a child, sandboxed (cpr/sandbox.h) and under a deadline, with a trial blob, /dev/kvm and a
 * pipe for its answer, and nothing else of the running machine.
 *
 * The trial blob is taken while the guest runs: devices under their lock; vCPUs and interrupt
 * controllers as they were at creation, or at the last update, since nobody can read them now.
 */
#ifndef MOLT_PREFLIGHT_H
#define MOLT_PREFLIGHT_H

struct error;
struct machine;
struct program;
struct reasons;

/* The child's descriptors. */
enum { PREFLIGHT_BLOB = 3, PREFLIGHT_ANSWER = 4, PREFLIGHT_KVM = 5, PREFLIGHT_EXE = 6 };

/* The running program, on the leader: asks @exe_fd, opened from @path. 0: yes. -errno: no, or no answer;
 * what the program itself has to say goes to @reasons. */
int preflight_ask(struct machine *m, struct program *p, const char *path, int exe_fd,
		  struct reasons *reasons, struct error *err);

/* The new program: tries, answers, and returns its exit status. @m and @p are empty. */
int preflight_answer(struct machine *m, struct program *p);

#endif
