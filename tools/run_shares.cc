#include "tools/run_shares.h"

#include <fcntl.h>
#include <sys/fsuid.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <fstream>
#include <iterator>
#include <mutex>
#include <set>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "tools/run_sockets.h"

namespace stp {

using run::SocketName;
using namespace std::chrono_literals;

namespace {

constexpr std::ptrdiff_t kMostPortsOfUser = 1024;
constexpr std::size_t kMostPorts = 16384;
constexpr auto kCloses = 5ms;  // a close that does not take long is waited for so long
constexpr std::size_t kMostEnds = 32;  // threads that wait for the end of a close

// Runs it in a thread. False: there is no room for one.
template <typename Work>
bool run_aside(Work work, std::thread& thread) {
  try {
    thread = std::thread(std::move(work));
  } catch (const std::system_error&) {
    return false;
  }
  return true;
}

// A socket is the user's as whom the thread made it. That thread does nothing else, and ends as that user.
UniqueFd socket_of(uid_t user) {
  UniqueFd made;
  int code = EAGAIN;
  const auto make = [&] {
    if (user != ::geteuid()) (void)::setfsuid(user);
    struct stat facts = {};
    made.reset(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    code = errno;
    if (!made || (::fstat(made.get(), &facts) == 0 && facts.st_uid == user)) return;
    made.reset();
    code = EPERM;
  };
  static std::mutex one_at_a_time;
  const std::lock_guard lock(one_at_a_time);
  const int dumpable = ::prctl(PR_GET_DUMPABLE);  // setfsuid(2) ends it for the whole process
  if (std::thread thread; run_aside(make, thread)) thread.join();
  if (dumpable == 1) (void)::prctl(PR_SET_DUMPABLE, 1);
  errno = code;
  return made;
}

// In a user namespace that does not know all users, the kernel names those that it does not know alike.
bool may_be_anybody(uid_t user) {
  uid_t overflow = 65534;
  std::ifstream("/proc/sys/kernel/overflowuid") >> overflow;
  if (user != overflow) return false;
  std::uint64_t inside = 1, outside = 1, count = 0;
  std::ifstream("/proc/self/uid_map") >> inside >> outside >> count;
  return inside != 0 || outside != 0 || count < UINT32_MAX;
}

}  // namespace

// The users whose sockets are being closed, and of which ports they are, known to the threads that do it.
struct RunShares::Ends {
  std::mutex mutex;
  std::condition_variable ended;
  std::set<uid_t> users;
  std::set<std::uint16_t> ports;
};

RunShares::RunShares(const RunHosts& hosts) : hosts_(hosts), ends_(std::make_shared<Ends>()) {}

int RunShares::make(std::uint16_t port, uid_t user) {
  {
    const std::lock_guard lock(ends_->mutex);
    if (ends_->users.contains(user) || may_be_anybody(user)) return EPERM;
  }
  const auto of_user = std::ranges::count_if(shares_, [user](const auto& known) { return known.second.user == user; });
  if (of_user >= kMostPortsOfUser || shares_.size() >= kMostPorts) return ENOBUFS;
  Share share;
  share.user = user;
  for (const bool v6 : {false, true}) {
    UniqueFd& name = share.names[v6 ? 1 : 0];
    name = socket_of(user);
    if (!name || !bind_to(name.get(), SocketName::listener({hosts_.own_address(), port}, v6, hosts_.storage_tag()))) return errno;
  }
  shares_[port] = std::move(share);
  return 0;
}

int RunShares::give(std::uint16_t port, bool v6, uid_t user, UniqueFd& copy) {
  if (port == 0) return EINVAL;
  if (port < run::kFirstFreePort && user != 0) return EACCES;
  auto share = shares_.find(port);
  if (share != shares_.end() && share->second.user != user) {
    if (const int code = give_up(port); code != 0) return EADDRINUSE;
    share = shares_.end();
  }
  if (share == shares_.end()) {
    if (const int code = make(port, user); code != 0) return code;
    share = shares_.find(port);
  }
  copy.reset(::fcntl(share->second.names[v6 ? 1 : 0].get(), F_DUPFD_CLOEXEC, 0));
  if (!copy) return ENOBUFS;
  share->second.missed = false;
  return 0;
}

void RunShares::look(const std::map<std::uint16_t, RunPort>& ports) {
  std::vector<std::uint16_t> unused;
  for (auto& [number, share] : shares_) {
    const auto there = ports.find(number);
    const bool missed = there == ports.end() || !there->second.sharers.contains(share.user);
    if (std::exchange(share.missed, missed) && missed) unused.push_back(number);
  }
  for (const std::uint16_t number : unused) (void)close(number);
}

int RunShares::give_up(std::uint16_t number) {
  const auto share = shares_.find(number);
  std::unique_lock lock(ends_->mutex);
  if (share == shares_.end()) return ends_->ports.contains(number) ? EAGAIN : 0;
  lock.unlock();
  for (int look = 0; look < kRunPortLooks; ++look) {
    std::map<std::uint16_t, RunPort> ports;
    if (!read_run_ports(hosts_, ports) || ports[number].sharers.contains(share->second.user)) return EADDRINUSE;
  }
  if (!close(number)) return EAGAIN;
  lock.lock();
  return ends_->ended.wait_for(lock, kCloses, [&] { return !ends_->ports.contains(number); }) ? 0 : EAGAIN;
}

// Begins to. False: not now.
bool RunShares::close(std::uint16_t number) {
  const auto share = shares_.find(number);
  const uid_t user = share->second.user;
  const std::lock_guard lock(ends_->mutex);
  if (ends_->users.size() >= kMostEnds || !ends_->users.insert(user).second) return false;
  ends_->ports.insert(number);
  std::array<int, 2> names = {share->second.names[0].get(), share->second.names[1].get()};
  std::thread thread;
  const bool begun = run_aside([ends = ends_, user, number, names] {
    for (const int name : names) (void)::close(name);
    const std::lock_guard inner(ends->mutex);
    ends->users.erase(user);
    ends->ports.erase(number);
    ends->ended.notify_all();
  }, thread);
  if (!begun) {
    ends_->users.erase(user);
    ends_->ports.erase(number);
    return false;
  }
  thread.detach();
  for (UniqueFd& name : share->second.names) (void)name.release();
  shares_.erase(share);
  return true;
}

// What can not be closed in a thread goes with the process, which does not wait for anything then.
void RunShares::close_all() {
  while (!shares_.empty()) {
    const std::uint16_t number = shares_.begin()->first;
    (void)close(number);
    const auto left = shares_.find(number);
    if (left == shares_.end()) continue;
    for (UniqueFd& name : left->second.names) (void)name.release();
    shares_.erase(left);
  }
}

}  // namespace stp
