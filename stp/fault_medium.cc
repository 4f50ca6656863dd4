#include "stp/fault_medium.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "stp/transfer.h"

namespace stp {
namespace {

constexpr std::byte kRubbish{0xdb};  // what a read that failed leaves

}  // namespace

FaultMedium::FaultMedium(std::unique_ptr<Medium> under, const FaultPlan& plan, std::uint64_t seed, std::function<Nanos()> clock)
    : under_(std::move(under)), plan_(plan), random_(seed), clock_(std::move(clock)) {}

FaultMedium::~FaultMedium() { under_.reset(); }  // first of all: until then it may use the jobs' memory

FaultMedium::JobId FaultMedium::take_job() {
  if (free_.empty()) {
    jobs_.emplace_back();
    return static_cast<JobId>(jobs_.size() - 1);
  }
  const JobId id = free_.back();
  free_.pop_back();
  return id;
}

void FaultMedium::submit(const IoRequest& request) {
  const JobId id = take_job();
  Job& job = jobs_[id];
  job = Job{.request = request, .fate = {}, .own = {}};
  if (const int error = check_request(request, block_size(), total_blocks()); error != 0) {
    job.error = error;
    return over(id);
  }
  job.fate = draw_fate(random_, plan_, request, block_size(), total_blocks());
  if (job.fate.good(request)) {
    job.stage = Stage::kMoves;
    return pass(id, request.op, request.block, request.buffer, request.prompt);
  }
  if (job.fate.delay == 0) return start(id);
  // Whether the bytes move early or late in that time is another matter.
  const Nanos now = clock_();
  job.completes = now + job.fate.delay;
  at(now + random_.between(0, job.fate.delay), id);
}

void FaultMedium::start(JobId id) {
  Job& job = jobs_[id];
  if (job.request.op == IoRequest::Op::kWrite) return start_write(id);
  job.stage = Stage::kMoves;
  if (job.fate.error == 0) return pass(id, IoRequest::Op::kRead, job.request.block, job.request.buffer, false);
  std::fill_n(job.request.buffer, bytes_of(job.request), kRubbish);
  moved(id, 0);
}

void FaultMedium::start_write(JobId id) {
  Job& job = jobs_[id];
  job.stage = Stage::kMoves;
  if (job.fate.nothing_lands()) return moved(id, 0);
  if (job.fate.missing.empty() && job.fate.flips.empty())
    return pass(id, IoRequest::Op::kWrite, job.fate.place, job.request.buffer, false);
  job.own = AlignedBuffer(bytes_of(job.request));
  if (!job.fate.missing.empty()) {
    job.stage = Stage::kReadsOld;
    return pass(id, IoRequest::Op::kRead, job.fate.place, job.own.data(), false);
  }
  overlay(job);
  pass(id, IoRequest::Op::kWrite, job.fate.place, job.own.data(), false);
}

// What lands, over what is in the job's own memory.
void FaultMedium::overlay(Job& job) const {
  const std::size_t sectors = bytes_of(job.request) / kFaultSectorBytes;
  const auto stays = [&](std::size_t sector) { return !job.fate.missing.empty() && job.fate.missing[sector]; };
  for (std::size_t s = 0; s < sectors; ++s)
    if (!stays(s)) std::memcpy(job.own.data() + s * kFaultSectorBytes, job.request.buffer + s * kFaultSectorBytes, kFaultSectorBytes);
  std::erase_if(job.fate.flips, [&](std::uint64_t bit) { return stays(bit / 8 / kFaultSectorBytes); });
  flip_bits(job.own.span(), job.fate.flips);
}

void FaultMedium::pass(JobId id, IoRequest::Op op, std::uint64_t block, std::byte* buffer, bool prompt) {
  under_->submit({.op = op, .block = block, .blocks = jobs_[id].request.blocks, .buffer = buffer, .token = id, .prompt = prompt});
}

// The medium below is done with the request that was passed to it.
void FaultMedium::moved(JobId id, int error) {
  Job& job = jobs_[id];
  if (job.stage == Stage::kRepeats) {
    job = {};
    free_.push_back(id);
    return;
  }
  if (job.stage == Stage::kReadsOld && error == 0) {
    overlay(job);
    job.stage = Stage::kMoves;
    return pass(id, IoRequest::Op::kWrite, job.fate.place, job.own.data(), false);
  }
  job.error = error != 0 ? error : job.fate.error;
  if (job.request.op == IoRequest::Op::kRead && job.error == 0) flip_bits({job.request.buffer, bytes_of(job.request)}, job.fate.flips);
  if (job.fate.undo_after > 0 && job.error == 0 && !job.fate.nothing_lands()) {
    const JobId again = take_job();
    Job& from = jobs_[id];
    AlignedBuffer kept = std::move(from.own);
    if (!kept) {
      kept = AlignedBuffer(bytes_of(from.request));
      std::memcpy(kept.data(), from.request.buffer, bytes_of(from.request));
    }
    jobs_[again] = Job{.request = from.request, .fate = {.place = from.fate.place}, .stage = Stage::kRepeats, .own = std::move(kept)};
    at(clock_() + from.fate.undo_after, again);
  }
  Job& done = jobs_[id];
  done.stage = Stage::kIsOver;
  if (done.completes > 0 && done.completes > clock_()) return at(done.completes, id);
  over(id);
}

void FaultMedium::over(JobId id) {
  ready_.push_back({.token = jobs_[id].request.token, .error = jobs_[id].error});
  jobs_[id] = {};
  free_.push_back(id);
  next_due_.store(0);
  if (waits_until_.load() > 0) under_->wake();
}

void FaultMedium::at(Nanos when, JobId id) {
  timers_.emplace(when, id);
  const Nanos due = std::min(next_due_.load(), when);
  next_due_.store(due);
  if (due < waits_until_.load()) under_->wake();
}

void FaultMedium::do_what_is_due() {
  const Nanos now = timers_.empty() ? 0 : clock_();
  while (!timers_.empty() && timers_.begin()->first <= now) {
    const JobId id = timers_.begin()->second;
    timers_.erase(timers_.begin());
    Job& job = jobs_[id];
    if (job.stage == Stage::kIsOver)
      over(id);
    else if (job.stage == Stage::kRepeats)
      pass(id, IoRequest::Op::kWrite, job.fate.place, job.own.data(), false);
    else
      start(id);
  }
}

void FaultMedium::flush() {
  do_what_is_due();
  under_->flush();
}

std::size_t FaultMedium::reap(std::span<IoCompletion> out) {
  do_what_is_due();
  std::array<IoCompletion, 64> below;
  while (const std::size_t n = under_->reap(below)) {
    for (std::size_t i = 0; i < n; ++i) moved(static_cast<JobId>(below[i].token), below[i].error);
    if (n < below.size()) break;
  }
  under_->flush();
  std::size_t count = 0;
  while (count < out.size() && !ready_.empty()) {
    out[count++] = ready_.front();
    ready_.pop_front();
  }
  next_due_.store(!ready_.empty() ? 0 : timers_.empty() ? kNever : timers_.begin()->first);
  return count;
}

void FaultMedium::wait(Nanos deadline, Nanos spin) {
  // The mark first, then the look; who submits does it the other way round.
  waits_until_.store(deadline);
  if (const Nanos due = std::min(deadline, next_due_.load()); due > 0) under_->wait(due, spin);
  waits_until_.store(0);
}

}  // namespace stp
