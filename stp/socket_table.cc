#include "stp/socket_table.h"

#include <algorithm>

namespace stp {

SocketTable::SocketTable(Core& core)
    : core_(core), behind_(core, [this](std::uint32_t i, std::uint64_t s, Bytes b) { return encode(i, s, b); }) {}

std::uint32_t SocketTable::take() {
  std::uint32_t index = 0;
  if (!free_.empty()) {
    index = free_.top();
    free_.pop();
  } else if (scbs_.size() < core_.geometry().sockets) {
    index = static_cast<std::uint32_t>(scbs_.size());
    scbs_.emplace_back();
  } else {
    return kNone;
  }
  return index;
}

void SocketTable::give_back(std::uint32_t index) {
  scbs_[index] = Scb{};
  free_.push(index);
  behind_.mark(index / core_.geometry().scbs_a_block());
}

void SocketTable::set(const Scb& scb) {
  scbs_[scb.index] = scb;
  behind_.mark(scb.index / core_.geometry().scbs_a_block());
}

void SocketTable::mark_all() {
  const auto blocks = static_cast<std::uint32_t>((scbs_.size() + core_.geometry().scbs_a_block() - 1) / core_.geometry().scbs_a_block());
  for (std::uint32_t b = 0; b < blocks; ++b) behind_.mark(b);
}

std::uint64_t SocketTable::encode(std::uint32_t index, std::uint64_t sequence, Bytes block) const {
  ScbBlock out{.owner = core_.self, .sequence = sequence, .index = index, .scbs = {}};
  const std::size_t first = static_cast<std::size_t>(index) * core_.geometry().scbs_a_block();
  for (std::size_t i = first; i < std::min<std::size_t>(scbs_.size(), first + core_.geometry().scbs_a_block()); ++i)
    out.scbs.push_back(scbs_[i]);
  encode_scb_block(block, out, core_.uuid(), core_.geometry());
  return core_.geometry().scb_block(core_.self.slot, index);
}

}  // namespace stp
