/* SPDX-License-Identifier: MIT */
/*
 * Who owns the guest during an update: old program, new program, keeper and operator, with a crash, a
 * hang, a kill and a delayed message possible before every step. docs/protocol.md has the picture.
 *
 * Each step is named after the function that it stands for:
 *
 *   here                          there
 *   X, x_image == OLD             the process before exec
 *     lead, usr1                  vmm/main.c: lead, block_signals (the signal stays pending over exec)
 *     prepare .. become           cpr/update.c: prepare, pause_guest, save, become; handover.c: handover_arm
 *     resume_in_place, undo       cpr/update.c: resume_in_place, undo_prepare; keeper.c: keeper_cancel
 *   X, NEW                        the process after exec: vmm/main.c: run, cpr/update.c: update_resume
 *     rescue_arm .. finish        cpr/rescue.c, adopt.c: adopt_process, update.c: restore, commit, finish
 *     rescue_now                  cpr/rescue.c: rescue_now, a step that fails politely
 *   X, BACK                       the old program, execed by the new one (PROGRAM_BACK): the same code
 *   thread                        cpr/rescue.c: on_crash, go_back in a thread that is not the leader
 *   signalled                     the same in the leader
 *   K                             cpr/keeper.c: keep, take_or_leave, bring_back
 *   K, RESCUE                     the old program, execed by the keeper (PROGRAM_RESCUE)
 *   kernel                        delivers signals when it pleases, and deals out the faults
 *
 * Time is left out: wherever the code looks at a clock, both answers are tried, so that the result does
 * not hang on any deadline's length. keeper_refresh is left out: it ends one keeper and starts another
 * before anything is armed.
 *
 * MUTANT=n breaks one step; tests/model/check has the list, and wants every one of them found.
 */
#ifndef MUTANT
#define MUTANT 0
#endif
#ifndef FAULTS
#define FAULTS 2
#endif

mtype:word = { OPEN, COMMITTED, TAKEN };	/* enum handover_owner */
mtype:who = { NOBODY, OLD, NEW, BACK, RESCUE }; /* program images */
mtype:sig = { NONE, CRASH, KILL, NUDGE, HANG, STOP, EXEC };
mtype:disposition = { DEFAULT, HANDLER, HARMLESS }; /* of KEEPER_NUDGE */

/* The handover page, the eventfd "keeper-wake", the blob. */
mtype:word owner = OPEN;
bool armed, wake, blob_whole;

/* Process X: old program, then what is execed in it. */
mtype:who x_image = OLD;
mtype:sig x_sig = NONE, t_sig = NONE; /* delivered to the leader; to another thread */
mtype:disposition x_nudge = DEFAULT;
bool x_rescue; /* rescue.armed */
bool x_page;   /* rescue.page */
bool x_threads, x_stopped, x_gone;
byte x_exec;   /* counts images: another one has no threads of the one before it */
bool x_inside; /* at work on device or DMA addresses */
bool x_lost;   /* has seen that the word is the keeper's */

/* Process K: the keeper, then the old program. */
mtype:who k_image = NOBODY;
mtype:sig k_sig = NONE;
bool k_started, k_stopped, k_gone;

/* Sent, not yet delivered. */
bool kill_pending, nudge_pending, usr1;

/* The guest. */
mtype:who runs = OLD;
bool counts_taken; /* an irqfd has emptied an eventfd since the state was read */
bool went_on;	   /* the guest ran since the state was read: the blob is no longer its state */

/* What the judge looks at. */
byte faults = FAULTS;
bool taken, asked_again, taken_again;
bool answered;
bool x_struck;	    /* the last fault dealt to X is one it need not survive */
bool ordinary;	    /* a program that had the guest to itself crashed: no update's fault */
bool x_failed;	    /* X ended, or hangs, without having the guest */
bool keeper_struck; /* killed or stopped while it kept watch */
bool second_failed; /* the old program's second life failed */

inline fault() { atomic { faults > 0 -> faults-- } }

/* ---- what must hold at each step ---- */

inline touch_x()
{
	atomic {
		assert(!x_lost);		/* who lost the word never touches the guest again */
		assert(k_image != RESCUE);	/* nor two at once */
		x_inside = true
	};
	x_inside = false
}

