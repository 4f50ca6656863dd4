// A view's source over a storage in memory.
#pragma once

#include <atomic>

#include "fuse/source.h"
#include "tests/unit/memory_storage.h"

namespace stp::view::test {

class MemorySource final : public Source {
 public:
  explicit MemorySource(std::shared_ptr<stp::testing::MemoryStorage> storage) : storage_(std::move(storage)) {}
  const std::string& title() const override { return title_; }
  Result<std::shared_ptr<BlockSource>> blocks() override {
    if (gone) return fail(ENOTCONN, "no agent");
    return storage_;
  }
  Result<std::optional<AgentFacts>> agent() override { return facts; }
  bool talks() const override { return facts.has_value(); }
  void call(std::string title) { title_ = std::move(title); }
  std::atomic<bool> gone = false;
  std::optional<AgentFacts> facts;

 private:
  const std::shared_ptr<stp::testing::MemoryStorage> storage_;
  std::string title_ = "memory";
};

// All SCBs that are not named are free.
inline void put_sockets(stp::testing::MemoryStorage& storage, Slot slot, const std::vector<Scb>& scbs) {
  const Geometry& g = storage.geometry();
  for (std::uint32_t index = 0; index < g.scb_blocks; ++index) {
    ScbBlock block{.owner = storage.lease(slot).owner, .sequence = 1, .index = index, .scbs = std::vector<Scb>(g.scbs_a_block())};
    for (std::uint32_t i = 0; i < block.scbs.size(); ++i) block.scbs[i].index = index * g.scbs_a_block() + i;
    for (const Scb& scb : scbs)
      if (scb.index / g.scbs_a_block() == index) block.scbs[scb.index % g.scbs_a_block()] = scb;
    storage.put_scbs(block);
  }
}

}  // namespace stp::view::test
