#include "stp/membership.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <optional>
#include <utility>

#include "stp/lease_io.h"
#include "stp/lease_keeper.h"
#include "stp/peer_watch.h"
#include "stp/plant.h"
#include "stp/slot_claim.h"

namespace stp {
namespace {

constexpr Nanos kNudgeSpacing = 20 * kMillisecond;  // reads that others can provoke are at least so far apart
constexpr Nanos kProbePeriod = 50 * kMillisecond;   // of the locks of hosts on this kernel
constexpr Nanos kEnginePoll = 5 * kMillisecond;     // while waiting for the engine to let go
constexpr Nanos kSilenceRefresh = kSecond;          // how often mere growth of a silence is posted

bool same(const Self& a, const Self& b) {
  return a.state == b.state && a.identity == b.identity && a.name == b.name && a.reason == b.reason && a.why == b.why &&
         a.error_code == b.error_code;
}

bool same(const Peer& a, const Peer& b) {
  return a.state == b.state && a.identity == b.identity && a.name == b.name && a.sees_me == b.sees_me && a.one_way == b.one_way &&
         a.refused_me == b.refused_me && a.same_kernel == b.same_kernel;
}

}  // namespace

class Membership::Impl {
 public:
  Impl(const MembershipConfig& config, Medium& medium, SlotLocks& locks, Random& random, MembershipBoard& board)
      : config_(config),
        random_(random),
        board_(board),
        locks_(locks),
        lock_(locks),
        io_(config.superblock, medium),
        watch_(config.superblock, config.identity),
        claim_(config_, lock_, io_, random),
        observe_(config.superblock.timing.observe_ms * kMillisecond),
        fence_(config.superblock.timing.fence_ms * kMillisecond) {}

  Nanos step(Nanos now);

 private:
  bool over() const { return self_.state == MemberState::kLeft || self_.state == MemberState::kStopped; }
  bool living() const { return self_.state == MemberState::kMember || self_.state == MemberState::kLeaving; }

  void begin(Nanos now);
  void check_fence(Nanos now);
  void take_completions(Nanos now);
  void on_sweep(const LeaseSweep& sweep, Nanos now);
  void advance(Nanos now);
  void advance_joining(Nanos now);
  void advance_member(Nanos now);
  void advance_fenced(Nanos now);
  void advance_leaving(Nanos now);
  void look_around(Nanos now);  // sweeps and probes
  void become_member(Nanos now);
  void fence(Reason reason, std::string why);
  void stop(std::string why, int error_code);
  void leave();
  void post(Nanos now);
  Nanos deadline(Nanos now) const;

  const MembershipConfig config_;
  Random& random_;
  MembershipBoard& board_;
  SlotLocks& locks_;
  HeldLock lock_;
  LeaseIo io_;
  PeerWatch watch_;
  SlotClaim claim_;
  Nanos observe_, fence_;

  bool begun_ = false;
  std::optional<LeaseKeeper> keeper_;  // of the current or last life
  Self self_;
  Nanos leaving_since_ = 0;

  Nanos next_sweep_ = 0;
  Nanos last_sweep_ = 0;
  bool look_now_ = false;  // somebody knocked, or a lock came free
  Nanos next_probe_ = 0;

