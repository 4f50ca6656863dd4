// `stp bench`: what STP reaches on a storage, beside what the storage gives to anyone, in one run.

#include <fmt/format.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <memory>
#include <optional>

#include "stp/storage.h"
#include "tools/agent_bench.h"
#include "tools/bench_peer.h"
#include "tools/bench_report.h"
#include "tools/bench_role.h"
#include "tools/bench_scratch.h"
#include "tools/commands.h"
#include "tools/own_processors.h"
#include "tools/raw_ceiling.h"
#include "tools/raw_pingpong.h"
#include "tools/two_agents_bench.h"

namespace stp::tools {
namespace {

using std::chrono::milliseconds;

struct BenchOptions {
  bool json = false;
  unsigned rounds = 7;
  unsigned round_ms = 400;
  unsigned idle_ms = 2000;
  std::string agent;
  bool through_agents = false;
  bool share_processors = false;
  unsigned idle_sockets = 10'000;
};

constexpr unsigned kManyStreams = 16;
constexpr std::size_t kSendBytes = 64 * 1024;
constexpr unsigned kSilences = 5;

// The raw side. A mapped storage has no raw rival: there is no O_DIRECT to compare with.
struct Rivals {
  std::shared_ptr<Storage> storage;
  std::unique_ptr<BenchScratch> scratch;
  std::optional<RawCeiling> ceiling, touching;
  std::size_t block_bytes = 0;

  Result<std::optional<double>> stream() { return stream(ceiling); }
  Result<std::optional<double>> touching_stream() { return stream(touching); }
  static Result<std::optional<double>> stream(std::optional<RawCeiling>& of) {
    if (!of) return std::nullopt;
    auto rate = of->measure();
    if (!rate) return std::unexpected(rate.error());
    return *rate / 1e6;
  }
  // p50 and p99.
  Result<std::optional<std::pair<double, double>>> pingpong(milliseconds duration) {
    if (!scratch) return std::nullopt;
    auto times = raw_pingpong(scratch->range(), block_bytes, duration);
    if (!times) return std::unexpected(times.error());
    return std::pair(percentile(*times, 50), percentile(*times, 99));
  }
};

Result<Rivals> make_rivals(const std::string& path, milliseconds round) {
  auto storage = Storage::open(path, Storage::Access::kReadOnly);
  if (!storage) return std::unexpected(storage.error());
  Rivals rivals{.storage = *storage, .scratch = {}, .ceiling = {}, .touching = {}, .block_bytes = (*storage)->superblock().geometry.block_size};
  if ((*storage)->superblock().medium == MediumKind::kMapped) {
    fmt::print(stderr, "stp bench: \"{}\" is mapped memory: there is no raw rival, only our own figures\n", path);
    return rivals;
  }
  auto scratch = BenchScratch::make(**storage);
  if (!scratch) return std::unexpected(scratch.error());
  rivals.scratch = std::move(*scratch);
  rivals.ceiling.emplace(rivals.scratch->range(), round);
  rivals.touching.emplace(rivals.scratch->range(), round, RawCeiling::Payload::kCopiedAndHashed);
  for (auto* ceiling : {&rivals.ceiling, &rivals.touching})
    if (auto done = (*ceiling)->calibrate(); !done) return std::unexpected(done.error());
  return rivals;
}

class Bench {
 public:
  Bench(const BenchOptions& options, Rivals rivals, BenchPeer far, BenchPeer near)
      : options_(options), rivals_(std::move(rivals)), far_(std::move(far)), near_(std::move(near)) {}

  Result<std::vector<BenchRow>> run() {
    const OwnProcessors own({near_.pid()}, {far_.pid()});
    for (unsigned round = 0; round < options_.rounds; ++round) {
      fmt::print(stderr, "stp bench: round {} of {}\n", round + 1, options_.rounds);
      if (auto done = streams(1, one_stream_, one_stream_touching_); !done) return std::unexpected(done.error());
      if (auto done = streams(kManyStreams, many_streams_, many_streams_touching_); !done) return std::unexpected(done.error());
      if (auto done = roundtrips(); !done) return std::unexpected(done.error());
    }
    fmt::print(stderr, "stp bench: silence and idling\n");
    if (auto done = quiet(); !done) return std::unexpected(done.error());
    if (rivals_.scratch)
      if (auto done = rivals_.scratch->still_free(*rivals_.storage); !done) return std::unexpected(done.error());
    std::vector<BenchRow> rows;
    for (const RowSamples* samples : {&one_stream_, &one_stream_touching_, &many_streams_, &many_streams_touching_, &spin_p50_, &spin_p99_, &sleep_p50_, &sleep_p99_, &connects_, &slow_connects_,
                                      &first_byte_, &slowest_byte_, &idle_reads_, &idle_bytes_, &idle_cpu_})
      rows.push_back(samples->row());
    return rows;
  }