inline x_runs(image)
{
	atomic {
		assert(owner == COMMITTED || k_gone);
		assert(k_image != RESCUE);
		assert(runs == NOBODY);
		runs = image;
		went_on = true
	}
}

/* From the blob, which must be the guest's state still. */
inline restores()
{
	assert(blob_whole && !went_on && !counts_taken)
}

inline answer() { assert(!answered); answered = true }

/* ---- steps shared by images ---- */

inline decide(won) /* handover_decide(COMMITTED) */
{
#if MUTANT == 1
	won = (owner == OPEN);
	if
	:: won -> owner = COMMITTED
	:: else -> x_lost = true
	fi
#else
	atomic {
		won = (owner == OPEN);
		if
		:: won -> owner = COMMITTED
		:: else -> x_lost = true
		fi
	}
#endif
}

inline exec(image)
{
	atomic {
		x_image = image;
		x_exec++;
		x_rescue = false;
		x_page = false;
		x_threads = false;
		t_sig = NONE;
		x_nudge = DEFAULT; /* handlers do not outlive exec; what is pending does */
		x_struck = false;
		x_failed = false;
#if MUTANT == 11
		usr1 = false; /* a request that the old program noted in its memory */
#endif
	}
}

/* X has ended, or will never do another step by itself. Whose fault is it? */
inline account()
{
	if
	:: x_struck && (owner == COMMITTED || (x_image == OLD && !armed)) -> ordinary = true
	:: else
	fi;
	x_failed = true
}

/* Not when another thread is on the way back already: its exec, or its death, ends this one. */
inline rescue_disarm()
{
	atomic {
#if MUTANT != 5
		x_image == BACK || x_rescue;
#endif
		x_rescue = false;
#if MUTANT == 4
		x_nudge = DEFAULT
#else
		x_nudge = HARMLESS
#endif
	}
}

inline attach() /* irq_attach_all, which injects what the eventfds have counted */
{
	touch_x();
	counts_taken = true
}

