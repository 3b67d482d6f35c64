/* SPDX-License-Identifier: MIT */
/* The kernel, which delivers when it pleases; the operator; the guest; the faults; and the judge. */

inline deliver(w)
{
	atomic {
		kill_sent[w] && stopped[w] != STUCK ->
		kill_sent[w] = false;
		killed[w] = true;
		stopped[w] = RUNNING /* SIGKILL ends what SIGSTOP has stopped */
	}
}

inline strike(w)
{
	atomic {
		faults > 0 && !gone[w] && !killed[w] && stopped[w] == RUNNING && (w != S || s_started) ->
		faults--;
		if
		:: struck[w] = true; killed[w] = true
		:: struck[w] = true; stopped[w] = FOR_EVER
		:: stopped[w] = A_WHILE
		:: w == S && word == OPEN -> struck[w] = true; stopped[w] = STUCK
		fi
	}
}

/* SIGCONT */
inline goes_on(w)
{
	atomic { stopped[w] == A_WHILE -> stopped[w] = RUNNING }
}

#define guest_runs ((runs[I] && stopped[I] == RUNNING) || (runs[S] && stopped[S] == RUNNING))

proctype world()
{
	do
	:: deliver(P)
	:: deliver(I)
	:: deliver(S)
	:: strike(P)
	:: strike(I)
	:: strike(S)
	:: goes_on(P)
	:: goes_on(I)
	:: goes_on(S)
	:: atomic { faults > 0 && guest_runs && !guest_off -> faults--; guest_off = true }
	:: atomic { faults > 0 && runs[I] && stopped[I] == RUNNING && !fd_new -> faults--; fd_new = true }
	:: atomic { faults > 0 && !term_sent && !gone[P] -> faults--; term_sent = true; term = true }
	:: atomic { faults > 0 && !term_sent && gone[P] && alone -> faults--; term_sent = true; term_worker = true }
	:: atomic { faults > 0 -> faults = 0 }
	od
}

proctype operator()
{
	taken;
	if
	:: atomic { usr1 = true; asked_again = true }
	:: true
	fi
}

#define still(w) (!gone[w] && stopped[w] == RUNNING)
#define in_one (still(I) && runs[I] || still(S) && runs[S])
#define i_failed (struck[I] && (!state_whole || word == TAKEN_BACK || struck[S] || s_refused))
#ifdef PAGELESS /* what the parent cannot know: a successor that commits and is killed, or given up, before OWNER */
#define excused (given_up && struck[I])
#define has_it (word == COMMITTED && !(gone[S] && struck[S]) -> S : I)
#else
#define excused false
#define has_it (word == COMMITTED -> S : I)
#endif

/* When nobody can do anything any more. Deadlines are steps, so they have passed. */
proctype judge()
{
	timeout;
	/*
	 * The guest runs in one of them, unless it ended, or who had it was killed or stopped for good, or the
	 * parent was killed. An incumbent that was killed after STATE is no excuse.
	 */
	assert(in_one || guest_off || fenced || excused || (word == COMMITTED -> struck[S] : i_failed));

	/* No guest without fencing: who kills the known process id outside the exec window has ended it. */
	assert(!gone[P] || !outside || gone[I] && !runs[S]);
	/* Inside the window it runs on, and its worker knows that it is alone. */
	assert(!gone[P] || !still(S) || !runs[S] || alone);

	/* A parent that lives is at rest, and has a worker with the guest, which ends when it ends. */
	assert(!still(P) || phase == IDLE && in_one || stopped[has_it] != RUNNING);
	assert(!still(P) || !still(S) || !runs[S] || pdeath[S] && !alone);

	/* A second request was served; a SIGTERM was heard. */
	assert(!asked_again || served || !still(P) || stopped[has_it] != RUNNING);
	assert(!term_sent || !still(P) || !in_one);
	assert(!term_worker || !still(S));

	/* Nobody is left over: no successor without the guest, no incumbent that has lost it. */
	if
	:: word != COMMITTED && s_started ->
		assert(gone[S] || stopped[S] == STUCK || stopped[I] != RUNNING || stopped[P] != RUNNING ||
		       gone[P] && stopped[S] != RUNNING)
	:: word == COMMITTED ->
		assert(gone[I] || stopped[S] != RUNNING || stopped[I] != RUNNING && (stopped[P] != RUNNING || has_it == I))
	:: else
	fi
}
