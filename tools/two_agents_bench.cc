#include "tools/two_agents_bench.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <memory>
#include <thread>

#include "tools/bench_agent.h"
#include "tools/bench_peer.h"
#include "tools/own_processors.h"

namespace stp::tools {
namespace {

using Clock = std::chrono::steady_clock;

constexpr unsigned kManyStreams = 16;
constexpr unsigned kManyConnections = 64;
constexpr std::size_t kSendBytes = 64 * 1024;

struct Storage {
  double reads = 0, writes = 0, written_bytes = 0;
};

class TwoAgents {
 public:
  TwoAgents(const TwoAgentsOptions& options, std::unique_ptr<BenchAgent> a, std::unique_ptr<BenchAgent> b, BenchPeer far, BenchPeer near)
      : options_(options), a_(std::move(a)), b_(std::move(b)), far_(std::move(far)), near_(std::move(near)) {}

  Result<std::vector<BenchRow>> run() {
    const OwnProcessors own({b_->pid(), near_.pid()}, {a_->pid(), far_.pid()});
    // First of all: the rounds leave many conversations behind that take their time to end.
    if (auto held = near_.ask("hold 1"); !held) return std::unexpected(held.error());
    std::this_thread::sleep_for(std::chrono::seconds(2));  // polls have become as slow as they get
    auto one = reads_a_second();
    if (!one) return std::unexpected(one.error());
    one_idle_reads_ = *one;
    for (unsigned round = 0; round < options_.rounds; ++round) {
      fmt::print(stderr, "stp bench: round {} of {}\n", round + 1, options_.rounds);
      for (const auto step : {&TwoAgents::streams, &TwoAgents::roundtrips, &TwoAgents::senders, &TwoAgents::connects})
        if (auto done = (this->*step)(); !done) return std::unexpected(done.error());
    }
    if (auto done = idle(); !done) fmt::print(stderr, "stp bench: no figures of idle sockets: {}\n", done.error().text);
    std::vector<BenchRow> rows;
    for (const RowSamples* samples : {&one_stream_, &many_streams_, &amplification_, &spin_, &spin_p99_, &sleep_, &many_connections_, &senders_, &messages_a_write_,
                                      &connects_, &slow_connects_, &idle_reads_, &idle_cpu_, &idle_memory_})
      if (!samples->empty()) rows.push_back(samples->row());
    return rows;
  }

 private:
  // Of both agents, so far.
  Result<Storage> storage() {
    Storage sum;
    for (BenchAgent* const agent : {a_.get(), b_.get()}) {
      const auto stats = agent->stats();
      if (!stats) return std::unexpected(stats.error());
      sum.reads += static_cast<double>(stats->engine.reads);
      sum.writes += static_cast<double>(stats->engine.writes);
      sum.written_bytes += static_cast<double>(stats->engine.write_bytes);
    }
    return sum;
  }

  Result<void> stream(unsigned sockets, RowSamples& samples) {
    auto before = options_.raw_stream();
    if (!before) return std::unexpected(before.error());
    const auto storage_before = storage();
    const unsigned duration = 2 * options_.round_ms;
    auto ours = near_.ask(fmt::format("stream {} {} {}", sockets, kSendBytes, duration));
    if (!ours) return std::unexpected(ours.error());
    const auto storage_after = storage();
    auto after = options_.raw_stream();
    if (!after) return std::unexpected(after.error());
    samples.add(ours->at(0) / 1e6, *before ? std::optional((**before + **after) / 2) : std::nullopt);
    if (sockets == 1 && storage_before && storage_after && ours->at(1) > 0)
      amplification_.add((storage_after->written_bytes - storage_before->written_bytes) / 1e6, ours->at(1) / 1e6);
    return {};
  }

  Result<void> streams() {
    if (auto done = stream(1, one_stream_); !done) return done;
    return stream(kManyStreams, many_streams_);
  }

  Result<void> roundtrips() {
    auto raw = options_.raw_roundtrip();
    if (!raw) return std::unexpected(raw.error());
    raw_us_ = *raw ? std::optional((*raw)->first) : std::nullopt;
    auto spinning = near_.ask(fmt::format("roundtrip 200 {}", options_.round_ms));
    if (!spinning) return std::unexpected(spinning.error());
    auto sleeping = near_.ask(fmt::format("roundtrip 0 {}", options_.round_ms));
    if (!sleeping) return std::unexpected(sleeping.error());
    spin_.add(spinning->at(0), raw_us_);
    spin_p99_.add(spinning->at(1), *raw ? std::optional((*raw)->second) : std::nullopt);
    sleep_.add(sleeping->at(0), raw_us_);
    auto many = near_.ask(fmt::format("exchanges {} 200 {}", kManyConnections, options_.round_ms));
    if (!many) return std::unexpected(many.error());
    many_connections_.add(many->at(0), spinning->at(0));
    return {};
  }

  Result<void> senders() {
    if (auto connected = near_.ask(fmt::format("connect_senders {}", options_.senders)); !connected) return std::unexpected(connected.error());
    const auto before = storage();
    auto ours = near_.ask(fmt::format("senders 64 {}", options_.round_ms));
    if (!ours) return std::unexpected(ours.error());
    const auto after = storage();
    senders_.add(ours->at(0) / 1e6, std::nullopt);
    if (before && after && after->writes > before->writes) messages_a_write_.add(ours->at(1) / (after->writes - before->writes), std::nullopt);
    return {};
  }

