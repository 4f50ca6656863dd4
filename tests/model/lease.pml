/* Claiming and losing a slot: one lease block, two or three hosts that want it or have it, and a third party that watches.
 *
 * Which names of this model are which functions of the code (stp/):
 *
 *   scan, choose        SlotClaim::choose, SlotChooser::choose_named/choose_free/choose_previous
 *   new_identity        SlotClaim::begin_life
 *   claimed             SlotClaim::on_write, phase kClaiming (with the claim limit X)
 *   read back           SlotClaim::read_back after tick() ended the wait
 *   owned               SlotClaim::on_write, phase kOwning; Membership::become_member
 *   look                LeaseKeeper::on_read/on_sweep with OwnLease::judge
 *   beat                LeaseKeeper::beat, on_write
 *   fence, new life     Membership::check_fence, advance_member (a refusal), advance_fenced
 *   Evict               Eviction::run, write_free
 *   Watcher             PeerWatch::accept, judge; what it takes: Conduit::on_gate, RingReceiver::take (exact identity)
 *
 * The disk. A write in flight lands once, at any time until it is reaped (`done`), or fails and may still land later. A copy of
 * a write that has landed may land again, at any later time: `late` holds such copies, and those of dead hosts' writes. A read is one step.
 *
 * Time. With BOUNDS the timing profile's assumptions hold: a guard stands where the code waits, and is true only in states
 * that can be reached once that wait is over (see join_wait_over, dead_wait_over, silent). Without BOUNDS every wait may be over at
 * once: clocks stand still, writes land hours later; then what must hold is what the third party believes, and how it all ends.
 *
 * Asserted:
 *   with BOUNDS     never two hosts with a good lease                                     (I1: one writer)
 *   always          the third party never takes anything of a life after it took something of a newer one, never of one
 *                   that it called dead, never of two under one identity                  (I6, I7)
 *   always          once everybody has looked again at most one goes on, and the block is its own; nobody hangs
 */
#define FREE 1
#define CLAIM 2
#define OWNED 3

/* Phases of a host. */
#define OUT 0         /* not there (yet), or gave up */
#define SCAN 1
#define CHOSEN 2      /* found the slot claimable; the claim is about to be submitted */
#define CLAIMING 3    /* claim in flight */
#define WAITING 4
#define READ_OK 5     /* read back; OWNED about to be submitted */
#define OWNING 6      /* first beat in flight */
#define MEMBER 7
#define LOOKED 8      /* looked at the own block; the beat is about to be submitted */
#define BEATING 9
#define FENCED 10
#define TAKING 11     /* takes the slot at once; OWNED about to be submitted */
#define STOPPED 12    /* for good */
#define DEAD 13

/* Hosts 0 and up. The watcher has no number. Scenarios: */
#ifdef RIVALS         /* all want one FREE slot */
#ifndef HOSTS
#define HOSTS 2
#endif
#endif
#ifdef TAKEOVER       /* 0 lives there; 1 is the same name on another machine */
#define HOSTS 2
#endif
#ifdef RESTART        /* 0 lives there; 1 is its next process on the same kernel, which takes it by the lock */
#define HOSTS 2
#endif
#ifdef EVICT          /* 0 lives there; an administrator evicts it; 1, of another name, wants a FREE slot */
#define HOSTS 2
#endif
#ifdef CLONE          /* 0 lives there, 1 is an exact copy of it */
#define HOSTS 2
#endif

#ifndef LATE
#define LATE 1        /* copies that may be on their way at a time */
#endif
#ifndef COPIES
#define COPIES 1      /* of them in all */
#endif
#ifndef TRIES
#define TRIES 2       /* lives a host may begin */
#endif
#ifndef BEATS
#define BEATS 1       /* beats a host, all its lives together */
#endif
#ifndef CRASHES
#define CRASHES 1
#endif
#ifndef FAILURES
#define FAILURES 1    /* writes that end with an error */
#endif
#ifndef VERDICTS
#define VERDICTS 1    /* living ones that the third party calls dead */
#endif

typedef Lease {
  byte state;
  byte inc;
  byte nonce;
  byte beat;
  byte rnd;           /* fresh randomness: who drew it */
  byte name;          /* 0: kept for nobody */
};

Lease block;          /* as on the disk */
Lease wr[HOSTS];      /* a write in flight */
bool busy[HOSTS];
Lease late[LATE];
bool is_late[LATE];
byte copies = COPIES;

