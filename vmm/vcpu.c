/* SPDX-License-Identifier: MIT */
/* vCPU threads: each runs, parks, saves and loads its own vCPU, as the leader asks. */
#include "vmm/vcpu.h"

#include <signal.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "vmm/arch.h"
#include "vmm/kvm_stats.h"
#include "vmm/machine.h"

#define KICK_SIGNAL SIGUSR2
#define KICK_TRIES  3

/* Does nothing: the signal itself makes KVM_RUN return. run->immediate_exit, which is set before
 * the signal is sent, closes the race with a thread that is about to enter. */
static void on_kick(int sig)
{
	(void)sig;
}

int vcpus_init(struct machine *m, struct error *err)
{
	struct sigaction sa = {.sa_handler = on_kick};
	int most = vm_has(&m->vm, KVM_CAP_MAX_VCPUS);
	if (most && m->opt.cpus > (uint32_t)most) {
		error_end(err, EXIT_HOST, E2BIG, "%u vCPUs: this host's KVM has at most %d",
			  m->opt.cpus, most);
		return error_hint(err, "fewer --cpus");
	}
	sigaction(KICK_SIGNAL, &sa, NULL);
	gate_init(&m->gate, m->opt.cpus);
	m->vcpus = pool_alloc(m->opt.cpus, sizeof(*m->vcpus));
	if (!m->vcpus)
		return error_errno(err, ENOMEM, "%u vCPUs", m->opt.cpus);
	for (uint32_t i = 0; i < m->opt.cpus; i++) {
		m->vcpus[i] = (struct vcpu){.m = m, .index = i, .fd = -1, .stats_fd = -1};
		int rc = vcpu_arch_init(&m->vcpus[i], err);
		if (rc)
			return rc;
	}
	return 0;
}

static int create(struct vcpu *cpu, struct error *err)
{
	int rc = vcpu_open(cpu, &cpu->m->vm, err);
	if (rc)
		return rc;
	rc = kvm_stats_open(cpu->fd, &cpu->stats_fd);
	if (rc)
		return error_errno(err, -rc, "vCPU %u: KVM_GET_STATS_FD", cpu->index);
	return vcpu_arch_create(cpu, err);
}

int vcpus_create(struct machine *m, struct error *err)
{
	for (uint32_t i = 0; i < m->opt.cpus; i++) {
		int rc = create(&m->vcpus[i], err);
		if (rc)
			return rc;
	}
	return 0;
}

static void mask_kick(int how)
{
	sigset_t kick;
	sigemptyset(&kick);
	sigaddset(&kick, KICK_SIGNAL);
	pthread_sigmask(how, &kick, NULL);
}

/* With a signal pending KVM_RUN returns right before it would enter the guest. With immediate_exit it returns earlier.
 * The signal is unblocked inside KVM_RUN only (api.rst, KVM_SET_SIGNAL_MASK). */
void vcpu_flush_pending(struct vcpu *cpu)
{
	struct {
		struct kvm_signal_mask head;
		uint64_t blocked;
	} __attribute__((packed)) mask = {.head.len = 8};

	mask_kick(SIG_BLOCK);
	mask.blocked = ~(1ull << (KICK_SIGNAL - 1));
	syscall(SYS_tgkill, getpid(), cpu->tid, KICK_SIGNAL);
	if (vm_ioctl(cpu->fd, KVM_SET_SIGNAL_MASK, &mask) == 0) {
		cpu->run->immediate_exit = 0;
		vcpu_run(cpu);
		cpu->run->immediate_exit = 1;
		vm_ioctl(cpu->fd, KVM_SET_SIGNAL_MASK, NULL);
	}
	mask_kick(SIG_UNBLOCK);
}

/* ---- the threads ---- */

/* Where the pins are not KVM's it tells an EOI with the next KVM_RUN only, right before it would enter the guest
 * (KVM_REQ_IOAPIC_EOI_EXIT): until then it is in nobody's state. */
static void flush_eoi(struct vcpu *cpu)
{
	struct machine *m = cpu->m;
	if (!m->irq.pins)
		return;
	pthread_mutex_lock(&m->lock);
	bool due = arch_pins_in_service(m->irq.pins);
	pthread_mutex_unlock(&m->lock);
	if (due)
		vcpu_flush_pending(cpu);
}