active proctype X()
{
	bool won;

image:	{
		if
		:: x_image == OLD ->
			goto lead
		:: x_image == NEW ->
			goto new
		:: x_image == BACK ->
			goto adopt
		fi;

		/* ---- the old program ---- */
lead:		atomic { usr1 -> usr1 = false; taken = true };
		if
		:: goto refused /* prepare_check: checks, preflight */
		:: true
		fi;
#if MUTANT != 4
		x_nudge = HARMLESS; /* rescue_disarm */
#endif
		k_started = true; /* keeper_start */
		if
		:: goto undo /* update_request.check */
		:: true
		fi;
#if MUTANT == 13
		armed = true;
#endif
		runs = NOBODY; /* pause_guest */
		if
		:: fault(); goto resume_in_place
		:: true
		fi;
		touch_x(); /* save: machine_detach */
		if
		:: fault(); goto resume_in_place
		:: true
		fi;
		blob_whole = true;
		armed = true; /* handover_arm */
		if
		:: fault(); goto resume_in_place /* execveat returns */
		:: exec(NEW); goto image
		fi;

resume_in_place:
#if MUTANT != 14
		decide(won);
		if
		:: won
		:: else ->
#if MUTANT == 15
			false
#else
			x_failed = true; /* too late; and so a stopped keeper is one failure too many */
			k_gone;		 /* waitpid: the keeper ends this image, or is gone itself */
			atomic { x_lost = false; x_failed = false }
#endif
		fi;
#endif
		attach();
		x_runs(OLD);
undo:
		/* keeper_cancel */
#if MUTANT == 8
		wake = true;
		k_gone;
#elif MUTANT == 7
		wake = true;
		k_gone || k_stopped;
#else
		k_sig = KILL; /* end */
		k_gone;
#endif
refused:	answer(); /* report_refused, or the check's answer */
		goto serve;

		/* ---- the new program, and the old one again under the same process id ---- */
new:		atomic { x_rescue = true; x_nudge = HANDLER }; /* rescue_arm */
adopt:		if
		:: fault(); goto gone /* adopt_process: blob or descriptors are bad */
		:: true
		fi;
		x_page = true; /* rescue_set_page */
		x_threads = true; /* restore: vcpus_start */
		restores();
		touch_x(); /* machine_adopt: new DMA addresses */
		if
		:: fault(); goto rescue_now
		:: true
		fi;
#if MUTANT == 3
		attach();
#endif
		/* commit */
#if MUTANT != 6
		rescue_disarm();
#endif
		decide(won);
		if
		:: won
		:: else -> goto rescue_now
		fi;
#if MUTANT == 6
		rescue_disarm();
#endif
		if
		:: fault() -> /* machine_start fails: an ordinary failure, and said to be one */
			x_struck = true;
#if MUTANT == 9
			goto finish
#else
			atomic { answer(); goto gone } /* main.c: lost */
#endif
		:: true
		fi;
		attach(); /* machine_start */
		x_runs(x_image);
finish:		wake = true; /* keeper_release */
		atomic { assert(runs == x_image); answer() }; /* report_done, report_brought_back */
		goto serve;

		/* the way back of a step that failed */
rescue_now:	if
		:: x_rescue ->
			x_rescue = false;
			if
			:: fault(); goto gone
			:: exec(BACK); goto image
			fi
		:: else -> goto gone
		fi;

serve:		do
		:: atomic { usr1 -> usr1 = false; taken_again = true }
		od
	} unless { x_sig != NONE };

signalled:
	if
	:: x_sig == KILL -> goto gone
	:: x_sig == EXEC -> atomic { x_sig = NONE; exec(BACK); goto image }
	:: atomic { x_sig == STOP || x_sig == HANG -> x_stopped = (x_sig == STOP); x_sig = NONE };
		account();
		x_sig != NONE -> goto signalled /* HANG: what is handled still arrives */
	:: atomic { x_sig == CRASH || x_sig == NUDGE -> x_sig = NONE }
	fi;

	{ /* on_crash, in the leader */
		if
		:: atomic { x_rescue -> x_rescue = false }
		:: atomic { !x_rescue -> goto gone }
		fi;
		if
		:: !x_page || owner == OPEN
		:: else -> goto gone
		fi;
		if
		:: fault(); goto gone
		:: exec(BACK); goto image
		fi
	} unless { x_sig == KILL };

gone:	atomic {
		account();
		if
		:: runs == OLD || runs == NEW || runs == BACK -> runs = NOBODY
		:: else
		fi;
		x_exec++;
		x_inside = false;
		t_sig = NONE;
		x_gone = true /* the pidfd is readable */
	}
}

inline leave_by(how)
{
	atomic {
		if
		:: mine == x_exec && x_sig == NONE && !x_stopped -> x_sig = how
		:: else
		fi
	}
}

/* on_crash in a vCPU's thread of the new program: it may take its time over each step. */
active proctype thread()
{
	byte mine;
	mtype:sig sig;

	do
	:: atomic { t_sig != NONE -> sig = t_sig; t_sig = NONE; mine = x_exec };
		if
#if MUTANT == 5
		:: atomic { x_rescue && (!x_page || owner == OPEN) && mine == x_exec -> skip };
			x_rescue = false;
			leave_by(EXEC)
#else
		:: atomic { x_rescue && mine == x_exec -> x_rescue = false };
			if
			:: !x_page || owner == OPEN -> leave_by(EXEC)
			:: else -> leave_by(KILL)
			fi
#endif
		:: else -> /* a crash kills; a nudge that comes late does nothing */
			if
			:: sig == CRASH -> leave_by(KILL)
			:: else
			fi
		fi
	od
}

