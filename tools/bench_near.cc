// The measuring host of the bench.

#include "tools/bench_near.h"

#include <fmt/format.h>
#include <sys/resource.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <fstream>
#include <optional>
#include <iostream>
#include <sstream>
#include <thread>
#include <utility>

#include "hostlib/runtime.h"
#include "tools/bench_report.h"
#include "tools/unix_rival.h"

namespace stp::tools {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

double seconds_since(Clock::time_point begin) { return std::chrono::duration<double>(Clock::now() - begin).count(); }

Result<BenchSocket> dial(const Address& far, BenchJob job, std::uint32_t spin_us, std::size_t send_bytes = 0) {
  auto socket = BenchSocket::make();
  if (!socket) return socket;
  if (auto done = socket->connect(far); !done) return std::unexpected(done.error());
  const BenchHello hello{job, spin_us, static_cast<std::uint32_t>(send_bytes)};
  if (auto done = socket->send(&hello, sizeof hello); !done) return std::unexpected(done.error());
  return socket;
}

// One stream: sends for as long as told, ends its direction, and gives how much the far side says it received.
Result<std::uint64_t> stream_one(BenchSocket& socket, const std::vector<char>& data, Clock::time_point end) {
  // Few bytes cost less than a look at the clock.
  const int at_once = sends_between_looks(data.size());
  while (Clock::now() < end) {
    for (int i = 0; i < at_once; ++i)
      if (auto done = socket.send(data.data(), data.size()); !done) return std::unexpected(done.error());
  }
  if (auto done = socket.end_sending(); !done) return std::unexpected(done.error());
  std::uint64_t received = 0;
  if (auto done = socket.receive(&received, sizeof received); !done) return std::unexpected(done.error());
  return received;
}

Result<std::string> stream(const Address& far, unsigned sockets, std::size_t bytes, milliseconds duration) {
  std::vector<BenchSocket> all;
  for (unsigned i = 0; i < sockets; ++i) {
    auto socket = dial(far, BenchJob::kSink, kSpinAsItIs, bytes);
    if (!socket) return std::unexpected(socket.error());
    all.push_back(std::move(*socket));
  }
  const std::vector<char> data(bytes, 's');
  std::vector<Result<std::uint64_t>> results(sockets);
  const Clock::time_point begin = Clock::now();
  {
    std::vector<std::jthread> threads;
    for (unsigned i = 1; i < sockets; ++i)
      threads.emplace_back([&, i] { results[i] = stream_one(all[i], data, begin + duration); });
    results[0] = stream_one(all[0], data, begin + duration);
  }
  const double seconds = seconds_since(begin);
  std::uint64_t total = 0;
  for (const auto& result : results) {
    if (!result) return std::unexpected(result.error());
    total += *result;
  }
  return fmt::format("{} {}", static_cast<double>(total) / seconds, total);
}

// Each round sends on all sockets, then takes the answer on each: what one exchange takes when as many are under way.
Result<std::string> exchanges(const Address& far, unsigned sockets, std::uint32_t spin_us, milliseconds duration) {
  constexpr std::size_t kBytes = 64;
  std::vector<BenchSocket> all;
  for (unsigned i = 0; i < sockets; ++i) {
    auto socket = dial(far, BenchJob::kEcho, spin_us);
    if (!socket) return std::unexpected(socket.error());
    all.push_back(std::move(*socket));
  }
  all.front().set_spin(spin_us);
  char message[kBytes] = {};
  std::vector<double> times;
  for (const Clock::time_point end = Clock::now() + duration; Clock::now() < end;) {
    const Clock::time_point begin = Clock::now();
    for (BenchSocket& socket : all)
      if (auto done = socket.send(message, kBytes); !done) return std::unexpected(done.error());
    for (BenchSocket& socket : all)
      if (auto done = socket.receive(message, kBytes); !done) return std::unexpected(done.error());
    times.push_back(seconds_since(begin) * 1e6 / sockets);
  }
  return fmt::format("{}", percentile(times, 50));
}

// Those of connect_senders(), each used by one senders().
std::vector<BenchSocket>& connected_senders() {
  static std::vector<BenchSocket>& all = *new std::vector<BenchSocket>;
  return all;
}

Result<std::string> connect_senders(const Address& far, unsigned sockets) {
  for (unsigned i = 0; i < sockets; ++i) {
    auto socket = dial(far, BenchJob::kPool, kSpinAsItIs);
    if (!socket) return std::unexpected(socket.error());
    connected_senders().push_back(std::move(*socket));
  }
  return "0";
}

Result<std::string> senders(std::size_t bytes, milliseconds duration) {
  std::vector<BenchSocket> all = std::exchange(connected_senders(), {});
  const std::vector<char> data(bytes, 's');
  const Clock::time_point begin = Clock::now();
  for (bool ended = false; !ended; ended = Clock::now() >= begin + duration) {
    bool any = false;
    for (BenchSocket& socket : all) {
      auto n = socket.send_some(data.data(), bytes);
      if (!n) return std::unexpected(n.error());
      if (*n > 0 && *n < bytes)
        if (auto rest = socket.send(data.data() + *n, bytes - *n); !rest) return std::unexpected(rest.error());
      any |= *n > 0;
    }
    if (!any) std::this_thread::sleep_for(std::chrono::microseconds(200));
  }
  std::uint64_t total = 0;
  for (BenchSocket& socket : all)
    if (auto done = socket.end_sending(); !done) return std::unexpected(done.error());
  for (BenchSocket& socket : all) {
    std::uint64_t received = 0;
    if (auto done = socket.receive(&received, sizeof received); !done) return std::unexpected(done.error());
    total += received;
  }
  const double messages = static_cast<double>(total) / static_cast<double>(bytes);
  return fmt::format("{} {}", messages / seconds_since(begin), messages);
}

Result<std::string> connects(Address far, unsigned port, milliseconds duration) {
  far.port = static_cast<std::uint16_t>(port);
  std::vector<double> times;
  for (const Clock::time_point end = Clock::now() + duration; Clock::now() < end;) {
    auto socket = BenchSocket::make();
    if (!socket) return std::unexpected(socket.error());
    std::optional<BenchSocket> one(std::move(*socket));
    const Clock::time_point begin = Clock::now();
    if (auto done = one->connect(far); !done) return std::unexpected(done.error());
    one.reset();
    times.push_back(seconds_since(begin) * 1e6);
  }
  return fmt::format("{} {}", percentile(times, 50), percentile(times, 99));
}

Result<std::string> hold(const Address& far, unsigned sockets) {
  static std::vector<BenchSocket>& held = *new std::vector<BenchSocket>;
  for (unsigned i = 0; i < sockets; ++i) {
    auto socket = dial(far, BenchJob::kHold, kSpinAsItIs);
    if (!socket) return std::unexpected(socket.error());
    held.push_back(std::move(*socket));
  }
  return "0";
}

Result<std::string> roundtrip(const Address& far, std::uint32_t spin_us, milliseconds duration) {
  constexpr std::size_t kBytes = 64;
  constexpr int kWarmUp = 20;
  auto socket = dial(far, BenchJob::kEcho, spin_us);
  if (!socket) return std::unexpected(socket.error());
  socket->set_spin(spin_us);
  char message[kBytes] = {};
  std::vector<double> times;
  Clock::time_point end = Clock::now() + duration;
  for (int number = 0; Clock::now() < end || number <= kWarmUp; ++number) {
    const Clock::time_point begin = Clock::now();
    if (auto done = socket->send(message, kBytes); !done) return std::unexpected(done.error());
    if (auto done = socket->receive(message, kBytes); !done) return std::unexpected(done.error());
    if (number >= kWarmUp) times.push_back(seconds_since(begin) * 1e6);
    if (number == kWarmUp) end = Clock::now() + duration;
  }
  return fmt::format("{} {}", percentile(times, 50), percentile(times, 99));
}

Result<std::string> silence(const Address& far, unsigned count, milliseconds duration) {
  auto socket = dial(far, BenchJob::kStamp, kSpinDefault);
  if (!socket) return std::unexpected(socket.error());
  socket->set_spin(kSpinDefault);
  std::string times;
  for (unsigned i = 0; i < count; ++i) {
    std::this_thread::sleep_for(duration);
    const std::int64_t sent = boottime_ns();
    std::int64_t arrived = 0;
    if (auto done = socket->send("x", 1); !done) return std::unexpected(done.error());
    if (auto done = socket->receive(&arrived, sizeof arrived); !done) return std::unexpected(done.error());
    times += fmt::format("{} ", static_cast<double>(arrived - sent) / 1e6);
  }
  return times;
}

double cpu_seconds() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  auto seconds = [](const timeval& t) { return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) / 1e6; };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