byte phase[HOSTS];
byte inc[HOSTS];
byte nonce[HOSTS];
#ifdef WATCH
byte life[HOSTS];     /* which life it is, for the assertions alone */
#endif
byte beat[HOSTS];
byte fork_beat[HOSTS];/* beats up to it are also those of whom I am a copy */
byte highest[HOSTS];  /* incarnation seen in this slot */
byte name[HOSTS];
byte tries[HOSTS];
byte beats[HOSTS];
bool good[HOSTS];     /* in its own eyes its lease is good */
bool had_life[HOSTS]; /* and may come back into its slot at once */
bool dead_wait[HOSTS];/* this claim waits T_dead, not T_join */
bool too_late[HOSTS]; /* this claim takes longer than X */

/* Kept only to say when a wait can be over. Bits by host. */
byte scanned_before[HOSTS];  /* [q]: q scanned before these hosts' claims landed */
byte old_beat[HOSTS];        /* [q]: the last beat of q that completed was submitted before these hosts' claims landed */
byte submitted_before[HOSTS];/* the same of the beat in flight, or about to be submitted (G) */

#define MOST_LIVES (HOSTS * (TRIES + 1))
byte lives[HOSTS];           /* begun */
#ifdef WATCH
byte life_inc[MOST_LIVES];
byte life_nonce[MOST_LIVES];
bool talks[MOST_LIVES];      /* it was a member: gates and packets of it may turn up at any time */
bool condemned[MOST_LIVES];
#endif
hidden byte q;

byte crashes = CRASHES;
byte failures = FAILURES;
byte evicting = 0;           /* 0, 1: watched, 2: FREE in flight, 3: done */
bool over = false;

/* The watcher's record of the slot. */
#ifndef WATCH
#define seen_inc 0
#define refused(me) false
#else
byte seen_inc = 0;
byte seen_nonce = 0;
bool seen_dead = false;
byte verdicts = VERDICTS;
#define NOBODY 255
byte taken_life = NOBODY;    /* of whom it took something last */
#define taken_inc life_inc[taken_life]
#define refused(me) (seen_dead && seen_inc == inc[me] && seen_nonce == nonce[me])
#endif

#define BIT(p) (1 << (p))
#define working(q) (phase[q] != OUT && phase[q] != STOPPED && phase[q] != DEAD && phase[q] != SCAN)
#if LATE > 1
#define none_late (!is_late[0] && !is_late[1])
#else
#define none_late (!is_late[0])
#endif

/* What holds for each other host; hosts that do not exist do no harm. */
#if HOSTS > 2
#define others(me, what) (what(me, ((me) + 1) % 3) && what(me, ((me) + 2) % 3))
#define two_good ((good[0] && good[1]) || (good[0] && good[2]) || (good[1] && good[2]))
#define members ((phase[0] == MEMBER) + (phase[1] == MEMBER) + (phase[2] == MEMBER))
#else
#define others(me, what) (what(me, 1 - (me)))
#define two_good (good[0] && good[1])
#define members ((phase[0] == MEMBER) + (phase[1] == MEMBER))
#endif

#ifdef BOUNDS
/* T_join >= X + Q: what was submitted within X of a look that did not show my claim has landed, copies included. Who was slower than
 * that knows it (end_wait marks it). A first beat of who takes a slot at once was on its way for less. */
#define not_taking(me, q) (phase[q] != TAKING && !(phase[q] == OWNING && had_life[q]))
#define join_wait_over(me) (none_late && others(me, not_taking))
/* T_dead >= T_fence + G + Q: leases that were last renewed before my claim landed have run out, and what was submitted under them has landed. */
#define over_and_done(q) (busy[q] && (phase[q] == FENCED || phase[q] == STOPPED || phase[q] == DEAD))
#define renewed(me, q) ((!good[q] || (old_beat[q] & BIT(me)) == 0) && !over_and_done(q))
#define dead_wait_over(me) (join_wait_over(me) && others(me, renewed))
/* A lease that was silent for T_dead is nobody's who has a good one, and what its host wrote has landed. */
#define silent_one(me, q) (!good[q] && !busy[q] && phase[q] != CHOSEN && phase[q] != WAITING && phase[q] != READ_OK && phase[q] != TAKING)
#define silent(me) (none_late && others(me, silent_one))
#else
#define join_wait_over(me) true
#define dead_wait_over(me) true
#define silent(me) true
#endif

