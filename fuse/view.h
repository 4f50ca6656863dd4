// What the tree shows, as looked at not long ago. Nothing is read before somebody asks, and what was read serves everybody for a moment:
// the tables on the disk are up to a second old anyway. Any thread.
#pragma once

#include <array>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "fuse/node.h"
#include "fuse/source.h"
#include "stp/checker.h"
#include "stp/gate.h"
#include "stp/inspect.h"
#include "stp/system.h"

namespace stp::view {

// One look, kept for a while. An error is nobody's but whose look it was; but nobody waits for one that has taken too long already, or
// that has just failed that way: the kernel lets one lookup of a name wait for the other, and their waiting would add up.
template <class T>
class Kept {
 public:
  using Ptr = std::shared_ptr<const T>;
  // `too_long`: for a look to take.
  template <class Look>
  Result<Ptr> get(Patience patience, Nanos for_long, Nanos too_long, const Look& look) {
    if (Ptr kept = fresh(for_long)) return kept;
    if (hangs(too_long)) return takes_too_long();
    if (patience == Patience::kAtOnce) return not_at_once();
    std::lock_guard one_looks(look_mutex_);
    if (Ptr kept = fresh(for_long)) return kept;
    if (hangs(too_long)) return takes_too_long();
    const Nanos began = boottime_now();
    {
      std::lock_guard lock(mutex_);
      looking_since_ = began;
    }
    Result<T> seen = look();
    std::lock_guard lock(mutex_);
    at_ = boottime_now();
    looking_since_.reset();
    slow_failure_ = !seen && at_ - began > too_long / 2;
    if (!seen) {
      kept_ = nullptr;
      return std::unexpected(std::move(seen.error()));
    }
    kept_ = std::make_shared<const T>(std::move(*seen));
    return kept_;
  }
  void forget() {
    std::lock_guard lock(mutex_);
    kept_ = nullptr;
  }

 private:
  Ptr fresh(Nanos for_long) {
    std::lock_guard lock(mutex_);
    return kept_ != nullptr && boottime_now() - at_ <= for_long ? kept_ : nullptr;
  }
  static std::unexpected<Error> takes_too_long() { return fail(ETIMEDOUT, "the storage, or the agent, takes too long to answer"); }
  bool hangs(Nanos too_long) {
    std::lock_guard lock(mutex_);
    const Nanos now = boottime_now();
    return looking_since_ ? now - *looking_since_ >= too_long : slow_failure_ && now - at_ < kSlowFor;
  }
  static constexpr Nanos kSlowFor = kSecond;
  std::mutex look_mutex_, mutex_;
  Ptr kept_;
  Nanos at_ = 0;  // when the last look ended
  std::optional<Nanos> looking_since_;
  bool slow_failure_ = false;
};

struct Group {
  std::shared_ptr<BlockSource> blocks;
  std::vector<HostReport> hosts;   // by slot
  std::vector<std::string> names;  // by slot: of its directory; empty: it has none
  std::optional<Source::AgentFacts> agent;

  const Superblock& superblock() const { return blocks->superblock(); }
  const HostReport* find(std::string_view name) const;  // by the directory's name
};

struct Conduit {
  std::string name;  // FROM-TO
  Slot from = kNoSlot, to = kNoSlot;
  DecodedGate gate;  // what `from` writes for `to`
  DecodedGate back;  // what `to` writes for `from`: its acknowledgements
};

struct Faults {
  std::vector<Finding> findings;
  CheckSummary sum;
};

class View {
 public:
  struct Settings {
    Nanos fresh = 150 * kMillisecond;  // how long a look serves
    Nanos faults_fresh = 2 * kSecond;  // a check reads much more
    Nanos deadline = 5 * kSecond;      // nobody waits for a look that has taken longer
    WatchClock clock = WatchClock::real();
  };
  View(std::unique_ptr<Source> source, Settings settings);

  const Source& source() const { return *source_; }
  using GroupPtr = std::shared_ptr<const Group>;
  Result<GroupPtr> group(Patience patience);
  // Of one host, by the name of its directory. ENOENT: no such host (any more).
  Result<std::shared_ptr<const Listing<SocketRow>>> sockets(std::string_view host, Patience patience);
  Result<std::shared_ptr<const Listing<PortRow>>> ports(std::string_view host, Patience patience);
  Result<std::shared_ptr<const std::vector<Conduit>>> conduits(Patience patience);
  Result<std::shared_ptr<const Faults>> faults(Patience patience);
  // The next who asks looks anew.
  void forget();

 private:
  struct Tables {
    Kept<Listing<SocketRow>> sockets;
    Kept<Listing<PortRow>> ports;
  };
  Result<Group> look_at_group();
  std::shared_ptr<Tables> tables_of(Slot slot);
  template <class Row, class List>
  Result<std::shared_ptr<const Listing<Row>>> table(Kept<Listing<Row>> Tables::*kept, std::string_view host, Patience patience, const List& list);

  const std::unique_ptr<Source> source_;
  const Settings settings_;
  Kept<Group> group_;
  std::unique_ptr<HostWatch> watch_;  // under the look at the group
  Uuid watched_{};
  Kept<std::vector<Conduit>> conduits_;
  Kept<Faults> faults_;
  std::mutex mutex_;
  std::map<Slot, std::shared_ptr<Tables>> tables_;
};

}  // namespace stp::view
