/* SPDX-License-Identifier: MIT */
/* The incumbent, which has the guest, and the successor, which is to have it. */

/* What ends an update at any moment before STATE. The guest's end and SIGTERM end the guest. */
#define cancelled guest_off -> goto send_away
#define told_to_end p2i?TERM -> goto power_off
#if MUTANT == 19
#define too_late false /* no deadline for an answer */
#else
#define too_late true /* a deadline may pass at any moment */
#endif

proctype incumbent() provided (stopped[I] == RUNNING)
{
	bool won, updated;
	byte part;

	{
serve:		do
		:: guest_off -> goto send_away
		:: p2i?TERM -> goto power_off
		:: p2i?UPDATE ->
			if
			:: !updated -> updated = true; goto update
			:: else -> atomic { assert(!served); served = true; i2p!OVER }
			fi
		:: p2i?NO
		:: p2i?STARTED -> /* after the deadline: not waited for any more */
#if MUTANT == 25
			skip
#else
			kill(S)
#endif
		od;

		/* ---- Build: the guest runs, fully served ---- */
update:		i2p!START;
		if
		:: p2i?STARTED
		:: p2i?NO -> goto over
		:: too_late -> goto over
		:: cancelled
		:: told_to_end
		fi;
#if MUTANT != 8
		if
		:: s2i?HELLO
		:: s2i?HELLO -> goto refuse /* of another protocol, or state that it cannot take */
		:: ended(S, s2i) -> goto refuse
		:: too_late -> goto refuse
		:: cancelled
		:: told_to_end
		fi;
#endif
		/* OFFER, in messages of at most so many descriptors, each one acknowledged */
		do
		:: part < 2 ->
			atomic {
				assert(s_said_hello); /* a program that is not molt gets no descriptor */
				assert(unread == 0);
				unread++;
				i2s!OFFER
			};
			part++;
#if MUTANT == 24
			if
			:: part == 1 -> goto next
			:: else
			fi;
#endif
			if
			:: s2i?ACK
			:: ended(S, s2i) -> goto refuse
			:: too_late -> goto refuse
			:: cancelled
			:: told_to_end
			fi;
#if MUTANT == 24
next:			skip
#endif
		:: else -> break
		od;
		if
		:: s2i?READY
		:: s2i?READY -> goto refuse /* molt update --check goes no further */
		:: s2i?NO -> goto refuse
		:: ended(S, s2i) -> goto refuse
		:: too_late -> goto refuse
		:: cancelled
		:: told_to_end
		fi;

		/* ---- Pause ---- */
#if MUTANT != 5
		attached[I] = false; /* irqfds off */
#endif
		runs[I] = false; /* park */
#if MUTANT != 20
		if
		:: cancelled
		:: !guest_off
		fi;
#endif
		if
		:: fault(); goto take_back /* save fails */
		:: true
		fi;
		atomic { i2s!STATE; state_whole = true };
		if
		:: s2i?DONE -> goto out
		:: s2i?NO
		:: ended(S, s2i)
#if MUTANT != 18
		:: true /* the deadline from STATE to commit */
#endif
		fi;

		/* ---- the way back ---- */
take_back:
#if MUTANT == 17
		kill(S);
#endif
#if MUTANT == 2
		won = (word == OPEN);
		if
		:: won -> word = TAKEN_BACK
		:: else
		fi;
#elif MUTANT == 7
		won = true;
#else
		swap(I, TAKEN_BACK, won);
#endif
		if
		:: won
		:: else -> /* the successor has the guest: only wait until the addresses are moved */
			if
			:: s2i?DONE
			:: ended(S, s2i)
			fi;
			goto out
		fi;
		kill(S); /* without waiting for its end */
#if MUTANT == 3
		gone[S];
#endif
		attach(I);
		resume(I);
		goto over;

refuse:		kill(S);
over:		i2p!OVER; /* with the reason */
		goto serve;

power_off:	guest_off = true;
send_away:	kill(S);
out:		skip /* at low priority: another may be running the guest */
	} unless { killed[I] };
	leave(I)
}