/* Macros, because an inline may not name a part of a structure that it is handed. */
#define put(to, s, i, n, b, r, m) to.state = s; to.inc = i; to.nonce = n; to.beat = b; to.rnd = r; to.name = m
#define copy(to, from) put(to, from.state, from.inc, from.nonce, from.beat, from.rnd, from.name)

/* A copy of this write may stay on its way. */
#if LATE > 1
#define maybe_late(from) if \
  :: copies > 0 && !is_late[0] -> d_step { copies--; is_late[0] = true; copy(late[0], from) } \
  :: copies > 0 && is_late[0] && !is_late[1] -> d_step { copies--; is_late[1] = true; copy(late[1], from) } \
  :: true \
  fi
#else
#define maybe_late(from) if \
  :: copies > 0 && !is_late[0] -> d_step { copies--; is_late[0] = true; copy(late[0], from) } \
  :: true \
  fi
#endif

/* What does not matter any more is set to 0: fewer states. */
inline forget_late(k) { d_step { is_late[k] = false; put(late[k], 0, 0, 0, 0, 0, 0) } }
inline forget_write(me) { d_step { busy[me] = false; submitted_before[me] = 0; put(wr[me], 0, 0, 0, 0, 0, 0) } }
inline forget_life(me) {
  d_step {
#ifdef WATCH
    life[me] = 0;
#endif
    inc[me] = 0; nonce[me] = 0; beat[me] = 0; fork_beat[me] = 0; good[me] = false; had_life[me] = false; dead_wait[me] = false;
    too_late[me] = false; scanned_before[me] = 0; old_beat[me] = 0;
    for (q : 0 .. HOSTS - 1) {
      scanned_before[q] = scanned_before[q] & ~BIT(me); old_beat[q] = old_beat[q] & ~BIT(me); submitted_before[q] = submitted_before[q] & ~BIT(me)
    }
    q = 0
  }
}
inline go(me, where) {
  forget_life(me);
  if
  :: where == SCAN -> phase[me] = SCAN
  :: else -> phase[me] = where; highest[me] = 0; tries[me] = 0; beats[me] = 0
  fi
}

#define new_life(me) (HOSTS * lives[me] + me)

/* Higher than whatever was seen there; two rivals may draw the same. What others have seen counts, when it was read. */
inline new_identity(me) {
  if
  :: block.inc > highest[me] -> highest[me] = block.inc
  :: else
  fi;
  if
  :: seen_inc > highest[me] -> highest[me] = seen_inc
  :: true
  fi;
  if
  :: had_life[me] && inc[me] > highest[me] -> highest[me] = inc[me]
  :: else
  fi;
  d_step { lives[me]++; old_beat[me] = 0; scanned_before[me] = 0; too_late[me] = false; fork_beat[me] = 0 };
#ifdef REUSE_INCARNATION
  if
  :: block.inc > 0 -> inc[me] = block.inc; nonce[me] = block.nonce; beat[me] = block.beat
  :: else -> inc[me] = highest[me] + 1; nonce[me] = new_life(me); beat[me] = 0
  fi;
#else
  if
  :: inc[me] = highest[me] + 1
  :: inc[me] = highest[me] + 2
  fi;
  nonce[me] = new_life(me);
  beat[me] = 0;
#endif
#ifdef WATCH
  life[me] = new_life(me);
#endif
}

inline submit(me, s) {
  d_step {
    beat[me]++;
    put(wr[me], s, inc[me], nonce[me], beat[me], me + 1, name[me]);
    busy[me] = true
  }
}

inline retire(me) {
  if
  :: tries[me] > 0 -> go(me, SCAN)
  :: else -> go(me, OUT)
  fi
}

/* The claim of `me` has landed, or a copy of it. */
inline note_landed(me) {
  d_step {
    for (q : 0 .. HOSTS - 1) {
      scanned_before[q] = scanned_before[q] | (q != me && (phase[q] == CHOSEN || phase[q] == CLAIMING) -> BIT(me) : 0);
      old_beat[q] = old_beat[q] | (q != me && good[q] -> BIT(me) : 0);
      submitted_before[q] = submitted_before[q] | (q != me && (busy[q] || phase[q] == LOOKED || phase[q] == TAKING || phase[q] == READ_OK) -> BIT(me) : 0)
    }
    q = 0
  }
}

