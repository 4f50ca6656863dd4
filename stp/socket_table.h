// The STP socket table: hands out socket control blocks, lowest number first, and keeps their state on the disk (behind).
#pragma once

#include <queue>

#include "stp/scb.h"
#include "stp/write_behind.h"

namespace stp {

class SocketTable {
 public:
  explicit SocketTable(Core& core);

  static constexpr std::uint32_t kNone = 0xffffffff;
  std::uint32_t take();  // kNone when all are in use
  void give_back(std::uint32_t index);
  // What others read; give the whole record again after a change.
  void set(const Scb& scb);
  const Scb& get(std::uint32_t index) const { return scbs_[index]; }
  // A new incarnation: the blocks in use carry it soon.
  void mark_all();
  WriteBehind& behind() { return behind_; }
  const WriteBehind& behind() const { return behind_; }

 private:
  std::uint64_t encode(std::uint32_t index, std::uint64_t sequence, Bytes block) const;

  Core& core_;
  std::vector<Scb> scbs_;  // grows up to the table's size
  std::priority_queue<std::uint32_t, std::vector<std::uint32_t>, std::greater<>> free_;
  WriteBehind behind_;
};

}  // namespace stp