proctype successor() provided (stopped[S] == RUNNING)
{
	bool won;
	byte part;
	bool waits; /* PDEATHSIG is off: the parent execs itself */

	s_started;
	{
		pdeath[S] = true;
#if MUTANT != 14
		if
		:: gone[P] -> goto out /* it ended before PDEATHSIG was on */
		:: !gone[P]
		fi;
#endif
		/* ---- Build ---- */
		if
		:: fault(); goto out /* the wrong file, not molt, no memory, a crash */
		:: atomic { s_said_hello = true; s2i!HELLO }
		fi;
		do
		:: part < 2 ->
			if
			:: i2s?OFFER -> atomic { unread--; part++; s2i!ACK }
			:: ended(I, i2s) -> goto out
			fi
		:: else -> break
		od;
		if
		:: fault(); goto refuse /* it cannot be built, or the rehearsal of the state fails */
		:: s2i!READY
		fi;
		if
		:: i2s?STATE
		:: ended(I, i2s) -> goto out /* no STATE: nothing to go on with */
		fi;

		/* ---- Pause ---- */
#if MUTANT != 23
		s_fd_new = fd_new; /* which (name, generation) came or went */
#endif
#if MUTANT == 16
		if
		:: gone[I] -> goto out
		:: !gone[I]
		fi;
#endif
		if
		:: fault(); goto refuse /* load */
		:: true
		fi;
#if MUTANT == 4
		attached[S] = true;
#endif
#if MUTANT == 26
		touches(S);
#endif
		/* ---- commit, also if the incumbent has died: STATE is whole ---- */
#if MUTANT == 1
		won = (word == OPEN);
		if
		:: won -> word = COMMITTED
		:: else
		fi;
#else
		swap(S, COMMITTED, won);
#endif
#if MUTANT != 27
		if
		:: won
		:: else -> goto out
		fi;
#endif
		touches(S); /* DMA addresses */
#if MUTANT != 4
		attach(S);
#endif
		resume(S);
#if MUTANT == 33
		s2i!DONE;
		s2p!OWNER;
#else
		s2p!OWNER; /* first: at DONE the incumbent ends, and the parent must not be left to guess */
		s2i!DONE;
#endif

		/* ---- After: an ordinary worker, which lets its parent exec itself ---- */
		do
		:: guest_off -> goto out
		:: p2s?TERM -> guest_off = true
		:: p2s?UPDATE -> atomic { assert(!served); served = true; s2p!OVER }
		:: p2s?OFF ->
			waits = true;
#if MUTANT != 10
			pdeath[S] = false;
#endif
			s2p!ACK
		:: p2s?ON -> /* exec was refused */
			waits = false;
			pdeath[S] = true;
			atomic { alone = false; s2p!ACK }
#if MUTANT == 29
		:: p2s?HELLO -> /* too late */
			if
			:: alone
			:: !alone -> waits = false; pdeath[S] = true; s2p!ACK
			fi
#else
		:: p2s?HELLO -> /* the parent's new image; also later than it was waited for */
			waits = false;
#if MUTANT != 9
			pdeath[S] = true;
#endif
			atomic { alone = false; s2p!ACK }
#endif
#if MUTANT == 13
		:: ended(P, p2s) && !alone && waits -> alone = true
#elif MUTANT == 30
		:: ended(P, p2s) -> goto out
#else
		:: ended(P, p2s) && !alone -> alone = true /* it ended before PDEATHSIG was on again */
#endif
		:: waits && !alone -> alone = true /* it is silent: the deadline for its HELLO */
#if MUTANT != 31
		:: alone && term_worker -> guest_off = true; term_worker = false
#endif
		od;

refuse:		atomic { s_refused = true; s2i!NO };
out:		skip
	} unless { killed[S] };
	leave(S)
}