active proctype K()
{
	bool ended, was_armed, nudged;
	byte early = 1; /* how often the deadline is found not to have come */

	{
		k_started;
wait:		atomic { /* wait_event. A wait that ends without armed and with the word open changes nothing */
			if
			:: x_gone
			:: wake
			:: armed || owner != OPEN
			fi;
			ended = x_gone
		};
		was_armed = armed;
		if
		:: owner != OPEN || (ended && !was_armed) -> goto leave
		:: else
		fi;
		if
		:: ended -> goto take
		:: !ended && !was_armed -> goto wait
		:: !ended && was_armed && early > 0 -> early--; goto wait
		:: !ended && was_armed && !nudged -> nudged = true; nudge_pending = true; goto wait
		:: !ended && was_armed && nudged
		fi;

take:		/* take_or_leave */
#if MUTANT == 16
		kill_pending = true;
#endif
#if MUTANT == 12
		if
		:: owner == OPEN
		:: else -> goto leave
		fi;
		owner = TAKEN;
#else
		atomic {
			if
			:: owner == OPEN -> owner = TAKEN
			:: else -> goto leave
			fi
		};
#endif
		kill_pending = true;
#if MUTANT != 2
		x_gone; /* the pidfd says so */
#endif
		if /* bring_back */
		:: fault();
			second_failed = true;
#if MUTANT != 10
			answer(); /* bring_back: the last words */
#endif
			goto leave
		:: true
		fi;
		k_image = RESCUE;
		assert(!x_inside && (runs == NOBODY));
		restores();
		if
		:: fault(); second_failed = true; answer(); goto leave /* main.c: lost */
		:: true
		fi;
		assert(owner == TAKEN); /* commit */
		counts_taken = true;
		atomic { assert(runs == NOBODY && !x_inside); runs = RESCUE };
		answer(); /* report_brought_back */
#if MUTANT != 17
		atomic { usr1 -> usr1 = false; taken_again = true }; /* pending_inherit */
#endif
		false
	} unless { k_sig != NONE };

	if
	:: atomic { k_sig == STOP -> k_sig = NONE; k_stopped = true }; k_sig == KILL
	:: k_sig == KILL
	fi;
	if
	:: k_image == RESCUE -> runs = NOBODY
	:: else
	fi;
leave:	k_gone = true
}

active proctype kernel()
{
	do
	:: atomic { kill_pending && x_sig == NONE -> kill_pending = false; x_sig = KILL }
	:: atomic { nudge_pending && x_sig == NONE && !x_stopped ->
		nudge_pending = false;
		if
		:: x_nudge == DEFAULT -> x_sig = KILL
		:: x_nudge == HANDLER -> x_sig = NUDGE
		:: x_nudge == HANDLER && x_threads && t_sig == NONE -> t_sig = NUDGE
		:: x_nudge == HARMLESS
		fi
	}
	:: atomic { faults > 0 && x_sig == NONE && !x_stopped && !x_gone ->
		faults--;
		x_struck = true;
		if
		:: x_sig = CRASH
		:: x_sig = KILL
		:: x_sig = HANG
		:: x_sig = STOP
		:: x_image == NEW && x_threads && t_sig == NONE -> t_sig = CRASH
		fi
	}
	:: atomic { faults > 0 && k_started && k_sig == NONE && !k_stopped && !k_gone ->
		faults--;
		if
		:: k_image == RESCUE -> second_failed = true
		:: else -> keeper_struck = true
		fi;
		if
		:: k_sig = KILL
		:: k_sig = STOP
		fi
	}
	:: atomic { faults > 0 -> faults = 0 }
	od
}

active proctype operator()
{
	usr1 = true;
	taken;
	if
	:: atomic { !x_gone -> usr1 = true; asked_again = true }
	:: true
	fi
}

/* When nobody can do anything any more. */
active proctype judge()
{
	timeout;
	/* Nobody runs the guest only after an ordinary crash, when the old program's second life failed,
	 * or when there was nobody left to give it one. */
	assert(runs != NOBODY || ordinary || second_failed || (keeper_struck && x_failed));
	/* The operator has read how it went, or sees that the process has ended. */
	assert(answered || ordinary || (second_failed && k_image == RESCUE) || (keeper_struck && x_failed));
	/* A second request is remembered by whoever runs the guest in the end, if nobody stops that. */
	assert(!asked_again || taken_again || (x_failed && (runs != RESCUE || k_stopped)));
	/* Nothing is left over, but for a keeper that was stopped, or whose process hangs. */
	assert(!k_started || k_gone || k_image == RESCUE || k_stopped || (x_failed && !x_gone))
}
