// Which faults befall the requests to a storage, and how often: what STP_FAULTS asks for, and what the simulation gives each seed.
//
//   STP_FAULTS = SETTING[,SETTING]...
//   delay=TIME[-TIME]@CHANCE   a request takes that much longer; of two times, as likely a short as a long one between them
//   eio=CHANCE                 a request fails with EIO; eio_read=, eio_write= for one kind alone. A failed write may have landed
//                              whole, in part, or not at all
//   torn=CHANCE                a write completes well, and only some of its sectors of 512 bytes have landed
//   lost=CHANCE                a write completes well, and nothing of it has landed
//   misdirected=CHANCE         a write completes well, and has landed up to 8 blocks beside its place
//   undo=TIME[-TIME]@CHANCE    a write lands once more, that long after it completed, over whatever was written there since
//   flip=CHANCE                of each byte read or written: one of its bits turns. On the way to the storage it stays so
//   seed=NUMBER                the same number, the same fates: the n-th request of a medium meets the same one each time
//
// TIME is a number with us, ms or s; CHANCE one from 0 to 1 (0.001, 1e-6), or in percent (0.1%). No setting may come twice.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "stp/error.h"
#include "stp/timing.h"

namespace stp {

struct FaultSpan {
  Nanos shortest = 0;
  Nanos longest = 0;
  double chance = 0;
};

struct FaultPlan {
  FaultSpan delay{};
  double eio_read = 0;
  double eio_write = 0;
  double torn = 0;
  double lost = 0;
  double misdirected = 0;
  FaultSpan undo{};
  double flip = 0;
  double flip_front = 0;  // so many of the flips fall on the first 512 bytes of a block, where most blocks have all they say
  std::optional<std::uint64_t> seed{};
};

// EINVAL with what is wrong, and with which character it begins.
Result<FaultPlan> parse_faults(std::string_view text);
// In the grammar above, what is off left out.
std::string to_string(const FaultPlan& plan);

}  // namespace stp