/* Parks. Saves only when all are parked, because until then they may interrupt each other. */
static void park_and_save(struct vcpu *cpu)
{
	struct gate *gate = &cpu->m->gate;
	struct error err;

	pthread_mutex_lock(&gate->lock);
	/* This vCPU has ended the machine, and no pause was requested yet. */
	while (gate->want == GATE_RUN || gate->want == GATE_HOLD)
		pthread_cond_wait(&gate->to_vcpus, &gate->lock);
	bool ends = gate->want == GATE_STOP;
	pthread_mutex_unlock(&gate->lock);
	if (ends)
		return;
	flush_eoi(cpu); /* it may interrupt others too */
	pthread_mutex_lock(&gate->lock);
	cpu->round = gate->round;
	__atomic_store_n(&gate->parked, gate->parked + 1, __ATOMIC_RELEASE);
	if (gate->parked == gate->cpus) {
		pthread_cond_broadcast(&gate->to_vcpus);
		pthread_cond_signal(&gate->to_leader);
	}
	while (gate->parked < gate->cpus)
		pthread_cond_wait(&gate->to_vcpus, &gate->lock);
	pthread_mutex_unlock(&gate->lock);

	int rc = vcpu_arch_save(cpu, &err);
	gate_arrive(gate, rc, &err);
}

/* Waits for the next order: load the state, run, or end. "Run" counts even if the guest is to pause again before this
 * thread has noticed it. */
static enum gate_want wait_turn(struct vcpu *cpu)
{
	struct gate *gate = &cpu->m->gate;
	gate_look(gate, &gate->want, GATE_HOLD, GATE_HOLD);
	pthread_mutex_lock(&gate->lock);
	while (gate->want == GATE_HOLD || gate->want == GATE_SOON ||
	       ((gate->want == GATE_PAUSE || gate->want == GATE_LOAD) &&
		cpu->round == gate->round)) {
		pthread_cond_wait(&gate->to_vcpus, &gate->lock);
		if (gate->want != GATE_SOON)
			continue;
		pthread_mutex_unlock(&gate->lock);
		gate_look(gate, &gate->want, GATE_SOON, GATE_SOON);
		pthread_mutex_lock(&gate->lock);
	}
	enum gate_want want = gate->want;
	if (want == GATE_LOAD)
		cpu->round = gate->round;
	pthread_mutex_unlock(&gate->lock);
	return want;
}

static void wait_built(struct gate *gate)
{
	gate_look(gate, &gate->want, GATE_BUILD, GATE_BUILD);
	pthread_mutex_lock(&gate->lock);
	while (gate->want == GATE_BUILD)
		pthread_cond_wait(&gate->to_vcpus, &gate->lock);
	pthread_mutex_unlock(&gate->lock);
}

/* Sets only what the operator has changed; a new thread inherits the rest from its creator. */
static void set_sched(struct vcpu *cpu)
{
	const struct thread_sched *want = vcpu_arch_sched(cpu);
	char what[24];
	if (!memcmp(want, &cpu->sched, sizeof(*want)))
		return;
	snprintf(what, sizeof(what), "vCPU %u", cpu->index);
	sched_apply(want, &cpu->sched, what);
	cpu->sched = *want;
}

/* KVM remembers the thread on which a vCPU last ran, and waits for a grace period when it is another one (kvm_main.c,
 * KVM_RUN). So this thread calls KVM_RUN once before the pause, which returns at once. The first KVM_RUN of a VM also
 * creates a kernel thread for its huge pages, with the caller's nice value (kvm_mmu_post_init_vm, Linux 6.14). */
static int enter_once(struct vcpu *cpu, struct error *err)
{
	cpu->run->immediate_exit = 1;
	sched_step_forward(true);
	int rc = ioctl(cpu->fd, KVM_RUN, NULL) < 0 ? errno : 0;
	sched_step_forward(false);
	return rc && rc != EINTR && rc != EAGAIN
		       ? error_errno(err, rc, "vCPU %u: KVM_RUN", cpu->index)
		       : 0;
}