 private:
  // The ceiling is measured before and after, so that a drifting machine hits both sides alike.
  Result<void> streams(unsigned sockets, RowSamples& samples, RowSamples& touching_samples) {
    auto before = rivals_.stream();
    if (!before) return std::unexpected(before.error());
    auto ours = near_.ask(fmt::format("stream {} {} {}", sockets, kSendBytes, 2 * options_.round_ms));
    if (!ours) return std::unexpected(ours.error());
    auto after = rivals_.stream();
    if (!after) return std::unexpected(after.error());
    auto touching = rivals_.touching_stream();
    if (!touching) return std::unexpected(touching.error());
    samples.add(ours->at(0) / 1e6, *before ? std::optional((**before + **after) / 2) : std::nullopt);
    touching_samples.add(ours->at(0) / 1e6, *touching);
    return {};
  }

  Result<void> roundtrips() {
    const unsigned duration = options_.round_ms;
    auto raw = rivals_.pingpong(milliseconds(duration));
    if (!raw) return std::unexpected(raw.error());
    // The default last: both programs go on with it.
    auto sleeping = near_.ask(fmt::format("roundtrip 0 {}", duration));
    if (!sleeping) return std::unexpected(sleeping.error());
    auto spinning = near_.ask(fmt::format("roundtrip 200 {}", duration));
    if (!spinning) return std::unexpected(spinning.error());
    const auto p50 = *raw ? std::optional((*raw)->first) : std::nullopt;
    const auto p99 = *raw ? std::optional((*raw)->second) : std::nullopt;
    spin_p50_.add(spinning->at(0), p50);
    spin_p99_.add(spinning->at(1), p99);
    sleep_p50_.add(sleeping->at(0), p50);
    sleep_p99_.add(sleeping->at(1), p99);
    auto connects = measure_connects(far_, near_, port_for_connects_, duration);
    if (!connects) return std::unexpected(connects.error());
    const auto in_a_row = p50 ? std::optional(3 * *p50) : std::nullopt;  // three round trips of the ping-pong
    connects_.add(connects->at(0), in_a_row);
    slow_connects_.add(connects->at(1), in_a_row);
    return {};
  }

  Result<void> quiet() {
    auto times = near_.ask(fmt::format("silence {} {}", kSilences, options_.idle_ms));
    if (!times) return std::unexpected(times.error());
    for (const double time : *times) first_byte_.add(time, std::nullopt);
    slowest_byte_.add(*std::max_element(times->begin(), times->end()), std::nullopt);
    auto idle = near_.ask(fmt::format("idle {}", 2 * options_.idle_ms));
    if (!idle) return std::unexpected(idle.error());
    idle_reads_.add(idle->at(0), std::nullopt);
    idle_bytes_.add(idle->at(1) / 1e6, std::nullopt);
    idle_cpu_.add(idle->at(2), std::nullopt);
    return {};
  }