  bool dirty_ = true;
  MembershipBoard::View posted_;
  Nanos posted_at_ = 0;
};

Nanos Membership::Impl::step(Nanos now) {
  if (!begun_) begin(now);
  check_fence(now);  // before any completion: what the engine saw run out does not come back
  take_completions(now);
  advance(now);
  look_around(now);
  io_.flush();
  post(now);
  return deadline(now);
}

void Membership::Impl::begin(Nanos now) {
  begun_ = true;
  next_sweep_ = next_probe_ = now;
  last_sweep_ = now - kNudgeSpacing;
  claim_.start(nullptr, now);
}

void Membership::Impl::check_fence(Nanos now) {
  if (!living() || now < keeper_->good_until()) return;
  const Nanos age = now - keeper_->good_until() + fence_;
  fence(Reason::kFenced,
        fmt::format("the lease of \"{}\" is {:.1f} s old, and good for {:.1f} s: the storage stalled, the program was stopped, or "
                    "this machine slept; its connections are reset, and it comes back by itself",
                    self_.name, in_seconds(age), in_seconds(fence_)));
}

void Membership::Impl::take_completions(Nanos now) {
  io_.reap();
  if (const auto write = io_.take_write()) {
    if (living() || self_.state == MemberState::kFenced)
      keeper_->on_write(*write, now);
    else if (self_.state == MemberState::kJoining)
      claim_.on_write(*write, watch_, now);
  }
  if (const auto read = io_.take_read(); read && living()) keeper_->on_read(*read, now);
  if (const auto sweep = io_.take_sweep()) on_sweep(*sweep, now);
}

void Membership::Impl::on_sweep(const LeaseSweep& sweep, Nanos now) {
  watch_.observe(sweep);
  claim_.observe(sweep);
  dirty_ = true;
  if (self_.state == MemberState::kJoining)
    claim_.on_sweep(sweep, watch_, now);
  else if (living())
    keeper_->on_sweep(sweep, now);
}

void Membership::Impl::advance(Nanos now) {
  if (self_.state == MemberState::kJoining) advance_joining(now);
  if (self_.state == MemberState::kMember) advance_member(now);
  if (self_.state == MemberState::kLeaving) advance_leaving(now);
  if (self_.state == MemberState::kFenced) advance_fenced(now);
  if (over() && io_.idle() && self_.state == MemberState::kLeft) lock_.release();
}

void Membership::Impl::advance_joining(Nanos now) {
  if (board_.leave_wanted() && claim_.phase() != SlotClaim::Phase::kDone) {
    if (leaving_since_ == 0) leaving_since_ = now;
    if (!io_.writing() || now >= leaving_since_ + fence_) leave();
    return;
  }
  claim_.tick(now);
  if (claim_.phase() == SlotClaim::Phase::kDone) return become_member(now);
  if (claim_.phase() == SlotClaim::Phase::kStopped) return stop(claim_.why(), claim_.error_code());
  if (self_.why == claim_.why()) return;
  self_.why = claim_.why();
  dirty_ = true;
}

void Membership::Impl::become_member(Nanos now) {
  keeper_.emplace(config_, io_, random_, claim_.lease(), claim_.owned_since(), now);
  keeper_->note_progress(board_.progress(), now);
  self_ = {.state = MemberState::kMember,
           .identity = keeper_->lease().identity(),
           .name = keeper_->lease().name(),
           .reason = Reason::kNone,
           .why = {},
           .error_code = 0,
           .ended = std::move(self_.ended)};
  watch_.set_self(self_.identity);
  board_.post_lease(keeper_->good_until());
  dirty_ = true;
}

void Membership::Impl::advance_member(Nanos now) {
  if (board_.leave_wanted()) {
    self_.state = MemberState::kLeaving;
    leaving_since_ = now;
    dirty_ = true;
    return;
  }
  if (board_.rebirth_wanted() == self_.identity.incarnation)
    return fence(Reason::kRefused,
                 fmt::format("a peer's gate refuses incarnation {} of \"{}\": it was called dead; its connections are reset, and it "
                             "comes back by itself",
                             self_.identity.incarnation, self_.name));
  if (const auto slot = watch_.refuser(); slot && !planted(Plant::kIgnoreRefusal))
    return fence(Reason::kRefused,
                 fmt::format("host \"{}\" (slot {}) refuses incarnation {} of \"{}\", which it called dead; its connections are "
                             "reset, and it comes back by itself",
                             watch_.peers()[*slot].name, *slot, self_.identity.incarnation, self_.name));
  keeper_->note_progress(board_.progress(), now);
  if (!keeper_->stopped()) keeper_->tick(watch_, now);
  if (keeper_->stopped()) return stop(*keeper_->stopped(), ESTALE);
  board_.post_lease(keeper_->good_until());
}

void Membership::Impl::advance_leaving(Nanos now) {
  if (keeper_->stopped() || keeper_->left() || now >= leaving_since_ + fence_) return leave();
  // Once the engine has let go, and my last beat was reaped, the slot is freed.
  keeper_->note_progress(board_.progress(), now);
  if (board_.quiesced_incarnation() == self_.identity.incarnation) keeper_->leave(now);
  keeper_->tick(watch_, now);
  board_.post_lease(keeper_->good_until());
}

void Membership::Impl::advance_fenced(Nanos now) {
  const bool quiesced = board_.quiesced_incarnation() == self_.identity.incarnation;
  if (board_.leave_wanted()) {
    if (leaving_since_ == 0) leaving_since_ = now;
    if (quiesced || now >= leaving_since_ + fence_) leave();
    return;
  }
  if (!quiesced || io_.writing()) return;
  self_ = {.state = MemberState::kJoining, .identity = {}, .name = {}, .reason = Reason::kNone, .why = {}, .error_code = 0, .ended = std::move(self_.why)};
  claim_.start(&keeper_->lease(), now);
  self_.why = claim_.why();
  dirty_ = true;
}

void Membership::Impl::fence(Reason reason, std::string why) {
  self_.state = MemberState::kFenced;
  self_.reason = reason;
  self_.why = std::move(why);
  self_.error_code = ENETDOWN;
  board_.post_lease(0);
  dirty_ = true;
}

void Membership::Impl::stop(std::string why, int error_code) {
  self_.state = MemberState::kStopped;
  self_.reason = Reason::kStopped;
  self_.why = std::move(why);
  self_.error_code = error_code;
  board_.post_lease(0);
  dirty_ = true;
}

void Membership::Impl::leave() {
  self_.state = MemberState::kLeft;
  board_.post_lease(0);
  dirty_ = true;
}

void Membership::Impl::look_around(Nanos now) {
  if (over()) return;
  if (now >= next_probe_) {
    next_probe_ = now + kProbePeriod;
    if (watch_.wants_probe()) {
      look_now_ |= watch_.probe(locks_, now);
      dirty_ = true;
    }
  }
  look_now_ |= board_.take_nudge();
  const bool joining = self_.state == MemberState::kJoining;
  const bool due = now >= next_sweep_ || (look_now_ && now >= last_sweep_ + kNudgeSpacing) || (joining && claim_.wants_sweep(now));
  if (!due || io_.sweeping()) return;
  look_now_ = false;
  last_sweep_ = now;
  next_sweep_ = now + observe_;
  io_.sweep(now);
}

void Membership::Impl::post(Nanos now) {
  if (!dirty_) return;
  dirty_ = false;
  MembershipBoard::View view{.self = self_, .peers = watch_.peers(), .slots_in_use = watch_.slots_in_use(), .version = 0};
  const bool news = posted_at_ == 0 || !same(view.self, posted_.self) || view.slots_in_use != posted_.slots_in_use ||
                    !std::ranges::equal(view.peers, posted_.peers, [](const Peer& a, const Peer& b) { return same(a, b); });
  if (!news && now < posted_at_ + kSilenceRefresh) return;
  posted_at_ = std::max<Nanos>(now, 1);
  posted_ = view;
  board_.post(std::move(view));
}

Nanos Membership::Impl::deadline(Nanos now) const {
  if (over()) return io_.idle() ? kNever : now + observe_;
  Nanos at = next_probe_ > now && watch_.wants_probe() && locks_.usable() ? next_probe_ : kNever;
  if (!io_.sweeping()) at = std::min(at, look_now_ ? std::max(last_sweep_ + kNudgeSpacing, now) : next_sweep_);
  at = std::min(at, now + observe_);  // progress, nudges and wishes are looked at in time
  switch (self_.state) {
    case MemberState::kJoining:
      return std::min(at, std::max(claim_.deadline(), now));
    case MemberState::kMember:
      return std::min({at, keeper_->deadline(), keeper_->good_until()});
    case MemberState::kLeaving:
      return std::min({at, keeper_->deadline(), keeper_->good_until(), leaving_since_ + fence_, now + kEnginePoll});
    case MemberState::kFenced:
      return std::min(at, now + kEnginePoll);
    case MemberState::kLeft:
    case MemberState::kStopped:
      break;
  }
  return at;
}

Membership::Membership(const MembershipConfig& config, Medium& medium, SlotLocks& locks, Random& random, MembershipBoard& board)
    : impl_(std::make_unique<Impl>(config, medium, locks, random, board)) {}

Membership::~Membership() = default;

Nanos Membership::step(Nanos now) { return impl_->step(now); }

}  // namespace stp
