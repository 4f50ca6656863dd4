/* One conduit: the ring from a sender to a receiver, and the two gates between them.
 *
 * Which names of this model are which functions of the code (stp/):
 *
 *   Sender   fill         RingSender::pump, place_free, write
 *            landed       the completion in RingSender::write
 *            gate there   Conduit::on_gate, take_ack, RingSender::on_ack; Engine::Impl::on_gate (a refusal)
 *            time out     RingSender::check_timeout, recheck, on_rechecked; Conduit::decide_gate
 *            ring         Conduit::decide_gate (the doorbell)
 *            gate         Conduit::write_gate
 *            start        Conduit::start, which waits for quiet(); Engine::Impl::update_peer
 *   Receiver take         RingReceiver::on_read, take
 *            gate there   Conduit::on_gate, RingReceiver::on_doorbell
 *            acknowledge  Conduit::ack_due
 *            cool         Conduit::decide_polling, RingReceiver::cool, and the last look
 *            verdict      Engine::Impl::end_conduit, Conduit::refuse, Engine::Impl::repeat_refusals
 *
 * The disk: a write in flight lands at any time; or is lost (an error, or never seen again); a copy of it may land again at any
 * later time, and of a dead sender's writes each lands, is lost, or lands late. Nothing orders writes to different blocks.
 *
 * A step that would change nothing (a look that finds nothing, a timer that nobody needs) is left out, so that every run ends, and
 * "nobody can do anything any more" means that all is done or that it hangs. A timer runs out when nothing else can happen any more, and
 * EARLY times whenever it likes.
 *
 * Asserted: the receiver takes exactly 1, 2, 3, ... of its own pair of incarnations; what the sender counts as acknowledged was taken;
 * one write in flight a place; and each run ends with all packets of the last pair taken and acknowledged.
 */
#ifndef PLACES
#define PLACES 2
#endif
#ifndef PACKETS
#define PACKETS 3     /* that the sender has to send in each pair of incarnations */
#endif
#ifndef COPIES
#define COPIES 1      /* late ones, in all */
#endif
#ifndef LOSSES
#define LOSSES 1
#endif
#ifndef EARLY
#define EARLY 1
#endif
#ifndef COOLINGS
#define COOLINGS 1
#endif
#ifndef SENDER_DEATHS
#define SENDER_DEATHS 0
#endif
#ifndef RECEIVER_DEATHS
#define RECEIVER_DEATHS 0
#endif
#ifndef VERDICTS
#define VERDICTS 0    /* a living sender is called dead */
#endif
#define MOST_GATES 14 /* more than any run needs: who writes more gets nowhere */

/* A pair of incarnations; 0: none. */
#define PAIR(s, r) ((s) * 4 + (r))
#define place(seq) (((seq) - 1) % PLACES)

/* The blocks. n: how often this gate was written in this pair. */
typedef Packet { byte pair; byte seq };
typedef SenderGate { byte pair; byte n; byte head; byte ack_seen; bool want };
typedef ReceiverGate { byte pair; byte n; byte ack; bool poll; byte refused };
Packet ring[PLACES];
SenderGate sgate;
ReceiverGate rgate;

/* Writes in flight, at most one a block. */
Packet wr[PLACES];
bool busy[PLACES];
SenderGate sgate_wr;
bool sgate_busy;
ReceiverGate rgate_wr;
bool rgate_busy;

/* A copy that is late: of a packet (1), the sender's gate (2), the receiver's (3). */
byte late = 0;
byte late_place = 0;
Packet late_packet;
SenderGate late_sgate;
ReceiverGate late_rgate;
byte copies = COPIES;
byte losses = LOSSES;
byte early = EARLY;
byte coolings = COOLINGS;
byte sender_deaths = SENDER_DEATHS;
byte receiver_deaths = RECEIVER_DEATHS;
byte verdicts = VERDICTS;

byte s_life = 1;
byte r_life = 1;

/* The sender. */
byte s_pair = 0;
byte next = 1;
byte acked = 0;
byte sgates = 0;        /* gates written */
byte s_their = 0;       /* the peer's newest gate that was seen */
bool they_poll = false;
byte head_published = 0;
bool want = false;
bool sgate_dirty = false;
#define sent (next - 1)
byte buffer[PLACES];    /* which packet's bytes lie there in memory */

/* The receiver. */
byte r_pair = 0;
byte taken = 0;
byte announced = 0;
byte rgates = 0;
byte r_their = 0;
bool hot = false;
bool cooling = false;     /* the gate that says so is dirty or on its way */
bool last_look = false;
bool polling_published = false;
byte ack_published = 0;
bool rgate_dirty = false;
byte given_up = 0;        /* the sender's life that I called dead */

/* The receiver's last pair before this one, for the assertions. */
byte old_pair = 0;
byte old_taken = 0;

