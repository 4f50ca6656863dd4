// The direct medium through threads, for where io_uring is not allowed: a few workers that do one blocking pread or
// pwrite at a time. Workers start as requests queue up, up to kMaxWorkers, block all signals, and end with the medium.
#pragma once

#include <memory>

#include "stp/error.h"
#include "stp/medium.h"
#include "stp/prompt_write.h"
#include "stp/storage_file.h"

namespace stp {

class ThreadMedium final : public Medium {
 public:
  static constexpr unsigned kMaxWorkers = 12;  // the bulk requests of a host that streams both ways, and some for its small ones

  static Result<std::unique_ptr<Medium>> create(std::shared_ptr<StorageFile> file, std::uint32_t block_size, std::uint64_t total_blocks);
  ~ThreadMedium() override;

  std::uint32_t block_size() const override { return block_size_; }
  std::uint64_t total_blocks() const override { return total_blocks_; }
  void submit(const IoRequest& request) override;
  void flush() override {}
  bool keeps() const override { return prompt_.kept(); }
  void carry_out() override;
  void let_go() override;
  std::size_t reap(std::span<IoCompletion> out) override;
  void wait(Nanos deadline, Nanos spin) override;
  void wake() override;

 private:
  struct Pool;
  void queue(const IoRequest& request);
  ThreadMedium(std::unique_ptr<Pool> pool, std::uint32_t block_size, std::uint64_t total_blocks);

  std::unique_ptr<Pool> pool_;
  const std::uint32_t block_size_;
  const std::uint64_t total_blocks_;
  PromptWrite prompt_;
};

}  // namespace stp
