// Planted bugs: switched on one at a time by the simulator, which must find each of them; otherwise the
// simulation proves nothing. In every other build planted() is false, which the compiler sees, and costs nothing.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace stp {

enum class Plant : std::uint8_t {
  kNone,
  kSkipPacketCrc,         // a packet is believed without its checksum
  kSkipIncarnation,       // a packet of another pair of incarnations is taken
  kAckTooEarly,           // a packet is acknowledged before its messages were taken
  kReuseBeforeReaped,     // a ring place is written again while a write to it is in flight
  kAckInsideRing,         // acknowledgements travel in packets only, never in gates
  kSkipExtentHash,        // an extent is delivered unverified
  kAnnounceTooEarly,      // an extent is announced before its write completed, and never renewed
  kFreeExtentTooEarly,    // an extent is used again when announced, not when consumed
  kReturnTooEarly,        // lent memory is given back when it was written, not when it was consumed
  kAckAheadOfReset,       // a packet is acknowledged though what it carried was dropped, and the reset that says so is read later
  kDropUntold,            // what comes to a closed socket is dropped and acknowledged, and its peer is told when that is through
  kLeaveLineUntold,       // who waits in line for a packet is not told when it has left
  kFinWithoutTotal,       // EOF when FIN arrives, whatever is missing
  kForgetDoorbell,        // no doorbell for a peer that does not poll
  kNoRecheck,             // a packet is never read back and rewritten
  kSkipReadBack,          // a claim is believed without reading it back
  kIgnoreForeignOwner,    // the own lease block is not looked at before a beat
  kCountStalledTime,      // a peer's silence is counted over my own storage stalls
  kReuseIncarnation,      // a host comes back with the incarnation that it had
  kSkipAddressee,         // a packet for another life of mine is taken
  kAnyGate,               // a gate of another pair of incarnations is believed
  kBeyondCredit,          // more is sent than the peer has given credit for
  kFinBeforeData,         // FIN overtakes what was accepted, with the total of what was sent
  kConsumedTooEarly,      // an extent counts as consumed when it is announced, not when it was verified
  kIgnoreReset,           // the peer's RST is ignored
  kReuseSessionId,        // each session of a life gets the same id
  kCloseWithoutLinger,    // a closed socket goes at once, whatever of it is not acknowledged
  kVerdictNotPublished,   // a verdict is kept to oneself
  kIgnoreRefusal,         // a host that others refuse goes on
  kTakeOlderLease,        // a lease of a lower incarnation is believed
  kVerdictNotFinal,       // who was called dead and beats is alive again
  kClaimWithoutSilence,   // the slot of the own name is claimed from a living host
  kSkipJoinWait,          // a claim is read back at once
};

struct PlantName {
  Plant plant;
  std::string_view name;
};
inline constexpr std::array<PlantName, 33> kPlants{{
    {Plant::kSkipPacketCrc, "skip-packet-crc"},
    {Plant::kSkipIncarnation, "skip-incarnation"},
    {Plant::kAckTooEarly, "ack-too-early"},
    {Plant::kReuseBeforeReaped, "reuse-before-reaped"},
    {Plant::kAckInsideRing, "ack-inside-ring"},
    {Plant::kSkipExtentHash, "skip-extent-hash"},
    {Plant::kAnnounceTooEarly, "announce-too-early"},
    {Plant::kFreeExtentTooEarly, "free-extent-too-early"},
    {Plant::kReturnTooEarly, "return-too-early"},
    {Plant::kAckAheadOfReset, "ack-ahead-of-reset"},
    {Plant::kDropUntold, "drop-untold"},
    {Plant::kLeaveLineUntold, "leave-line-untold"},
    {Plant::kFinWithoutTotal, "fin-without-total"},
    {Plant::kForgetDoorbell, "forget-doorbell"},
    {Plant::kNoRecheck, "no-recheck"},
    {Plant::kSkipReadBack, "skip-read-back"},
    {Plant::kIgnoreForeignOwner, "ignore-foreign-owner"},
    {Plant::kCountStalledTime, "count-stalled-time"},
    {Plant::kReuseIncarnation, "reuse-incarnation"},
    {Plant::kSkipAddressee, "skip-addressee"},
    {Plant::kAnyGate, "any-gate"},
    {Plant::kBeyondCredit, "beyond-credit"},
    {Plant::kFinBeforeData, "fin-before-data"},
    {Plant::kConsumedTooEarly, "consumed-too-early"},
    {Plant::kIgnoreReset, "ignore-reset"},
    {Plant::kReuseSessionId, "reuse-session-id"},
    {Plant::kCloseWithoutLinger, "close-without-linger"},
    {Plant::kVerdictNotPublished, "verdict-not-published"},
    {Plant::kIgnoreRefusal, "ignore-refusal"},
    {Plant::kTakeOlderLease, "take-older-lease"},
    {Plant::kVerdictNotFinal, "verdict-not-final"},
    {Plant::kClaimWithoutSilence, "claim-without-silence"},
    {Plant::kSkipJoinWait, "skip-join-wait"},
}};

#ifdef STP_SIMULATION
inline Plant active_plant = Plant::kNone;
#endif
inline bool planted([[maybe_unused]] Plant plant) {
#ifdef STP_SIMULATION
  return active_plant == plant;
#else
  return false;
#endif
}

}  // namespace stp