  BenchOptions options_;
  Rivals rivals_;
  BenchPeer far_, near_;
  std::optional<double> port_for_connects_;
  RowSamples one_stream_{"stream 64 KiB", "MB/s"};
  RowSamples one_stream_touching_{"stream 64 KiB, raw copies and hashes", "MB/s"};
  RowSamples many_streams_{"16 streams", "MB/s"};
  RowSamples many_streams_touching_{"16 streams, raw copies and hashes", "MB/s"};
  RowSamples spin_p50_{"round trip 64 B, p50", "us"};
  RowSamples spin_p99_{"round trip 64 B, p99", "us"};
  RowSamples sleep_p50_{"round trip 64 B without spin, p50", "us"};
  RowSamples sleep_p99_{"round trip 64 B without spin, p99", "us"};
  RowSamples connects_{"connect, accept, close, p50 (rival: 6 writes, 6 reads)", "us"};
  RowSamples slow_connects_{"connect, accept, close, p99 (rival: the same)", "us"};
  RowSamples first_byte_{"first byte after silence", "ms"};
  RowSamples slowest_byte_{"first byte after silence, slowest of 5", "ms"};
  RowSamples idle_reads_{"idle reads a second", "1/s"};
  RowSamples idle_bytes_{"idle bytes read a second", "MB/s"};
  RowSamples idle_cpu_{"idle CPU", "% of the machine"};
};

// Both hosts and the rivals each keep two cores busy at times: anything else that runs is in the figures.
void warn_when_busy() {
  double load = 0;
  if (::getloadavg(&load, 1) == 1 && load > 0.5)
    fmt::print(stderr, "stp bench: warning: this machine is busy (load {:.1f}); the figures will say so\n", load);
}

Result<std::vector<BenchRow>> run_bench(const std::string& stg, const BenchOptions& options) {
  warn_when_busy();
  auto rivals = make_rivals(stg, milliseconds(options.round_ms));
  if (!rivals) return std::unexpected(rivals.error());
  fmt::print(stderr, "stp bench: hosts bench-a and bench-b join \"{}\"\n", stg);
  auto far = BenchPeer::start("far", stg, "bench-a");
  if (!far) return std::unexpected(far.error());
  auto near = BenchPeer::start("near", stg, "bench-b");
  if (!near) return std::unexpected(near.error());
  auto port = far->answer();
  if (!port) return std::unexpected(port.error());
  if (auto joined = near->answer(); !joined) return std::unexpected(joined.error());
  if (auto known = near->ask(fmt::format("bench-a:{}", static_cast<unsigned>(port->at(0)))); !known) return std::unexpected(known.error());
  return Bench(options, std::move(*rivals), std::move(*far), std::move(*near)).run();
}

Result<std::vector<BenchRow>> run_through_agents(const std::string& stg, const BenchOptions& options) {
  warn_when_busy();
  auto rivals = make_rivals(stg, milliseconds(options.round_ms));
  if (!rivals) return std::unexpected(rivals.error());
  auto rows = run_two_agents_bench({.stg = stg,
                                    .rounds = options.rounds,
                                    .round_ms = options.round_ms,
                                    .idle_ms = options.idle_ms,
                                    .idle_sockets = options.idle_sockets,
                                    .raw_stream = [&] { return rivals->stream(); },
                                    .raw_roundtrip = [&] { return rivals->pingpong(milliseconds(options.round_ms)); }});
  if (rows && rivals->scratch)
    if (auto done = rivals->scratch->still_free(*rivals->storage); !done) return std::unexpected(done.error());
  return rows;
}

}  // namespace

void add_bench_command(CLI::App& app, Context& context) {
  CLI::App* command = app.add_subcommand("bench", "Measure streams and round trips on a storage, beside what raw I/O reaches there");
  auto options = std::make_shared<BenchOptions>();
  add_stg_option(*command, context);
  command->add_option("--agent", options->agent, "measure two programs of the agent on this socket instead, beside the kernel's AF_UNIX")->type_name("PATH");
  command->add_flag("--through-agents", options->through_agents, "the two hosts are agents (stpd), and measured are programs that they serve");
  command->add_option("--idle-sockets", options->idle_sockets, "with --through-agents: so many")->check(CLI::Range(1, 60000))->capture_default_str();
  command->add_flag("--share-processors", options->share_processors, "leave it to the scheduler where hosts and rivals run");
  command->add_flag("--json", options->json, "print [{\"row\", \"ours\", \"rival\", \"ratio\", \"unit\"}]");
  command->add_option("--rounds", options->rounds, "measure so often and take medians")->check(CLI::Range(1, 1000))->capture_default_str();
  command->add_option("--round-ms", options->round_ms, "how long one measurement of a round takes")->check(CLI::Range(50, 60000))->capture_default_str();
  command->add_option("--idle-ms", options->idle_ms, "how long a silence is")->check(CLI::Range(100, 60000))->capture_default_str();
  command->footer(
      "Two hosts, bench-a and bench-b, join the storage from this machine, each a process of its own, and are idle while the rivals run.\n"
      "Streams are held against the best paced concurrent O_DIRECT write and read (256 KiB, 4 + 4 deep) of a few buffers whose bytes\n"
      "nobody touches, and against the same with a copy and a hash on either side, which any transport must make; round trips against two\n"
      "processes playing ping-pong with one O_DIRECT block each. Two hosts never share a processor: so each keeps to one half of this\n"
      "machine's, and each side of a rival as well, unless --share-processors leaves that to the scheduler.\n"
      "Figures are medians over the rounds, ratios medians of the rounds' ratios.\n"
      "The rivals use a scratch file beside a file, gone afterwards; on a device the cache region of the highest slot that\n"
      "is FREE and kept for no name. Without such a slot the bench refuses.\n"
      "With --agent: two programs that talk through one agent, beside two that talk through an AF_UNIX stream.\n"
      "Exit status: 0 measured, 1 failed, 2 wrong use.");
  command->callback([command, options, &context] {
    std::signal(SIGPIPE, SIG_IGN);  // a host that died is an error in words
    if (context.stg.empty() && (options->agent.empty() || options->through_agents)) {
      complain(*command, Error{EINVAL, "say what to measure: --stg PATH, or --agent PATH"});
      context.status = kUsage;
      return;
    }
    if (options->share_processors) leave_to_scheduler();
    auto rows = options->through_agents  ? run_through_agents(context.stg, *options)
                : options->agent.empty() ? run_bench(context.stg, *options)
                                         : run_agent_bench(options->agent, context.stg, options->rounds, options->round_ms);
    if (!rows) {
      context.status = complain(*command, rows.error());
      return;
    }
    fmt::print("{}", options->json ? bench_json(*rows) : bench_table(*rows));
  });

  CLI::App* role = app.add_subcommand("bench-role", "One host of stp bench")->group("");
  auto part = std::make_shared<BenchRoleOptions>();
  role->add_option("ROLE", part->role)->required()->check(CLI::IsMember({"near", "far"}));
  role->add_option("--stg", part->stg)->required();
  role->add_option("--host", part->host)->required();
  role->add_option("--agent", part->agent);
  role->callback([part, &context] { context.status = run_bench_role(*part); });
}

}  // namespace stp::tools
