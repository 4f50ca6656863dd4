// The cache region of this host: extents of 256 KiB, lent to streams. Nobody may use them all: each living peer keeps a reserve.
#pragma once

#include <vector>

#include "stp/core.h"

namespace stp {

class CacheRegion {
 public:
  explicit CacheRegion(Core& core);

  // An extent for data to `peer`; kNone when it has to wait.
  static constexpr std::uint32_t kNone = 0xffffffff;
  std::uint32_t take(Slot peer);
  void give_back(Slot peer, std::uint32_t extent);
  // How many peers keep a reserve.
  void set_peer_alive(Slot peer, bool alive) { alive_[peer] = alive; }
  std::uint64_t block(std::uint32_t extent) const { return core_.geometry().extent(core_.self.slot, extent); }
  std::uint32_t used() const { return core_.geometry().extents - static_cast<std::uint32_t>(free_.size()); }
  bool any_waited() { return std::exchange(waited_, false); }

 private:
  Core& core_;
  std::uint32_t reserve_;
  std::vector<std::uint32_t> free_;  // last in, first out
  std::vector<std::uint32_t> used_;  // by peer
  std::vector<bool> alive_;
  bool waited_ = false;
};

// The extent number of a block that a peer announced, or kNone when it is not the beginning of one of its extents.
std::uint32_t extent_of_block(const Geometry& geometry, Slot owner, std::uint64_t block);

}  // namespace stp