/* Loads the state. The first one is the offer, to try it. */
static int load(struct vcpu *cpu, struct error *err)
{
	if (cpu->m->rehearsed) {
		set_sched(cpu);
		return vcpu_arch_load(cpu, err);
	}
	int rc = vcpu_arch_rehearse(cpu, err) ?: enter_once(cpu, err);
	sched_read(&cpu->sched, cpu->tid, NULL);
	set_sched(cpu);
	return rc;
}

/* Sets the affinity of a new guest's vCPUs (--cpus). Later the operator may change it. */
static int pin(const struct vcpu *cpu, struct error *err)
{
	const struct cpu_options *opt = &cpu->m->opt.cpu;
	uint64_t mask[SCHED_AFFINITY_WORDS];
	if (!opt->affinity)
		return 0;
	cpu_options_affinity(opt, cpu->index, mask);
	if (syscall(SYS_sched_setaffinity, 0, sizeof(mask), mask) >= 0)
		return 0;
	error_end(err, EXIT_CONFIG, errno, "--cpus affinity=: vCPU %u: %m", cpu->index);
	return error_hint(
		err,
		"the host's processors: lscpu -e; those that this process may use: taskset -p $$");
}

static void *thread(void *opaque)
{
	struct vcpu *cpu = opaque;
	struct gate *gate = &cpu->m->gate;
	struct error err;
	char name[16];

	snprintf(name, sizeof(name), "molt-cpu%u", cpu->index % 10000);
	prctl(PR_SET_NAME, name);
	mask_kick(SIG_UNBLOCK);
	cpu->tid = (pid_t)syscall(SYS_gettid);

	int rc = 0;
	if (cpu->m->fresh) {
		rc = pin(cpu, &err) ?: seccomp_enter(SECCOMP_VCPU, &err);
		cpu->filtered = VCPU_FILTERED;
	}
	wait_built(gate);
	if (!cpu->m->fresh)
		rc = create(cpu, &err);
	gate_arrive(gate, rc, &err);

	for (enum gate_want want; (want = wait_turn(cpu)) != GATE_STOP;) {
		if (want == GATE_LOAD) {
			rc = load(cpu, &err);
			gate_arrive(gate, rc, &err);
			gate_look(gate, &gate->want, GATE_LOAD, GATE_LOAD);
			continue;
		}
		vcpu_run(cpu);
		park_and_save(cpu);
	}
	return NULL;
}

/* ---- the leader's side ---- */

int vcpus_spawn(struct machine *m, struct error *err)
{
	gate_begin(&m->gate, GATE_BUILD);
	for (uint32_t i = 0; i < m->opt.cpus; i++) {
		int rc = pthread_create(&m->vcpus[i].thread, NULL, thread, &m->vcpus[i]);
		if (rc)
			return error_errno(err, rc, "vCPU %u: thread", i);
	}
	return 0;
}

void vcpus_start(struct machine *m)
{
	pthread_mutex_lock(&m->gate.lock);
	gate_set(&m->gate, GATE_HOLD);
	pthread_cond_broadcast(&m->gate.to_vcpus);
	pthread_mutex_unlock(&m->gate.lock);
}

void vcpus_read_sched(struct machine *m, const struct thread_sched *leader)
{
	for (uint32_t i = 0; i < m->opt.cpus; i++)
		sched_read(vcpu_arch_sched(&m->vcpus[i]), m->vcpus[i].tid, leader);
}

void vcpus_alert(struct machine *m)
{
	pthread_mutex_lock(&m->gate.lock);
	m->gate.hurry = true;
	gate_set(&m->gate, GATE_SOON);
	pthread_mutex_unlock(&m->gate.lock);
	pthread_cond_broadcast(&m->gate.to_vcpus);
}

void vcpus_load(struct machine *m)
{
	pthread_mutex_lock(&m->gate.lock);
	m->gate.round++;
	gate_begin(&m->gate, GATE_LOAD);
	pthread_mutex_unlock(&m->gate.lock);
	pthread_cond_broadcast(&m->gate.to_vcpus);
}

int vcpus_wait_loaded(struct machine *m, struct error *err)
{
	return gate_wait_all(&m->gate, err);
}

