#include "fuse/inode_table.h"

#include <xxhash.h>

#include <array>

#include "stp/system.h"

namespace stp::view {

InodeTable::InodeTable(NodePtr root) : secret_(SystemRandom().next()) { known_[kRoot] = Known{.node = std::move(root), .lookups = 1, .shown = kRoot, .text = {}}; }

std::uint64_t InodeTable::number(std::uint64_t parent, std::string_view name, const Node& node) const {
  const std::array<std::uint64_t, 4> place = {secret_, parent, node.identity(), static_cast<std::uint64_t>(node.kind())};
  const std::uint64_t seed = XXH3_64bits(place.data(), sizeof place);
  const std::uint64_t hash = XXH3_64bits_withSeed(name.data(), name.size(), seed);
  return hash > kRoot ? hash : hash + 2;
}

std::uint64_t InodeTable::fresh_number() {
  const std::array<std::uint64_t, 2> place = {secret_, ++made_};
  const std::uint64_t hash = XXH3_64bits(place.data(), sizeof place);
  return hash > kRoot ? hash : hash + 2;
}

std::uint64_t InodeTable::shown(std::uint64_t number) const {
  std::lock_guard lock(mutex_);
  const auto it = known_.find(number);
  return it == known_.end() ? number : it->second.shown;
}

NodePtr InodeTable::enter(std::uint64_t number, NodePtr node, std::uint64_t shown) {
  std::lock_guard lock(mutex_);
  Known& known = known_[number];
  if (known.node == nullptr) {
    known.node = std::move(node);
    known.shown = shown;
  }
  ++known.lookups;
  return known.node;
}

void InodeTable::forget(std::uint64_t number, std::uint64_t times) {
  NodePtr last;  // let go without the lock: that may be the end of more than a node
  std::lock_guard lock(mutex_);
  const auto it = known_.find(number);
  if (it == known_.end() || number == kRoot) return;
  it->second.lookups -= std::min(it->second.lookups, times);
  if (it->second.lookups > 0) return;
  last = std::move(it->second.node);
  known_.erase(it);
}

NodePtr InodeTable::find(std::uint64_t number) const {
  std::lock_guard lock(mutex_);
  const auto it = known_.find(number);
  return it == known_.end() ? nullptr : it->second.node;
}

std::size_t InodeTable::size() const {
  std::lock_guard lock(mutex_);
  return known_.size();
}

Text InodeTable::open(std::uint64_t number, const Text& text) {
  std::lock_guard lock(mutex_);
  const auto it = known_.find(number);
  if (it == known_.end()) return text;
  if (Text there = it->second.text.lock()) return there;
  it->second.text = text;
  return text;
}

Text InodeTable::open_text(std::uint64_t number) const {
  std::lock_guard lock(mutex_);
  const auto it = known_.find(number);
  return it == known_.end() ? nullptr : it->second.text.lock();
}

}  // namespace stp::view
