// Client and server of a transfer die at any of the calls by which a file comes into being: the name has the whole file or is not there,
// and the same command again makes it whole, from where it ended, and leaves nothing else behind.
#include <fcntl.h>

#include "stp/dice.h"
#include "tests/crash_at_call.h"
#include "tests/tools/ftp_session.h"

namespace stp::ftp {
namespace {


constexpr std::uint32_t kMostCalls = 400;

class FtpCrash : public FtpSessionTest {
 protected:
  void fresh_directories() {
    for (const char* name : {"root", "local"}) {
      std::filesystem::remove_all(scratch_.path(name));
      scratch_.make(name);
    }
    scratch_.write(source(), content_);
    scratch_.write(bystander(), "not ours");
    // Half of the time there is a file of that name already: the old one, until the new one is whole.
    if (replaces_) scratch_.write(target(), "the old one");
  }
  std::string source() const { return puts_ ? "local/x" : "root/x"; }
  std::string target() const { return puts_ ? "root/x" : "local/x"; }
  std::string bystander() const { return puts_ ? "root/y.part" : "local/y.part"; }

  int transfer() {
    Watched watched;
    start_server();
    const auto done = puts_ ? put("x", watched) : get("x", watched);
    resumed_at_ = watched.resumed_at;
    stop_server();
    if (!done) last_failure_ = done.error().text;
    return done && watched.done == 1 && watched.failed.empty() ? 0 : 1;
  }
  CrashedChild crash(const CrashAtCall& at) {
    return run_and_crash(at, [this] { return transfer(); });
  }
  void expect_old_or_whole(const std::string& where) {
    if (!scratch_.has(target())) {
      EXPECT_FALSE(replaces_) << where;
      return;
    }
    const std::string there = scratch_.read(target());
    EXPECT_TRUE(there == content_ || (replaces_ && there == "the old one")) << where << ": " << there.size() << " bytes";
  }
  void expect_done(const std::string& where) {
    EXPECT_EQ(transfer(), 0) << where << ": " << last_failure_;
    EXPECT_TRUE(scratch_.read(target()) == content_) << where;
    EXPECT_EQ(scratch_.read(bystander()), "not ours") << where;
    std::filesystem::remove(scratch_.path(bystander()));
    expect_nothing_partial("root");
    expect_nothing_partial("local");
  }
  void die_everywhere() {
    Dice random(11);
    std::uint32_t died = 0, resumed = 0, died_twice = 0;
    for (std::uint32_t k = 0; k < kMostCalls; ++k) {
      bool reached = false;
      replaces_ = k % 2 != 0;
      for (const auto when : {CrashAtCall::When::kBefore, CrashAtCall::When::kDuring, CrashAtCall::When::kAfter}) {
        fresh_directories();
        const CrashedChild child = crash({.call = k, .when = when});
        if (!child.died) {
          EXPECT_EQ(child.status, 0);
          continue;
        }
        reached = true;
        ++died;
        std::string where = fmt::format("call {}, {}", k, static_cast<int>(when));
        expect_old_or_whole(where);
        // And again, somewhere in the second try.
        const CrashAtCall second{.call = static_cast<std::uint32_t>(random.below(24)), .when = static_cast<CrashAtCall::When>(random.below(3))};
        if (crash(second).died) ++died_twice;
        where += fmt::format(", then call {}, {}", second.call, static_cast<int>(second.when));
        expect_old_or_whole(where);
        expect_done(where);
        resumed += resumed_at_ > 0 && resumed_at_ < content_.size() ? 1 : 0;
        if (HasFailure()) return;
      }
      if (!reached) break;
    }
    EXPECT_GT(died, 15u);
    EXPECT_GT(died_twice, 10u);
    EXPECT_GT(resumed, 0u);
  }

  bool puts_ = true, replaces_ = false;
  std::string content_ = some_bytes(1'300'000, 5);
  std::uint64_t resumed_at_ = 0;
  std::string last_failure_;
};

TEST_F(FtpCrash, APutThatDiesAtAnyCallIsMadeWholeByTheNext) { die_everywhere(); }

TEST_F(FtpCrash, AGetThatDiesAtAnyCallIsMadeWholeByTheNext) {
  puts_ = false;
  die_everywhere();
}

}  // namespace
}  // namespace stp::ftp
