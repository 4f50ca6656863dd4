// The port file: which ports of this host are taken, by which SCB; gives a free one to those who name none.
#pragma once

#include "stp/port_block.h"
#include "stp/write_behind.h"

namespace stp {

class PortFile {
 public:
  static constexpr std::uint16_t kFirstFree = 32768;  // the range that free ports are given from
  static constexpr std::uint16_t kLastFree = 60999;

  explicit PortFile(Core& core);

  bool taken(std::uint16_t port) const { return ports_[port].state != PortState::kFree; }
  const PortEntry& get(std::uint16_t port) const { return ports_[port]; }
  void set(std::uint16_t port, PortState state, std::uint32_t scb);
  void release(std::uint16_t port) { set(port, PortState::kFree, 0); }
  std::uint16_t find_free();  // 0 when there is none
  void mark_all();
  WriteBehind& behind() { return behind_; }
  const WriteBehind& behind() const { return behind_; }

 private:
  std::uint64_t encode(std::uint32_t index, std::uint64_t sequence, Bytes block) const;

  Core& core_;
  std::vector<PortEntry> ports_;
  std::uint16_t next_ = 0;
  WriteBehind behind_;
};

}  // namespace stp