#define copy_packet(to, from) to.pair = from.pair; to.seq = from.seq
#define copy_sgate(to, from) to.pair = from.pair; to.n = from.n; to.head = from.head; to.ack_seen = from.ack_seen; to.want = from.want
#define copy_rgate(to, from) to.pair = from.pair; to.n = from.n; to.ack = from.ack; to.poll = from.poll; to.refused = from.refused

inline clear_packet(i) { d_step { busy[i] = false; wr[i].pair = 0; wr[i].seq = 0 } }
inline clear_sgate() { d_step { sgate_busy = false; sgate_wr.pair = 0; sgate_wr.n = 0; sgate_wr.head = 0; sgate_wr.ack_seen = 0; sgate_wr.want = 0 } }
inline clear_rgate() { d_step { rgate_busy = false; rgate_wr.pair = 0; rgate_wr.n = 0; rgate_wr.ack = 0; rgate_wr.poll = 0; rgate_wr.refused = 0 } }

inline keep_packet(i) { d_step { copies--; late = 1; late_place = i; copy_packet(late_packet, wr[i]) } }
inline keep_sgate() { d_step { copies--; late = 2; copy_sgate(late_sgate, sgate_wr) } }
inline keep_rgate() { d_step { copies--; late = 3; copy_rgate(late_rgate, rgate_wr) } }
#define may_keep (late == 0 && copies > 0)

/* Each write in flight of somebody who is gone: landed, lost, or late. */
inline abandon_packet(i) {
  if
  :: busy[i] -> d_step { copy_packet(ring[i], wr[i]) }
  :: busy[i] && may_keep -> keep_packet(i)
  :: true
  fi;
  clear_packet(i)
}
inline abandon_sgate() {
  if
  :: sgate_busy -> d_step { copy_sgate(sgate, sgate_wr) }
  :: sgate_busy && may_keep -> keep_sgate()
  :: true
  fi;
  clear_sgate()
}
inline abandon_rgate() {
  if
  :: rgate_busy -> d_step { copy_rgate(rgate, rgate_wr) }
  :: rgate_busy && may_keep -> keep_rgate()
  :: true
  fi;
  clear_rgate()
}

inline write_packet(seq_) {
  d_step {
    assert(!busy[place(seq_)]);
    wr[place(seq_)].pair = s_pair; wr[place(seq_)].seq = buffer[place(seq_)];
    busy[place(seq_)] = true
  }
}

inline forget_sender() {
  d_step {
    s_pair = 0; next = 1; acked = 0; s_their = 0; they_poll = false; head_published = 0; want = false; sgate_dirty = false;
    buffer[0] = 0; buffer[PLACES - 1] = 0
  }
}
inline forget_receiver() {
  d_step {
    taken = 0; announced = 0; r_their = 0; hot = false; cooling = false; last_look = false; polling_published = false;
    ack_published = 0; rgate_dirty = false
  }
}
/* The receiver leaves its pair. */
inline leave_pair() {
  d_step {
    if
    :: r_pair != 0 -> old_pair = r_pair; old_taken = taken
    :: else
    fi;
    r_pair = 0
  };
  forget_receiver()
}

/* Conduit::write_gate: at once, or when the one in flight was reaped. */
inline write_sgate() {
  if
  :: sgate_busy -> sgate_dirty = true
  :: else ->
       sgates++;
       assert(sgates < MOST_GATES);
       d_step {
         sgate_wr.pair = s_pair; sgate_wr.n = sgates; sgate_wr.ack_seen = acked; sgate_wr.want = want;
#ifdef FORGET_DOORBELL
         sgate_wr.head = 0;
#else
         sgate_wr.head = sent;
#endif
         head_published = sent; sgate_dirty = false; sgate_busy = true
       }
  fi
}
inline write_rgate() {
  if
  :: rgate_busy -> rgate_dirty = true
  :: else ->
       rgates++;
       assert(rgates < MOST_GATES);
       d_step {
         rgate_wr.n = rgates;
         rgate_wr.refused = given_up;
         rgate_dirty = false; rgate_busy = true;
         if
         :: r_pair != 0 ->
              rgate_wr.pair = r_pair;
#ifdef ACK_TOO_EARLY
              rgate_wr.ack = (announced > taken -> taken + 1 : taken);
#else
              rgate_wr.ack = taken;
#endif
              rgate_wr.poll = hot && !cooling;
              polling_published = hot && !cooling;
              ack_published = taken
         :: else -> rgate_wr.pair = PAIR(given_up, r_life)
         fi
       }
  fi
}

