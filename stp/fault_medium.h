// Faults over any medium: a layer that fails, delays, tears, loses, misdirects, repeats and damages requests as STP_FAULTS says
// (fault_plan.h), so that a program can be tried under them on the storage that it has.
//
// What a fate asks for beyond the request itself, the layer does with requests of its own: a torn write reads what is there and
// writes the mixture; a write that is repeated is kept in memory until then. Those of a medium that is destroyed are let go.
#pragma once

#include <atomic>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <vector>

#include "stp/request_fate.h"

namespace stp {

class FaultMedium final : public Medium {
 public:
  FaultMedium(std::unique_ptr<Medium> under, const FaultPlan& plan, std::uint64_t seed, std::function<Nanos()> clock);
  ~FaultMedium() override;

  std::uint32_t block_size() const override { return under_->block_size(); }
  std::uint64_t total_blocks() const override { return under_->total_blocks(); }
  void submit(const IoRequest& request) override;
  void flush() override;
  bool keeps() const override { return under_->keeps(); }
  std::shared_ptr<const Count> under_way_by_this_thread() const override { return under_->under_way_by_this_thread(); }
  void carry_out() override { under_->carry_out(); }
  void let_go() override { under_->let_go(); }
  std::size_t reap(std::span<IoCompletion> out) override;
  void wait(Nanos deadline, Nanos spin) override;
  void wake() override { under_->wake(); }

 private:
  enum class Stage : std::uint8_t { kWaits, kReadsOld, kMoves, kIsOver, kRepeats };
  struct Job {
    IoRequest request;
    RequestFate fate;
    Stage stage = Stage::kWaits;
    Nanos completes = 0;  // not before then
    int error = 0;
    AlignedBuffer own;    // what is really written, where that is not what was asked for
  };
  using JobId = std::uint32_t;

  JobId take_job();
  void start(JobId id);
  void start_write(JobId id);
  void overlay(Job& job) const;
  void pass(JobId id, IoRequest::Op op, std::uint64_t block, std::byte* buffer, bool prompt);
  void moved(JobId id, int error);
  void over(JobId id);
  void at(Nanos when, JobId id);
  void do_what_is_due();
  std::size_t bytes_of(const IoRequest& request) const { return static_cast<std::size_t>(request.blocks) * block_size(); }

  std::unique_ptr<Medium> under_;
  const FaultPlan plan_;
  Dice random_;
  const std::function<Nanos()> clock_;
  std::vector<Job> jobs_;  // by id, which is the token of the medium under this one
  std::vector<JobId> free_;
  std::multimap<Nanos, JobId> timers_;
  std::deque<IoCompletion> ready_;
  // For the thread that waits, while others submit: when something is due that the medium below knows nothing of.
  std::atomic<Nanos> next_due_{kNever};
  std::atomic<Nanos> waits_until_{0};  // 0: nobody waits
};

}  // namespace stp
