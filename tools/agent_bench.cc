#include "tools/agent_bench.h"

#include <fmt/format.h>

#include "tools/bench_peer.h"
#include "tools/own_processors.h"
#include "tools/unix_rival.h"

namespace stp::tools {
namespace {

using std::chrono::milliseconds;

struct StreamRow {
  RowSamples samples;
  std::size_t send_bytes;
  int rival_buffer_bytes;
  double unit;  // bytes
};

Result<void> measure_stream(BenchPeer& near, StreamRow& row, unsigned round_ms) {
  auto rival = unix_stream(row.send_bytes, row.rival_buffer_bytes, milliseconds(round_ms));
  if (!rival) return std::unexpected(rival.error());
  auto ours = near.ask(fmt::format("stream 1 {} {}", row.send_bytes, round_ms));
  if (!ours) return std::unexpected(ours.error());
  row.samples.add(ours->at(0) / row.unit, *rival / row.unit);
  return {};
}

}  // namespace

Result<std::vector<BenchRow>> run_agent_bench(const std::string& agent, const std::string& stg, unsigned rounds, unsigned round_ms) {
  auto far = BenchPeer::start("far", stg, "", agent);
  if (!far) return std::unexpected(far.error());
  auto near = BenchPeer::start("near", stg, "", agent);
  if (!near) return std::unexpected(near.error());
  auto port = far->answer();
  if (!port) return std::unexpected(port.error());
  if (auto joined = near->answer(); !joined) return std::unexpected(joined.error());
  if (auto known = near->ask(fmt::format("localhost:{}", static_cast<unsigned>(port->at(0)))); !known) return std::unexpected(known.error());

  const OwnProcessors own({near->pid()}, {far->pid()});
  StreamRow streams[] = {
      {{"one agent: stream 64 KiB", "MB/s"}, 64 * 1024, 0, 1e6},
      {{"one agent: stream 1 MiB (rival: 4 MiB buffers)", "MB/s"}, 1 << 20, 4 << 20, 1e6},
      {{"one agent: 64 B messages a second", "M/s"}, 64, 0, 64e6},
  };
  RowSamples spin("one agent: round trip 64 B, p50", "us"), sleep("one agent: round trip 64 B without spin, p50", "us");
  for (unsigned round = 0; round < rounds; ++round) {
    fmt::print(stderr, "stp bench: round {} of {}\n", round + 1, rounds);
    for (StreamRow& row : streams)
      if (auto done = measure_stream(*near, row, round_ms); !done) return std::unexpected(done.error());
    auto rival = unix_pingpong(milliseconds(round_ms));
    if (!rival) return std::unexpected(rival.error());
    // The default last: both programs go on with it.
    auto sleeping = near->ask(fmt::format("roundtrip 0 {}", round_ms));
    if (!sleeping) return std::unexpected(sleeping.error());
    auto spinning = near->ask(fmt::format("roundtrip 200 {}", round_ms));
    if (!spinning) return std::unexpected(spinning.error());
    spin.add(spinning->at(0), percentile(*rival, 50));
    sleep.add(sleeping->at(0), percentile(*rival, 50));
  }
  std::vector<BenchRow> rows;
  for (const StreamRow& row : streams) rows.push_back(row.samples.row());
  rows.push_back(spin.row());
  rows.push_back(sleep.row());
  return rows;
}

}  // namespace stp::tools