  // The rival: what six block writes and six block reads take one after the other, which is three round trips of the raw ping-pong.
  Result<void> connects() {
    auto ours = measure_connects(far_, near_, port_for_connects_, options_.round_ms);
    if (!ours) return std::unexpected(ours.error());
    const auto rival = raw_us_ ? std::optional(3 * *raw_us_) : std::nullopt;
    connects_.add(ours->at(0), rival);
    slow_connects_.add(ours->at(1), rival);
    return {};
  }

  Result<double> reads_a_second(unsigned silences = 1) {
    const auto before = storage();
    const auto began = Clock::now();
    std::this_thread::sleep_for(std::chrono::milliseconds(silences * options_.idle_ms));
    const auto after = storage();
    if (!before || !after) return fail(EIO, "an agent is gone");
    return (after->reads - before->reads) / std::chrono::duration<double>(Clock::now() - began).count();
  }

  double memory() const {
    double sum = 0;
    for (const pid_t pid : {a_->pid(), b_->pid(), far_.pid(), near_.pid()}) sum += memory_bytes_of(pid);
    return sum;
  }
  // Of each host: its agent and its program.
  std::array<double, 2> cpu() const {
    return {cpu_seconds_of(a_->pid()) + cpu_seconds_of(far_.pid()), cpu_seconds_of(b_->pid()) + cpu_seconds_of(near_.pid())};
  }

  // Held sockets stay until the end.
  Result<void> idle() {
    fmt::print(stderr, "stp bench: {} idle sockets\n", options_.idle_sockets);
    const double memory_before = memory();
    if (auto held = near_.ask(fmt::format("hold {}", options_.idle_sockets)); !held) return std::unexpected(held.error());
    std::this_thread::sleep_for(std::chrono::seconds(2));
    const auto cpu_before = cpu();
    const auto began = Clock::now();
    auto many = reads_a_second(4);  // a few milliseconds of processor time: one second of it is mostly chance
    if (!many) return std::unexpected(many.error());
    const double seconds = std::chrono::duration<double>(Clock::now() - began).count();
    idle_reads_.add(*many, one_idle_reads_);
    const auto cpu_after = cpu();
    const double busier = std::max(cpu_after[0] - cpu_before[0], cpu_after[1] - cpu_before[1]);
    idle_cpu_.add(100 * busier / seconds / static_cast<double>(::sysconf(_SC_NPROCESSORS_ONLN)), std::nullopt);
    idle_memory_.add((memory() - memory_before) / (2.0 * options_.idle_sockets) / 1024, std::nullopt);
    return {};
  }

  const TwoAgentsOptions& options_;
  std::unique_ptr<BenchAgent> a_, b_;
  BenchPeer far_, near_;
  std::optional<double> port_for_connects_;
  std::optional<double> raw_us_;
  double one_idle_reads_ = 0;
  RowSamples one_stream_{"two agents: stream 64 KiB", "MB/s"};
  RowSamples many_streams_{"two agents: 16 streams", "MB/s"};
  RowSamples amplification_{"two agents: written for a stream (rival: its bytes)", "MB"};
  RowSamples spin_{"two agents: round trip 64 B, p50", "us"};
  RowSamples spin_p99_{"two agents: round trip 64 B, p99", "us"};
  RowSamples sleep_{"two agents: round trip 64 B without spin, p50", "us"};
  RowSamples many_connections_{"64 connections at once, per exchange (rival: one)", "us"};
  RowSamples senders_{"many sockets sending 64 B: messages a second", "M/s"};
  RowSamples messages_a_write_{"many sockets sending 64 B: messages a device write", "1"};
  RowSamples connects_{"connect, accept, close, p50 (rival: 6 writes, 6 reads)", "us"};
  RowSamples slow_connects_{"connect, accept, close, p99 (rival: the same)", "us"};
  RowSamples idle_reads_{"idle sockets: reads a second (rival: one socket)", "1/s"};
  RowSamples idle_cpu_{"idle sockets: CPU of a host, agent and program", "% of the machine"};
  RowSamples idle_memory_{"idle sockets: memory of one", "KiB"};
};

}  // namespace

Result<std::vector<BenchRow>> run_two_agents_bench(const TwoAgentsOptions& options) {
  fmt::print(stderr, "stp bench: agents of hosts bench-a and bench-b join \"{}\"\n", options.stg);
  auto a = BenchAgent::start(options.stg, "bench-a");
  if (!a) return std::unexpected(a.error());
  auto b = BenchAgent::start(options.stg, "bench-b");
  if (!b) return std::unexpected(b.error());
  auto far = BenchPeer::start("far", options.stg, "bench-a", (*a)->path());
  if (!far) return std::unexpected(far.error());
  auto near = BenchPeer::start("near", options.stg, "bench-b", (*b)->path());
  if (!near) return std::unexpected(near.error());
  auto port = far->answer();
  if (!port) return std::unexpected(port.error());
  if (auto joined = near->answer(); !joined) return std::unexpected(joined.error());
  if (auto known = near->ask(fmt::format("bench-a:{}", static_cast<unsigned>(port->at(0)))); !known) return std::unexpected(known.error());
  return TwoAgents(options, std::move(*a), std::move(*b), std::move(*far), std::move(*near)).run();
}

}  // namespace stp::tools