// What this process had fetched from storage; 0 where the kernel does not say.
double bytes_fetched() {
  std::ifstream io("/proc/self/io");
  std::string name;
  for (double value = 0; io >> name >> value;)
    if (name == "read_bytes:") return value;
  return 0;
}

double engine_reads() {
  host::Runtime& runtime = host::Runtime::get();
  std::lock_guard lock(runtime.mutex());
  return runtime.host() == nullptr ? 0 : static_cast<double>(runtime.host()->counters().reads);
}

Result<std::string> idle(const Address& far, milliseconds duration) {
  auto socket = dial(far, BenchJob::kStamp, kSpinDefault);
  if (!socket) return std::unexpected(socket.error());
  std::this_thread::sleep_for(std::chrono::seconds(1));  // polls have become as slow as they get
  const Clock::time_point begin = Clock::now();
  const double cpu = cpu_seconds(), reads = engine_reads(), bytes = bytes_fetched();
  std::this_thread::sleep_for(duration);
  const double seconds = seconds_since(begin);
  const double cores = static_cast<double>(::sysconf(_SC_NPROCESSORS_ONLN));
  return fmt::format("{} {} {}", (engine_reads() - reads) / seconds, (bytes_fetched() - bytes) / seconds,
                     100 * (cpu_seconds() - cpu) / seconds / cores);
}

