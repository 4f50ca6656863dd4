// The nodes that the kernel knows, by the numbers that it knows them by. What keeps its parent, name, kind and identity keeps its
// number, so that a shell's working directory and an open `find` survive looks at a tree that is made anew each time.
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>

#include "fuse/node.h"

namespace stp::view {

using Text = std::shared_ptr<const std::string>;

// Any thread.
class InodeTable {
 public:
  static constexpr std::uint64_t kRoot = 1;
  explicit InodeTable(NodePtr root);

  // The number that `node` has, or would have, under this name. Numbers are hashes of 64 bits with a secret of this process: hosts
  // that choose names can not aim at a number.
  std::uint64_t number(std::uint64_t parent, std::string_view name, const Node& node) const;
  // The kernel learns of it once more. A node that it knew under this number already stays the one. `shown`: the number that programs see.
  NodePtr enter(std::uint64_t number, NodePtr node, std::uint64_t shown);
  NodePtr enter(std::uint64_t number, NodePtr node) { return enter(number, std::move(node), number); }
  // One that no other node has: of a text beside another one under the same name.
  std::uint64_t fresh_number();
  std::uint64_t shown(std::uint64_t number) const;
  void forget(std::uint64_t number, std::uint64_t times);
  NodePtr find(std::uint64_t number) const;  // null: not known
  std::size_t size() const;

  // While somebody has a text open, a number stands for that one: the kernel knows one length of each, whichever open file a program
  // asks about. Gives the one that is open there already, else `text`.
  Text open(std::uint64_t number, const Text& text);
  Text open_text(std::uint64_t number) const;  // null: nobody has it open

 private:
  struct Known {
    NodePtr node;
    std::uint64_t lookups = 0;
    std::uint64_t shown = 0;
    std::weak_ptr<const std::string> text;
  };
  const std::uint64_t secret_;
  std::atomic<std::uint64_t> made_{0};
  mutable std::mutex mutex_;
  std::unordered_map<std::uint64_t, Known> known_;
};

}  // namespace stp::view