/* The wait of `me` is over: whoever scanned before its claim landed, and is not done with its own, is later than X, and will know it. */
inline end_wait(me) {
  d_step {
    q = 0;
#ifdef BOUNDS
    for (q : 0 .. HOSTS - 1) {
      too_late[q] = too_late[q] || (q != me && (scanned_before[q] & BIT(me)) != 0 && (phase[q] == CHOSEN || phase[q] == CLAIMING));
      old_beat[q] = old_beat[q] & ~BIT(me);
      submitted_before[q] = submitted_before[q] & ~BIT(me)
    }
    q = 0
#endif
  }
}

#define is_mine(me) (block.inc == inc[me] && block.nonce == nonce[me])
#ifdef IGNORE_RANDOMNESS
#define copied(me) false
#else
#define copied(me) (is_mine(me) && (block.beat > beat[me] || (block.beat > fork_beat[me] && block.rnd != me + 1)))
#endif
#define outlived(me) (!is_mine(me) && (block.inc == inc[me] || (block.inc > inc[me] && !(block.state == CLAIM && good[me]))))
#ifdef NO_LOOK
#define must_stop(me) false
#else
#define must_stop(me) (copied(me) || outlived(me))
#endif

#ifdef BELIEVE_ANY_CLAIM
#define claim_there(me) (block.state == CLAIM)
#else
#ifdef SKIP_CLAIM_NONCE
#define claim_there(me) (block.state == CLAIM && block.inc == inc[me])
#else
#define claim_there(me) (block.state == CLAIM && is_mine(me) && block.beat == beat[me] && block.rnd == me + 1)
#endif
#endif

/* Whom a scan lets claim this slot: FREE and kept for nobody, or FREE and kept for my name, or my name and silent. */
#ifdef CLAIM_WITHOUT_SILENCE
#define claimable(me) (block.name == 0 || block.name == name[me])
#else
#define claimable(me) ((block.state == FREE && (block.name == 0 || block.name == name[me])) || (block.state != FREE && block.name == name[me] && silent(me)))
#endif

/* The lock of this kernel: held until the process has died and its writes have landed. Copies may still land later. */
#ifdef RESTART
#ifdef TAKE_WITHOUT_LOCK
#define lock_free(me) (me == 1)
#else
#define lock_free(me) (me == 1 && phase[0] == DEAD && !busy[0])
#endif
#else
#define lock_free(me) false
#endif


/* Who was fenced takes the slot back at once if its own lease still lies there; whoever else's it is may live. */
#ifdef TAKE_BACK_BLINDLY
#define back_at_once(me) true
#else
#define back_at_once(me) is_mine(me)
#endif

