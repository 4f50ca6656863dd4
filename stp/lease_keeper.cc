#include "stp/lease_keeper.h"

#include <algorithm>
#include <utility>

#include "stp/plant.h"

namespace stp {

LeaseKeeper::LeaseKeeper(const MembershipConfig& config, LeaseIo& io, Random& random, OwnLease lease, Nanos first_beat, Nanos now)
    : io_(io),
      random_(random),
      lease_(std::move(lease)),
      beat_period_(config.superblock.timing.beat_ms * kMillisecond),
      fence_(config.superblock.timing.fence_ms * kMillisecond),
      check_(config.superblock.timing.check_ms * kMillisecond),
      good_until_(first_beat + fence_),
      next_beat_(first_beat + beat_period_),
      written_(now),
      progressed_(now) {}

void LeaseKeeper::note_progress(std::uint64_t progress, Nanos now) {
  if (progress == progress_) return;
  progress_ = progress;
  progressed_ = now;
}

bool LeaseKeeper::engine_alive(Nanos now) const { return progress_ != progress_at_beat_ || now - progressed_ <= fence_ / 2; }

bool LeaseKeeper::judge(const LeaseReading& reading, Nanos now) {
  if (planted(Plant::kIgnoreForeignOwner)) return true;
  OwnJudgement judged = lease_.judge(reading, lease_good(now));
  if (judged.verdict == OwnVerdict::kRewrite && reading.error == 0)
    next_beat_ = std::min(next_beat_, now);  // do not leave that lying there
  if (judged.verdict != OwnVerdict::kStop) return true;
  stopped_ = std::move(judged.why);
  return false;
}

void LeaseKeeper::on_sweep(const LeaseSweep& sweep, Nanos now) {
  if (stopped_ || left_) return;
  const LeaseReading& own = sweep.slots[lease_.identity().slot];
  if (own.error != 0 || !judge(own, now)) return;
  if (!io_.writing() && sweep.submitted >= written_) checked_ = sweep.submitted;
}

void LeaseKeeper::on_read(const OwnRead& read, Nanos now) {
  if (stopped_ || left_ || read.slot != lease_.identity().slot) return;
  if (read.reading.error != 0) {
    next_beat_ = std::max(next_beat_, now + beat_period_ / 4);
    return;
  }
  // However long the read took: it was submitted after my last write was reaped, and nothing of mine has followed.
  if (judge(read.reading, now) && !io_.writing() && read.submitted >= written_) checked_ = now;
}

void LeaseKeeper::on_write(const OwnWrite& write, Nanos now) {
  written_ = now;
  checked_.reset();
  if (write.error != 0) {
    next_beat_ = std::max(now, write.submitted + beat_period_ / 4);
    return;
  }
  if (leaving_) {
    left_ = true;
  } else {
    good_until_ = std::max(good_until_, write.submitted + fence_);
  }
}

void LeaseKeeper::tick(const PeerWatch& watch, Nanos now) {
  if (stopped_ || left_ || io_.writing() || now < next_beat_) return;
  if (!leaving_ && !engine_alive(now)) {
    next_beat_ = now + beat_period_ / 4;
    return;
  }
  const bool looked = checked_ && now - *checked_ <= check_;
  if (looked || planted(Plant::kIgnoreForeignOwner)) {
    beat(watch, now);
  } else if (!io_.reading()) {
    io_.read(lease_.identity().slot, now);
  }
}

void LeaseKeeper::beat(const PeerWatch& watch, Nanos now) {
  checked_.reset();
  progress_at_beat_ = progress_;
  next_beat_ = now + beat_period_;
  io_.write(lease_.next(leaving_ ? LeaseState::kFree : LeaseState::kOwned, random_, watch.seen()), now);
}

void LeaseKeeper::leave(Nanos now) {
  if (leaving_ || io_.writing()) return;
  leaving_ = true;
  checked_.reset();
  written_ = now;
  next_beat_ = now;
}

Nanos LeaseKeeper::deadline() const {
  if (stopped_ || left_ || io_.writing() || io_.reading()) return kNever;
  return next_beat_;
}

}  // namespace stp
