// `stp top`: what the agent of this host does, shown again and again: storage, and the busiest sockets.

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <memory>
#include <thread>

#include "hostlib/agent_client.h"
#include "tools/agent_socket_table.h"
#include "tools/commands.h"

namespace stp::tools {
namespace {

using Clock = std::chrono::steady_clock;
using host::AgentSocketRow;

struct TopOptions {
  std::string agent = host::kDefaultAgentPath;
  double interval_s = 2;
  unsigned count = 0;  // 0: until ended
};

struct Look {
  Clock::time_point at;
  host::AgentStats stats;
  std::vector<AgentSocketRow> sockets;
};

Result<Look> look(host::AgentClient& client) {
  auto stats = client.stats();
  if (!stats) return std::unexpected(stats.error());
  auto sockets = client.sockets();
  if (!sockets) return std::unexpected(sockets.error());
  return Look{Clock::now(), *stats, std::move(*sockets)};
}

std::size_t rows_of_terminal() {
  winsize size = {};
  return ::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_row > 4 ? size.ws_row : 24;
}

void show(const host::AgentClient& client, const Look& before, Look now, bool terminal) {
  const double seconds = std::chrono::duration<double>(now.at - before.at).count();
  const auto rate = [&](std::uint64_t was, std::uint64_t is) { return is >= was ? static_cast<double>(is - was) / seconds : 0; };
  const EngineCounters &old = before.stats.engine, &e = now.stats.engine;
  const host::AgentCounters &was = before.stats.agent, &a = now.stats.agent;
  std::vector<std::string> lines;
  lines.push_back(fmt::format("{} of {}: {} programs, {} sockets, {} connects/s", client.host(), client.stg(), a.programs, a.sockets,
                              bytes_text(rate(was.connects, a.connects))));
  lines.push_back(fmt::format("storage: {} reads/s {}B/s, {} writes/s {}B/s, {} errors; to other hosts {}B/s, from them {}B/s", bytes_text(rate(old.reads, e.reads)),
                              bytes_text(rate(old.read_bytes, e.read_bytes)), bytes_text(rate(old.writes, e.writes)),
                              bytes_text(rate(old.write_bytes, e.write_bytes)), e.io_errors, bytes_text(rate(was.bytes_sent, a.bytes_sent)),
                              bytes_text(rate(was.bytes_received, a.bytes_received))));
  lines.emplace_back();
  const SocketRates rates = rates_between(before.sockets, now.sockets, seconds);
  const auto busy = [&](const AgentSocketRow& row) {
    const auto found = rates.find(row.number);
    return found == rates.end() ? 0 : found->second.sent + found->second.received;
  };
  std::ranges::sort(now.sockets, [&](const AgentSocketRow& x, const AgentSocketRow& y) {
    const double of_x = busy(x), of_y = busy(y);
    return of_x != of_y ? of_x > of_y : x.number < y.number;
  });
  for (std::string& line : agent_socket_table(now.sockets, &rates, client.host()).lines(true)) lines.push_back(std::move(line));
  if (terminal) {
    lines.resize(std::min(lines.size(), rows_of_terminal() - 1));
    fmt::print("\033[H\033[J");
  }
  for (const std::string& line : lines) fmt::print("{}\n", line);
  if (!terminal) fmt::print("\n");
  std::fflush(stdout);
}

int run(const CLI::App& command, const Context& context, const TopOptions& o) {
  auto client = host::AgentClient::connect(o.agent, context.stg);
  if (!client) return complain(command, client.error());
  auto before = look(*client);
  const bool terminal = ::isatty(STDOUT_FILENO) != 0;
  for (unsigned shown = 0; before && (o.count == 0 || shown < o.count); ++shown) {
    std::this_thread::sleep_for(std::chrono::duration<double>(o.interval_s));
    auto now = look(*client);
    if (now) show(*client, *before, *now, terminal);
    before = std::move(now);
    if (std::ferror(stdout) != 0) return kFailed;
  }
  return before ? kOk : complain(command, before.error());
}

}  // namespace

void add_top_command(CLI::App& app, Context& context) {
  CLI::App* command = app.add_subcommand("top", "Show again and again what the agent of this host does, the busiest sockets first");
  auto o = std::make_shared<TopOptions>();
  add_stg_option(*command, context);
  command->add_option("--agent", o->agent, "Unix socket of the agent")->envname("STP_AGENT")->capture_default_str()->type_name("PATH");
  command->add_option("-d,--interval", o->interval_s, "seconds between two looks")->capture_default_str()->check(CLI::Range(0.1, 3600.0));
  command->add_option("-n,--count", o->count, "end after so many; else with Ctrl-C")->check(CLI::Range(1u, 1000000000u));
  command->footer("Exit status: 0 ended, 1 failed (the agent is gone, say), 2 wrong use.");
  command->callback([command, o, &context] { context.status = run(*command, context, *o); });
}

}  // namespace stp::tools