proctype Host(byte me) {
end:
  do
  /* -- Joining */
  :: atomic { !over && phase[me] == SCAN && tries[me] > 0 && !lock_free(me) && claimable(me) ->
       dead_wait[me] = !(block.state == FREE && block.name == 0);
       tries[me]--;
       new_identity(me);
       had_life[me] = false;
       phase[me] = CHOSEN }
  :: atomic { !over && phase[me] == SCAN && tries[me] > 0 && lock_free(me) && block.name == name[me] ->
       tries[me]--;
       new_identity(me);
       had_life[me] = true;
       phase[me] = TAKING }
  :: atomic { !over && phase[me] == CHOSEN -> submit(me, CLAIM); phase[me] = CLAIMING }
  :: atomic { !over && phase[me] == WAITING && (dead_wait[me] -> dead_wait_over(me) : join_wait_over(me)) ->
       end_wait(me);
       if
       :: claim_there(me) -> phase[me] = READ_OK
       :: else -> retire(me)
       fi }
  :: atomic { !over && (phase[me] == READ_OK || phase[me] == TAKING) -> submit(me, OWNED); phase[me] = OWNING }

  /* -- Living: look, then beat. The lease may run out at any time, also with a beat in flight. */
  :: atomic { !over && phase[me] == MEMBER && (beats[me] > 0 || old_beat[me] != 0) ->
       if
       :: must_stop(me) -> go(me, STOPPED)
       :: else -> phase[me] = LOOKED
       fi }
  :: atomic { !over && phase[me] == LOOKED ->
       beats[me] = (beats[me] > 0 -> beats[me] - 1 : 0);
       submit(me, OWNED);
       phase[me] = BEATING }
  :: atomic { !over && good[me] && (phase[me] == MEMBER || phase[me] == LOOKED || phase[me] == BEATING) ->
       good[me] = false; phase[me] = FENCED }
  :: atomic { !over && refused(me) && (phase[me] == MEMBER || phase[me] == LOOKED || phase[me] == BEATING) ->
       good[me] = false; phase[me] = FENCED }
  /* What was in flight is reaped; then the own slot again at once, unless somebody else lives there. */
  :: atomic { !over && phase[me] == FENCED && !busy[me] && tries[me] > 0 ->
       if
       :: must_stop(me) && is_mine(me) -> go(me, STOPPED)
       :: must_stop(me) && !is_mine(me) && block.inc == inc[me] -> go(me, STOPPED)
       :: must_stop(me) && block.inc != inc[me] -> highest[me] = block.inc; retire(me)
       :: !must_stop(me) && !back_at_once(me) -> retire(me)
       :: !must_stop(me) && back_at_once(me) -> tries[me]--; had_life[me] = true; new_identity(me); phase[me] = TAKING
       fi }
  :: atomic { !over && phase[me] == FENCED && !busy[me] && tries[me] == 0 -> go(me, OUT) }

  /* -- The write in flight completes, or fails. */
  :: atomic { busy[me] ->
       d_step { copy(block, wr[me]) };
       maybe_late(wr[me]);
       if
       :: phase[me] == CLAIMING ->
            note_landed(me);
#ifdef NO_CLAIM_LIMIT
            phase[me] = WAITING;
#else
            if
            :: too_late[me] -> retire(me)
            :: else -> phase[me] = WAITING
            fi;
#endif
#ifdef SKIP_READ_BACK
            phase[me] = READ_OK;
#endif
#ifdef SKIP_WAIT
            if
            :: claim_there(me) -> phase[me] = READ_OK
            :: else -> retire(me)
            fi;
#endif
       :: phase[me] == OWNING || phase[me] == BEATING ->
            phase[me] = MEMBER;
            good[me] = true;
            had_life[me] = true;
            old_beat[me] = submitted_before[me];
#ifdef BOUNDS
            assert(!two_good);
#endif
#ifdef WATCH
            d_step { talks[life[me]] = true; life_inc[life[me]] = inc[me]; life_nonce[life[me]] = nonce[me] }
#endif
       :: else                 /* fenced or dead meanwhile */
       fi;
       forget_write(me) }
  :: atomic { busy[me] && failures > 0 && phase[me] != DEAD ->
       failures--;
       maybe_late(wr[me]);
       if
       :: phase[me] == CLAIMING || phase[me] == OWNING -> retire(me)
       :: phase[me] == BEATING -> phase[me] = MEMBER
       :: else
       fi;
       forget_write(me) }
  :: atomic { busy[me] && phase[me] == DEAD -> maybe_late(wr[me]); forget_write(me) }   /* lost, or late */

  /* -- The machine dies, at any time. */
  :: atomic { !over && crashes > 0 && working(me) -> crashes--; go(me, DEAD) }
  od
}

/* A copy of a claim that is being waited out: what was written before it has Q less to live. */
inline note_landing_again(k) {
  byte p;
  if
  :: late[k].state == CLAIM && phase[late[k].rnd - 1] == WAITING -> p = late[k].rnd - 1; note_landed(p); p = 0
  :: else
  fi
}

/* Copies land when they like, or never. */
proctype Disk() {
end:
  do
  :: atomic { is_late[0] -> d_step { copy(block, late[0]) }; note_landing_again(0); forget_late(0) }
  :: atomic { is_late[0] -> forget_late(0) }
#if LATE > 1
  :: atomic { is_late[1] -> d_step { copy(block, late[1]) }; note_landing_again(1); forget_late(1) }
  :: atomic { is_late[1] -> forget_late(1) }
#endif
  od
}

#ifdef EVICT
/* Watches the lease for T_dead, writes FREE with a higher incarnation, and looks whether it is there. With BOUNDS it is told the truth:
 * whom it evicts does not come back while it writes. */
#ifdef EVICT_BLINDLY
#define may_evict true
#else
#ifdef BOUNDS
#define may_evict (none_late && !busy[0] && !busy[1] && (phase[0] == DEAD || phase[0] == STOPPED || phase[0] == OUT) && !working(1))
#else
#define may_evict true
#endif
#endif
proctype Evict() {
  byte i;
end:
  do
  :: atomic { !over && evicting == 0 && block.state == OWNED && may_evict -> i = block.inc + 2; evicting = 1 }
  :: atomic { evicting == 1 -> put(block, FREE, i, 0, 0, 0, 0); maybe_late(block); evicting = 3 }
  od
}
#endif

