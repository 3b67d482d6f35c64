/* SPDX-License-Identifier: MIT */
/* The parent: the process id that is known. It has no guest; it must know who has. */

/* Signals are blocked and read when there is time for them: what is pending stays so over exec. */
inline tell(what)
{
	if
	:: owner == I -> p2i!what
	:: owner == S -> p2s!what
	fi
}

/* The successor has the guest. A SIGTERM that the incumbent got in the pause may have been for nobody. */
inline follow()
{
	atomic {
		if
		:: owner == I ->
			owner = S;
			if
#if MUTANT != 21
			:: term_seen -> p2s!TERM
#endif
			:: else
			fi
		:: owner == S
		fi
	}
}

/* OWNER may not have been said by one who was killed: the word says it. */
inline look()
{
#if defined(PAGELESS) || MUTANT == 28
	skip
#else
	if
	:: word == COMMITTED -> follow()
	:: word != COMMITTED
	fi
#endif
}

/* Ends with the status of a worker, which must be the last that had the guest. */
inline exit_as(w)
{
	atomic {
#ifdef PAGELESS
		assert(w == (word == COMMITTED -> S : I) || struck[S] || given_up);
#else
		assert(w == (word == COMMITTED -> S : I)); /* status */
#endif
		goto out
	}
}

proctype parent() provided (stopped[P] == RUNNING)
{
	byte owner = I;
	bool i_reaped, s_reaped, term_seen, won, noted;

	{
		do
		/* ---- signals ---- */
#if MUTANT == 22
		:: atomic { usr1 -> usr1 = false; noted = true }
		:: atomic { noted && phase == IDLE -> noted = false; taken = true; phase = UPDATING; tell(UPDATE) }
#else
		:: atomic { usr1 && phase == IDLE -> usr1 = false; taken = true; phase = UPDATING; tell(UPDATE) }
#endif
		:: atomic { term -> term = false; term_seen = true; tell(TERM) }

		/* ---- the update ---- */
		:: i2p?START ->
			if
			:: fault(); p2i!NO /* no process is to be had */
			:: s_started = true; p2i!STARTED
			fi
		:: i2p?OVER -> phase = IDLE
		:: s2p?OVER -> phase = IDLE
		:: s2p?OWNER -> follow(); phase = ENDING

		/* ---- After: exec itself, when the incumbent has ended ---- */
		:: phase == ENDING && !gone[I] && !kill_sent[I] && !killed[I] -> kill(I) /* it takes too long */
		:: phase == ENDING && i_reaped ->
#if MUTANT == 11
			atomic { p2s!OFF; phase = OFF_SENT }
#else
			if
			:: fault(); phase = IDLE /* the rehearsal of the new image fails: stay what we are */
#if MUTANT == 32
			:: skip
#endif
			:: atomic { rehearsed = true; p2s!OFF; phase = OFF_SENT }
			fi
#endif
		:: phase == OFF_SENT && s2p?[ACK] ->
			s2p?ACK;
			if
			:: fault(); /* exec is refused */
#if MUTANT == 12
				phase = IDLE
#else
				atomic { p2s!ON; phase = ON_SENT }
#endif
			:: atomic { phase = EXECED; rehearsed = true; term_seen = false; noted = false }
			fi
		:: atomic { phase == EXECED -> p2s!HELLO; phase = ON_SENT }
		:: phase == ON_SENT && s2p?[ACK] -> s2p?ACK; phase = IDLE

		/* ---- ends of workers ---- */
		:: ended(I, i2p) && !i_reaped ->
			i_reaped = true;
			look();
#if MUTANT == 15
			if
			:: owner == I -> exit_as(I)
			:: else
			fi;
#endif
			if
			:: owner == S
			:: owner == I && (!s_started || s_reaped) -> exit_as(I)
			:: owner == I && s_started && !s_reaped -> phase = FOLLOW
			fi
		:: ended(S, s2p) && s_started && !s_reaped ->
			s_reaped = true;
			look();
			if
#if MUTANT == 6
			:: true -> exit_as(S)
#endif
			:: owner == S -> exit_as(S)
			:: owner == I && i_reaped -> exit_as(I)
			:: owner == I && !i_reaped
			fi
		/*
		 * The incumbent has ended, the successor neither commits nor ends. This clock is for a successor
		 * that has stopped: one that has not has long committed.
		 */
		:: phase == FOLLOW && owner == I && stopped[S] != RUNNING && empty(s2p) ->
			given_up = true;
#if !defined(PAGELESS) && MUTANT != 34
			swap(P, TAKEN_BACK, won);
			if
#if MUTANT == 35
			:: won
			:: else -> follow(); phase = UPDATING; goto next
#else
			:: word == TAKEN_BACK /* by this swap, or long ago by the incumbent */
			:: word == COMMITTED -> follow(); phase = UPDATING; goto next
#endif
			fi;
#endif
			kill(S);
			exit_as(I);
next:			skip
		od;
out:		skip
	} unless { killed[P] };

	/* The kernel, for each worker whose PDEATHSIG is on. */
	atomic {
		assert(!(phase == EXECED && pdeath[S] && !gone[S])); /* the window is open for the new image */
		outside = !(rehearsed && (phase == OFF_SENT || phase == EXECED || phase == ON_SENT));
		fenced = killed[P] && pdeath[(word == COMMITTED -> S : I)];
		gone[P] = true;
		if
		:: pdeath[I] -> kill(I)
		:: else
		fi;
		if
		:: pdeath[S] -> kill(S)
		:: else
		fi
	}
}
