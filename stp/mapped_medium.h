// The mapped medium: every request is a copy, done inside submit. For storages whose hosts are all processes of one kernel.
//
// After a SIGBUS (the file was cut short, its tmpfs is full) that request and all later ones complete with EIO: the memory
// under this storage can not be trusted any more.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <deque>
#include <memory>

#include "stp/doorbell.h"
#include "stp/mapping.h"
#include "stp/medium.h"

namespace stp {

class MappedMedium final : public Medium {
 public:
  MappedMedium(std::shared_ptr<const Mapping> mapping, std::uint32_t block_size, std::uint64_t total_blocks);

  std::uint32_t block_size() const override { return block_size_; }
  std::uint64_t total_blocks() const override { return total_blocks_; }
  void submit(const IoRequest& request) override;
  void flush() override {}
  std::size_t reap(std::span<IoCompletion> out) override;
  void wait(Nanos deadline, Nanos spin) override;
  void wake() override { bell_.ring(); }

 private:
  int execute(const IoRequest& request);

  const std::shared_ptr<const Mapping> mapping_;
  const std::uint32_t block_size_;
  const std::uint64_t total_blocks_;
  bool failed_ = false;
  std::deque<IoCompletion> done_;
  std::atomic<std::size_t> done_count_{0};
  Doorbell bell_;
  std::atomic<Nanos> yielded_at_{0};
};

}  // namespace stp