void vcpus_go(struct machine *m)
{
	struct gate *gate = &m->gate;
	pthread_mutex_lock(&gate->lock);
	gate->hurry = false;
	/* After its end, for example by a reset, a guest must not execute anything. */
	bool runs = !m->paused.since_s && m->stop_code < 0;
	for (uint32_t i = 0; i < m->opt.cpus && runs; i++)
		m->vcpus[i].run->immediate_exit = 0;
	if (runs)
		gate_set(gate, GATE_RUN);
	pthread_mutex_unlock(&gate->lock);
	pthread_cond_broadcast(&gate->to_vcpus);
}

/* A guest without exits would run on without this signal, and nobody sends it again. So sending it is tried more than
 * once. */
static void kick(const struct vcpu *cpu)
{
	for (int tries = 0; tries < KICK_TRIES; tries++)
		if (!syscall(SYS_tgkill, getpid(), cpu->tid, KICK_SIGNAL))
			return;
}

/* Kicks all vCPUs out of the guest. Gate lock held. */
static void kick_all(struct machine *m)
{
	/* The order matters: this sets gate->want before immediate_exit; vcpu_run() clears immediate_exit before it
	 * reads gate->want. */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	for (uint32_t i = 0; i < m->opt.cpus; i++) {
		m->vcpus[i].run->immediate_exit = 1;
		kick(&m->vcpus[i]);
	}
	pthread_cond_broadcast(&m->gate.to_vcpus);
}

void vcpus_pause(struct machine *m)
{
	struct gate *gate = &m->gate;
	pthread_mutex_lock(&gate->lock);
	gate->round++;
	gate->hurry = true;
	gate_begin(gate, GATE_PAUSE);
	kick_all(m);
	pthread_mutex_unlock(&gate->lock);

	gate_look(gate, &gate->parked, 0, gate->cpus - 1);
	pthread_mutex_lock(&gate->lock);
	while (gate->parked < gate->cpus)
		pthread_cond_wait(&gate->to_leader, &gate->lock);
	pthread_mutex_unlock(&gate->lock);
}

void vcpu_nudge(struct vcpu *cpu)
{
	cpu->run->immediate_exit = 1; /* it may not be in KVM_RUN yet */
	kick(cpu);
}

void vcpus_filter(struct machine *m)
{
	for (uint32_t i = 0; i < m->opt.cpus; i++)
		vcpu_nudge(&m->vcpus[i]);
}

int vcpus_wait_saved(struct machine *m, struct error *err)
{
	return m->gate.want == GATE_PAUSE ? gate_wait_all(&m->gate, err) : 0;
}

void vcpus_tell(struct machine *m)
{
	char regs[512];
	for (uint32_t i = 0; i < m->opt.cpus; i++) {
		vcpu_arch_describe(&m->vcpus[i], regs, sizeof(regs));
		log_info("  vCPU %u: %s", i, regs);
	}
}

void vcpus_scrub(struct machine *m)
{
	for (uint32_t i = 0; i < m->opt.cpus; i++)
		vcpu_arch_scrub(&m->vcpus[i]);
}

void vcpus_recall(struct machine *m)
{
	for (uint32_t i = 0; i < m->opt.cpus; i++)
		vcpu_arch_recall(&m->vcpus[i]);
}

void vcpus_stop(struct machine *m)
{
	if (!m->vcpus)
		return;
	pthread_mutex_lock(&m->gate.lock);
	gate_set(&m->gate, GATE_STOP);
	for (uint32_t i = 0; i < m->opt.cpus; i++)
		if (m->vcpus[i].run)
			m->vcpus[i].run->immediate_exit = 1;
	for (uint32_t i = 0; i < m->opt.cpus; i++)
		if (m->vcpus[i].thread)
			kick(&m->vcpus[i]);
	pthread_cond_broadcast(&m->gate.to_vcpus);
	pthread_mutex_unlock(&m->gate.lock);
	for (uint32_t i = 0; i < m->opt.cpus; i++)
		if (m->vcpus[i].thread)
			pthread_join(m->vcpus[i].thread, NULL);
	for (uint32_t i = 0; i < m->opt.cpus; i++)
		m->vcpus[i].thread = 0;
}