#ifdef REUSE_UNACKED
#define place_free (!busy[place(next)])
#else
#ifdef REUSE_BEFORE_REAPED
#define place_free (next <= acked + PLACES)
#else
#define place_free (next <= acked + PLACES && !busy[place(next)])
#endif
#endif
#define on_disk(seq_) (ring[place(seq_)].pair == s_pair && ring[place(seq_)].seq == buffer[place(seq_)])
#define unacked(seq_) (seq_ > acked && seq_ <= sent)

#ifdef ANY_GATE
#define gate_for_sender (rgate.pair != 0 && rgate.n > s_their)
#else
#define gate_for_sender (rgate.pair == s_pair && rgate.n > s_their)
#endif
#define gate_for_receiver (r_pair != 0 && sgate.pair == r_pair && sgate.n > r_their)

#ifdef ANY_INCARNATION
#define right_pair(i) (ring[i].pair != 0)
#else
#define right_pair(i) (ring[i].pair == r_pair)
#endif
#ifdef ANY_SEQUENCE
#define right_sequence(i) true
#else
#define right_sequence(i) (ring[i].seq == taken + 1)
#endif
#define next_place place(taken + 1)
#define there (r_pair != 0 && right_pair(next_place) && right_sequence(next_place))

#define nothing_in_flight (!busy[0] && !busy[PLACES - 1] && !sgate_busy && !rgate_busy && !sgate_dirty && !rgate_dirty)
#define nothing_to_see (!gate_for_sender && !gate_for_receiver && !(hot && there) && taken <= ack_published)
#define same_pair (s_pair != 0 && s_pair == r_pair && s_pair == PAIR(s_life, r_life))
#define nothing_else (nothing_in_flight && nothing_to_see && same_pair && !cooling && !last_look)

proctype Sender() {
end:
  do
  :: atomic { s_pair != 0 && next <= PACKETS && place_free -> buffer[place(next)] = next; write_packet(next); next++ }
  :: atomic { s_pair != 0 && gate_for_sender && rgate.refused != s_life ->
       s_their = rgate.n;
       they_poll = rgate.poll;
       if
       :: rgate.ack > acked && rgate.ack < next ->
            assert(r_pair != s_pair || rgate.ack <= taken);
            assert(r_pair == s_pair || old_pair != s_pair || rgate.ack <= old_taken);
            acked = rgate.ack;
            want = false
       :: else
       fi }
  /* Refused: what is in flight is reaped; then a new life. */
  :: atomic { rgate.refused == s_life && rgate.pair == PAIR(s_life, r_life) && !busy[0] && !busy[PLACES - 1] && !sgate_busy ->
       s_life++; sgates = 0; forget_sender() }

  /* -- Timers */
  :: atomic { s_pair != 0 && acked < sent && !busy[0] && !busy[PLACES - 1] && (early > 0 || nothing_else) ->
       if
       :: nothing_else
       :: !nothing_else -> early--
       fi;
#ifndef NO_RECHECK
       if
       :: unacked(acked + 1) && !on_disk(acked + 1) -> write_packet(acked + 1)
       :: else
       fi;
#if PLACES > 1
       if
       :: unacked(acked + 2) && !on_disk(acked + 2) && !busy[place(acked + 2)] -> write_packet(acked + 2)
       :: else
       fi;
#endif
#endif
       want = true;
       write_sgate() }
#ifndef FORGET_DOORBELL
  :: atomic { s_pair != 0 && !they_poll && sent > head_published && !sgate_dirty -> write_sgate() }
#endif
  /* -- A pair begins, as soon as I know the other's life and nothing of an earlier pair is in flight; it says hello. */
  :: atomic { s_pair != PAIR(s_life, r_life) && r_life > 0 && !busy[0] && !busy[PLACES - 1] && !sgate_busy ->
       forget_sender(); s_pair = PAIR(s_life, r_life); write_sgate() }

  /* -- Death */
  :: atomic { sender_deaths > 0 ->
       sender_deaths--; abandon_packet(0);
#if PLACES > 1
       abandon_packet(1);
#endif
       abandon_sgate(); s_life++; sgates = 0; forget_sender() }
  od
}

#ifdef SAME_PAIR_AGAIN
#define may_begin true
#else
#define may_begin (s_life != given_up)
#endif

