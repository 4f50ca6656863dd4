#include "tools/bench_role.h"

#include <fmt/format.h>
#include <sys/resource.h>

#include <iostream>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "hostlib/host_options.h"
#include "hostlib/stp.h"
#include "tools/bench_near.h"
#include "tools/unix_rival.h"

namespace stp::tools {
namespace {

Result<void> sink(BenchSocket& socket, std::uint32_t send_bytes) {
  std::vector<char> buffer(receive_bytes_for(send_bytes));
  std::uint64_t total = 0;
  for (;;) {
    auto n = socket.receive_some(buffer.data(), buffer.size());
    if (!n) return std::unexpected(n.error());
    if (*n == 0) return socket.send(&total, sizeof total);
    total += *n;
  }
}

// Gives back what came, or the time at which it came, until EOF.
Result<void> answer(BenchSocket& socket, bool stamp) {
  char message[64];
  for (;;) {
    auto n = socket.receive_some(message, stamp ? 1 : sizeof message);
    if (!n) return std::unexpected(n.error());
    if (*n == 0) return {};
    const std::int64_t now = boottime_ns();
    auto done = stamp ? socket.send(&now, sizeof now) : socket.send(message, *n);
    if (!done) return done;
  }
}

// Many sockets, one thread: takes what there is until each one's end, and answers how much it was.
class Pool {
 public:
  void add(BenchSocket socket) {
    std::lock_guard lock(mutex_);
    arriving_.push_back(std::move(socket));
    if (!thread_.joinable()) thread_ = std::thread([this] { run(); });
  }
  static Pool& get() {
    static Pool& pool = *new Pool;  // its thread is never ended
    return pool;
  }

 private:
  struct Taken {
    BenchSocket socket;
    std::uint64_t bytes = 0;
  };
  void run() {
    std::vector<Taken> all;
    std::vector<char> buffer(256 * 1024);
    for (;;) {
      {
        std::lock_guard lock(mutex_);
        for (BenchSocket& socket : arriving_) all.push_back({std::move(socket)});
        arriving_.clear();
      }
      std::vector<pollfd> waits;
      for (const Taken& each : all) waits.push_back({each.socket.number(), POLLIN, 0});
      if (STPpoll(waits.data(), waits.size(), 50) <= 0) continue;
      std::vector<Taken> left;
      for (std::size_t i = 0; i < all.size(); ++i)
        if ((waits[i].revents == 0) || take(all[i], buffer)) left.push_back(std::move(all[i]));
      all = std::move(left);
    }
  }
  static bool take(Taken& each, std::vector<char>& buffer) {
    const auto n = each.socket.receive_some(buffer.data(), buffer.size());
    if (n && *n > 0) {
      each.bytes += *n;
      return true;
    }
    if (n) (void)each.socket.send(&each.bytes, sizeof each.bytes);
    return false;
  }
  std::mutex mutex_;
  std::vector<BenchSocket> arriving_;
  std::thread thread_;
};

void hold(BenchSocket socket) {
  static std::mutex mutex;
  static std::vector<BenchSocket>& held = *new std::vector<BenchSocket>;
  std::lock_guard lock(mutex);
  held.push_back(std::move(socket));
}

void serve(BenchSocket socket) {
  BenchHello hello;
  if (!socket.receive(&hello, sizeof hello)) return;
  socket.set_spin(hello.spin_us);
  if (hello.job == BenchJob::kPool) return Pool::get().add(std::move(socket));
  if (hello.job == BenchJob::kHold) return hold(std::move(socket));
  const auto done = hello.job == BenchJob::kSink ? sink(socket, hello.send_bytes) : answer(socket, hello.job == BenchJob::kStamp);
  if (!done) fmt::print(stderr, "stp bench: the serving host: {}\n", done.error().text);
}

void serve_in_a_thread(BenchSocket socket) { std::thread(serve, std::move(socket)).detach(); }

// One conversation after the other: whoever has connected is heard out, and that is all.
void hear_out(BenchSocket socket) {
  char byte = 0;
  while (socket.receive_some(&byte, sizeof byte).value_or(0) > 0) {
  }
}

// Listens, says the port on standard output, and has each connection taken by a thread that never ends.
bool listen_and(void (*take)(BenchSocket)) {
  auto listener = BenchSocket::make();
  auto address = listener ? listener->listen() : Result<Address>(std::unexpected(listener.error()));
  std::cout << (address ? fmt::format("{}", address->port) : "error " + address.error().text) << std::endl;
  if (!address) return false;
  std::thread([listener = std::move(*listener), take]() mutable {
    for (;;) {
      auto socket = listener.accept();
      if (!socket) return;
      take(std::move(*socket));
    }
  }).detach();
  return true;
}

// Each line is the wish for another listener, one for connects.
int run_far() {
  bool good = listen_and(serve_in_a_thread);
  std::string line;
  while (good && std::getline(std::cin, line)) good = listen_and(hear_out);
  if (!good) return 1;
  std::exit(0);  // the accepting threads are still in their calls
}

}  // namespace

int run_bench_role(const BenchRoleOptions& options) {
  rlimit limit = {};
  if (::getrlimit(RLIMIT_NOFILE, &limit) == 0) {
    limit.rlim_cur = limit.rlim_max;
    (void)::setrlimit(RLIMIT_NOFILE, &limit);
  }
  host::set_storage_path(options.stg);
  host::set_host_name(options.host);
  host::set_agent_path(options.agent.empty() ? "none" : options.agent);
  return options.role == "far" ? run_far() : run_bench_near();
}

}  // namespace stp::tools
