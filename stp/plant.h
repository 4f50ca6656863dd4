// Planted bugs: switched on one at a time by the simulator, which must find each of them; otherwise the
// simulation proves nothing. In every other build planted() is a constant false and costs nothing.
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
  kFinWithoutTotal,       // EOF when FIN arrives, whatever is missing
  kForgetDoorbell,        // no doorbell for a peer that does not poll
  kNoRecheck,             // a packet is never read back and rewritten
  kSkipReadBack,          // a claim is believed without reading it back
  kIgnoreForeignOwner,    // the own lease block is not looked at before a beat
  kCountStalledTime,      // a peer's silence is counted over my own storage stalls
  kReuseIncarnation,      // a host comes back with the incarnation that it had
};

struct PlantName {
  Plant plant;
  std::string_view name;
};
inline constexpr std::array<PlantName, 15> kPlants{{
    {Plant::kSkipPacketCrc, "skip-packet-crc"},
    {Plant::kSkipIncarnation, "skip-incarnation"},
    {Plant::kAckTooEarly, "ack-too-early"},
    {Plant::kReuseBeforeReaped, "reuse-before-reaped"},
    {Plant::kAckInsideRing, "ack-inside-ring"},
    {Plant::kSkipExtentHash, "skip-extent-hash"},
    {Plant::kAnnounceTooEarly, "announce-too-early"},
    {Plant::kFreeExtentTooEarly, "free-extent-too-early"},
    {Plant::kFinWithoutTotal, "fin-without-total"},
    {Plant::kForgetDoorbell, "forget-doorbell"},
    {Plant::kNoRecheck, "no-recheck"},
    {Plant::kSkipReadBack, "skip-read-back"},
    {Plant::kIgnoreForeignOwner, "ignore-foreign-owner"},
    {Plant::kCountStalledTime, "count-stalled-time"},
    {Plant::kReuseIncarnation, "reuse-incarnation"},
}};

#ifdef STP_SIMULATION
inline Plant active_plant = Plant::kNone;
inline bool planted(Plant plant) { return active_plant == plant; }
#else
constexpr bool planted(Plant) { return false; }
#endif

}  // namespace stp