proctype Receiver() {
end:
  do
  :: atomic { hot && there ->
       assert(ring[next_place].pair == r_pair);
       assert(ring[next_place].seq == taken + 1);
       assert(r_pair != old_pair || taken + 1 > old_taken);
       taken++; last_look = false }
  :: atomic { gate_for_receiver ->
       r_their = sgate.n;
       announced = (sgate.head > announced -> sgate.head : announced);
       if
       :: announced > taken && !hot -> hot = true; last_look = false
       :: else
       fi;
#ifndef IGNORE_WISH_FOR_ACK
       if
       :: sgate.want && sgate.ack_seen < taken -> write_rgate()
       :: else
       fi
#endif
     }
  :: atomic { r_pair != 0 && taken > ack_published && !rgate_dirty -> write_rgate() }
  /* Nothing came for a while: say that I do not poll; one last look when that has landed. */
  :: atomic { coolings > 0 && hot && !cooling && !last_look && announced <= taken ->
       coolings--;
       if
       :: polling_published -> cooling = true; write_rgate()
       :: else -> last_look = true
       fi }
  :: atomic { hot && last_look && !there -> hot = (announced > taken); last_look = false }
  /* -- A pair begins: the sender's life is in its lease. Never again with one that I gave up. */
  :: atomic { r_pair != PAIR(s_life, r_life) && !rgate_busy && may_begin -> leave_pair(); r_pair = PAIR(s_life, r_life); write_rgate() }

  /* -- The verdict on a living one, told again until it has heard. */
  :: atomic { verdicts > 0 && r_pair == PAIR(s_life, r_life) -> verdicts--; given_up = s_life; leave_pair();
#ifndef VERDICT_NOT_PUBLISHED
       write_rgate()
#endif
     }
#ifndef VERDICT_NOT_PUBLISHED
  :: atomic { given_up == s_life && r_pair == 0 && !rgate_busy && !rgate_dirty && !(rgate.refused == s_life && rgate.pair == PAIR(s_life, r_life)) ->
       write_rgate() }
#endif

  /* -- Death */
  :: atomic { receiver_deaths > 0 -> receiver_deaths--; abandon_rgate(); leave_pair(); given_up = 0; rgates = 0; r_life++ }
  od
}

inline again_sgate() {
  if
  :: sgate_dirty && s_pair != 0 -> write_sgate()
  :: else -> sgate_dirty = false
  fi
}
inline again_rgate() {
  if
  :: rgate_dirty && (r_pair != 0 || given_up != 0) -> write_rgate()
  :: else -> rgate_dirty = false
  fi
}

proctype Disk() {
end:
  do
  :: atomic { busy[0] -> d_step { copy_packet(ring[0], wr[0]) };
       if
       :: may_keep -> keep_packet(0)
       :: true
       fi;
       clear_packet(0) }
  :: atomic { busy[0] && losses > 0 -> losses--;
       if
       :: may_keep -> keep_packet(0)
       :: true
       fi;
       clear_packet(0) }
#if PLACES > 1
  :: atomic { busy[1] -> d_step { copy_packet(ring[1], wr[1]) };
       if
       :: may_keep -> keep_packet(1)
       :: true
       fi;
       clear_packet(1) }
  :: atomic { busy[1] && losses > 0 -> losses--;
       if
       :: may_keep -> keep_packet(1)
       :: true
       fi;
       clear_packet(1) }
#endif
  :: atomic { sgate_busy -> d_step { copy_sgate(sgate, sgate_wr) };
       if
       :: may_keep -> keep_sgate()
       :: true
       fi;
       clear_sgate(); again_sgate() }
  :: atomic { sgate_busy && losses > 0 -> losses--; clear_sgate(); again_sgate() }
  :: atomic { rgate_busy -> d_step { copy_rgate(rgate, rgate_wr) };
       if
       :: may_keep -> keep_rgate()
       :: true
       fi;
       if
       :: cooling && rgate_wr.pair == r_pair && !rgate_wr.poll -> cooling = false; last_look = true
       :: else
       fi;
       clear_rgate(); again_rgate() }
  /* Lost, and nobody knows; where the host knows it (an error) it writes again at once. */
  :: atomic { rgate_busy && losses > 0 && !cooling -> losses--; clear_rgate(); again_rgate() }
  :: atomic { rgate_busy && losses > 0 -> losses--; clear_rgate(); write_rgate() }

  :: atomic { late == 1 -> d_step { copy_packet(ring[late_place], late_packet); late = 0; late_place = 0; late_packet.pair = 0; late_packet.seq = 0 } }
  :: atomic { late == 2 -> d_step { copy_sgate(sgate, late_sgate); late = 0; late_sgate.pair = 0; late_sgate.n = 0; late_sgate.head = 0; late_sgate.ack_seen = 0; late_sgate.want = 0 } }
  :: atomic { late == 3 -> d_step { copy_rgate(rgate, late_rgate); late = 0; late_rgate.pair = 0; late_rgate.n = 0; late_rgate.ack = 0; late_rgate.poll = 0; late_rgate.refused = 0 } }
  :: atomic { late == 1 -> d_step { late = 0; late_place = 0; late_packet.pair = 0; late_packet.seq = 0 } }
  od
}

/* Nobody can do anything any more. */
proctype Judge() {
end:
  do
  :: atomic { timeout -> assert(same_pair && acked == PACKETS && taken == PACKETS); break }
  od
}

init {
  atomic {
    run Sender();
    run Receiver();
    run Disk();
    run Judge()
  }
}