Result<std::string> obey(const std::string& line, const Address& far) {
  std::istringstream words(line);
  std::string verb;
  std::uint32_t a = 0, b = 0, c = 0;
  words >> verb >> a >> b >> c;
  if (verb == "stream") return stream(far, a, b, milliseconds(c));
  if (verb == "exchanges") return exchanges(far, a, b, milliseconds(c));
  if (verb == "connect_senders") return connect_senders(far, a);
  if (verb == "senders") return senders(a, milliseconds(b));
  if (verb == "connects") return connects(far, a, milliseconds(b));
  if (verb == "hold") return hold(far, a);
  if (verb == "roundtrip") return roundtrip(far, a, milliseconds(b));
  if (verb == "silence") return silence(far, a, milliseconds(b));
  if (verb == "idle") return idle(far, milliseconds(a));
  return fail(EINVAL, fmt::format("unknown command \"{}\"", line));
}

}  // namespace

int run_bench_near() {
  auto first = BenchSocket::make();  // joins
  std::cout << (first ? std::string("0") : "error " + first.error().text) << std::endl;
  std::string line;
  if (!first || !std::getline(std::cin, line)) return 1;
  auto far = parse_address(line);
  std::cout << (far ? std::string("0") : "error " + far.error().text) << std::endl;
  if (!far) return 1;
  while (std::getline(std::cin, line)) {
    const auto result = obey(line, *far);
    std::cout << (result ? *result : "error " + result.error().text) << std::endl;
  }
  return 0;
}

}  // namespace stp::tools
