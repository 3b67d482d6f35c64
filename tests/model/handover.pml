/* SPDX-License-Identifier: MIT */
/*
 * Who owns the guest during an update: a parent, the worker that has the guest (the incumbent) and the
 * worker that is to have it (the successor), with a kill, a stop, a delay and a refusal possible before
 * every step of each. docs/protocol.md has the picture.
 *
 *   handover.pml   the words, and what must hold at every step
 *   worker.pml     incumbent and successor: Build, Pause, commit, After
 *   parent.pml     the parent: starts, forwards, reaps, execs itself
 *   world.pml      the kernel, the operator, the guest, the faults; and what must hold in the end
 *
 * Time is left out: wherever a program looks at a clock, both answers are tried, so that the result does
 * not hang on any deadline's length. One clock is less free: the parent's last one, which is there for a
 * successor that has stopped, and is taken to be long enough for one that has not.
 *
 * One update is walked through. A second request is only seen to arrive, once: the update that it begins has
 * another successor, another page and other sockets, so it is this one again. Left out are warming, PROGRESS
 * and --take.
 *
 * MUTANT=n breaks one step; tests/model/check has the list, and wants every one of them found.
 * PAGELESS gives the parent no sight of the word: it goes by OWNER alone.
 */
#ifndef MUTANT
#define MUTANT 0
#endif
#if MUTANT == 33
#define PAGELESS
#endif
#ifndef FAULTS
#define FAULTS 2
#endif

#define P 0 /* the parent */
#define I 1 /* the incumbent */
#define S 2 /* the successor */

/* ---- the shared page ---- */

mtype:word = { OPEN, COMMITTED, TAKEN_BACK };
mtype:word word = OPEN;

/* ---- the sockets: in order, and what was sent by one who has ended can still be read ---- */

mtype:msg = { UPDATE, TERM, START, STARTED, OVER, OWNER, OFF, ON, HELLO, ACK, OFFER, READY, NO, STATE, DONE };
chan p2i = [4] of { mtype:msg };
chan i2p = [4] of { mtype:msg };
chan p2s = [4] of { mtype:msg };
chan s2p = [4] of { mtype:msg };
chan i2s = [4] of { mtype:msg };
chan s2i = [4] of { mtype:msg };

#define ended(who, socket) (gone[who] && empty(socket)) /* end of file */

/* ---- the three processes ---- */

#define RUNNING 0
#define FOR_EVER 1 /* SIGSTOP, a hang, an endless loop */
#define A_WHILE 2  /* SIGSTOP, and SIGCONT later */
#define STUCK 3	   /* in a system call that SIGKILL does not end */

byte stopped[3];
bool kill_sent[3]; /* SIGKILL is on its way */
bool killed[3];	   /* no step after this one */
bool gone[3];	   /* its pidfd is readable, its sockets are at their end, its VM is no more */
bool pdeath[3];	   /* PDEATHSIG is SIGKILL */
bool s_started;

mtype:phase = { IDLE, UPDATING, FOLLOW, ENDING, OFF_SENT, EXECED, ON_SENT };
mtype:phase phase = IDLE; /* the parent's */

/* ---- the guest ---- */

bool runs[3];	  /* its vCPUs may enter */
bool attached[3]; /* irqfds: an eventfd in the VM of each is EBUSY, or an interrupt lost */
bool guest_off;	  /* it has powered off, or was told to by SIGTERM */
bool fd_new;	  /* a vector was closed and opened since OFFER: same name, another generation */
bool s_fd_new;	  /* which one the successor has */

/* ---- signals from outside ---- */

bool usr1 = true, term; /* pending in the parent */
bool term_worker;	/* sent to the worker, as the supervisor does that was told MAINPID= */
bool alone;		/* the worker goes on without the parent, and has told the supervisor */

/* ---- what the judge looks at ---- */

byte faults = FAULTS;
bool struck[3];	   /* killed, or stopped for good, from outside */
bool state_whole;  /* STATE was sent */
bool left_behind;  /* the guest ran in the incumbent after STATE: STATE is no longer its state */
bool lost[3];	   /* has lost the word */
bool s_refused;	   /* the successor said no, or its STATE did not load */
bool s_said_hello;
byte unread;	   /* messages with descriptors that were not acknowledged */
bool fenced;	   /* the parent was killed from outside, and the guest's worker with it */
bool outside;	   /* the parent ended outside its exec window */
bool given_up;	   /* the parent's last bound has passed */
bool rehearsed, taken, asked_again, served, term_sent;

inline fault() { atomic { faults > 0 -> faults-- } }

/* ---- the rules, asserted where the guest or what belongs to it is touched ---- */

/* Device and DMA addresses. */
inline touches(w)
{
	assert(!lost[w]);				  /* who lost the word never touches the guest again */
	assert(w == I || word == COMMITTED);		  /* nothing that is shared changes before commit */
	assert(w == S || word != COMMITTED);		  /* nor in two at once */
	assert(w == I || !left_behind)
}

inline attach(w)
{
	atomic {
		touches(w);
		assert(!attached[I] && !attached[S]);
		assert(w == I || s_fd_new == fd_new); /* the eventfd that the device signals */
		attached[w] = true
	}
}

inline resume(w)
{
	atomic {
		touches(w);
		assert(!runs[I] && !runs[S]);
		assert(attached[w] && !guest_off);
		runs[w] = true;
		if
		:: w == I && state_whole -> left_behind = true
		:: else
		fi
	}
}

/* An end, by itself or by SIGKILL. The VM goes with the process. */
inline leave(w)
{
	atomic {
		runs[w] = false;
		attached[w] = false;
		gone[w] = true
	}
}

inline kill(w) { kill_sent[w] = !gone[w] }

/* One compare-and-swap. */
inline swap(w, to, won)
{
	atomic {
		won = (word == OPEN);
		if
		:: won -> word = to
		:: else -> lost[w] = true
		fi
	}
}

#include "worker.pml"
#include "parent.pml"
#include "world.pml"

init
{
	atomic {
		pdeath[I] = true;
		attached[I] = true;
		runs[I] = true;
		run parent();
		run incumbent();
		run successor();
		run world();
		run operator();
		run judge()
	}
}
