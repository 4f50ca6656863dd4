#include "stp/io_queue.h"

#include <array>
#include <utility>

namespace stp {

void IoQueue::start(IoRequest::Op op, std::uint64_t block, std::uint32_t blocks, std::byte* buffer, Done done, bool prompt) {
  std::uint32_t index = 0;
  if (free_.empty()) {
    index = static_cast<std::uint32_t>(slots_.size());
    slots_.emplace_back();
  } else {
    index = free_.back();
    free_.pop_back();
  }
  const bool write = op == IoRequest::Op::kWrite;
  slots_[index] = {std::move(done), write};
  ++in_flight_;
  const std::uint64_t bytes = static_cast<std::uint64_t>(blocks) * medium_.block_size();
  if (write) {
    ++writes_in_flight_;
    ++writes;
    write_bytes += bytes;
  } else {
    ++reads;
    read_bytes += bytes;
  }
  medium_.submit({.op = op, .block = block, .blocks = blocks, .buffer = buffer, .token = index, .prompt = prompt});
}

std::size_t IoQueue::reap() {
  std::array<IoCompletion, 64> completions;
  const std::size_t n = medium_.reap(completions);
  for (std::size_t i = 0; i < n; ++i) {
    const auto index = static_cast<std::uint32_t>(completions[i].token);
    // The slot is free before its callback runs: callbacks start new requests.
    Slot slot = std::exchange(slots_[index], {});
    free_.push_back(index);
    --in_flight_;
    if (slot.write) --writes_in_flight_;
    if (completions[i].error != 0) ++errors;
    slot.done(completions[i].error);
  }
  return n;
}

}  // namespace stp