#ifdef WATCH
#ifdef SKIP_NONCE
#define from_seen(l) (life_inc[l] == seen_inc)
#else
#ifdef ACCEPT_ANY_INCARNATION
#define from_seen(l) true
#else
#define from_seen(l) (life_inc[l] == seen_inc && life_nonce[l] == seen_nonce)
#endif
#endif

#define take(l) :: atomic { !over && talks[l] && (l != taken_life || condemned[l]) && from_seen(l) && !seen_dead -> \
       assert(!condemned[l]); \
       assert(taken_life == NOBODY || l == taken_life || life_inc[l] > taken_inc); \
       taken_life = l }

/* Somebody else of the group: believes a lease, takes messages of exactly that life, and may call it dead, for good. */
proctype Watcher() {
end:
  do
  :: atomic { !over && block.state != CLAIM && block.inc > seen_inc ->
       seen_inc = block.inc; seen_nonce = block.nonce; seen_dead = false }
#ifdef TAKE_OLDER_LEASES
  :: atomic { !over && block.state == OWNED && block.inc < seen_inc -> seen_inc = block.inc; seen_nonce = block.nonce; seen_dead = false }
#endif
#ifdef VERDICT_NOT_FINAL
  :: atomic { !over && seen_dead && block.state == OWNED && block.inc == seen_inc -> seen_dead = false }
#endif
  :: atomic { !over && verdicts > 0 && taken_life != NOBODY && !seen_dead && taken_inc == seen_inc ->
       verdicts--; seen_dead = true; condemned[taken_life] = true }
  take(0)
  take(1)
  take(2)
  take(3)
#if MOST_LIVES > 4
  take(4)
  take(5)
#endif
#if MOST_LIVES > 6
  take(6)
  take(7)
  take(8)
#endif
  od
}
#endif

#define rests(q) (!busy[q] && (phase[q] == OUT || phase[q] == STOPPED || phase[q] == DEAD || phase[q] == SCAN || (phase[q] == MEMBER && beats[q] == 0)))

inline settle(h) {
  if
  :: phase[h] == MEMBER && must_stop(h) -> go(h, STOPPED)
  :: phase[h] == MEMBER && !must_stop(h) -> d_step { beat[h]++; put(block, OWNED, inc[h], nonce[h], beat[h], h + 1, name[h]) }
  :: else
  fi
}

/* Everybody is at rest and nothing is on its way: each who still lives looks and beats twice more, in any order. */
proctype Judge() {
  atomic {
#if HOSTS > 2
    rests(0) && rests(1) && rests(2) && none_late && evicting != 1 -> over = true;
#else
    rests(0) && rests(1) && none_late && evicting != 1 -> over = true;
#endif
    if
    :: true -> settle(0); settle(1); settle(0); settle(1)
    :: true -> settle(1); settle(0); settle(1); settle(0)
    fi;
#if HOSTS > 2
    settle(2); settle(0); settle(1); settle(2); settle(0); settle(1);
#endif
    assert(members <= 1);
    assert(phase[0] != MEMBER || is_mine(0));
    assert(phase[1] != MEMBER || is_mine(1))
  }
}

/* Life 0. */
inline lives_there(p) {
  phase[p] = MEMBER; inc[p] = 1; nonce[p] = 1; beat[p] = 1; fork_beat[p] = 1; highest[p] = 1; good[p] = true;
  had_life[p] = true; name[p] = 1
}

init {
  byte p;
  atomic {
    for (p : 0 .. HOSTS - 1) {
      phase[p] = SCAN; tries[p] = TRIES; beats[p] = BEATS; name[p] = p + 1
    }
#ifdef RIVALS
    put(block, FREE, 0, 0, 0, 0, 0);
#else
    put(block, OWNED, 1, 1, 1, 1, 1);
#ifdef WATCH
    life_inc[0] = 1; life_nonce[0] = 1; talks[0] = true;
#endif
    lives_there(0);
#ifdef CLONE
    lives_there(1);
#endif
#ifdef TAKEOVER
    name[1] = 1;
#endif
#ifdef RESTART
    name[1] = 1;
#endif
#endif
    for (p : 0 .. HOSTS - 1) { run Host(p) }
    run Disk();
#ifdef WATCH
    run Watcher();
#endif
#ifndef WATCH
    run Judge();
#endif
#ifdef EVICT
    run Evict();
#endif
    p = 0
  }
}
