// stpd: the agent of a host. Holds the data storage systems, joins their groups, and serves the programs of the host.

#include <fmt/format.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "hostlib/agent_door.h"
#include "stp/names.h"
#include "tools/daemon_log.h"
#include "tools/membership_words.h"
#include "tools/metrics_server.h"
#include "tools/run_server.h"
#include "tools/service_manager.h"
#include "tools/stpd_config.h"

namespace {

using stp::StpdConfig;
using stp::host::Agent;
using stp::host::AgentDoor;
using stp::host::AgentSettings;

constexpr int kUsage = 2;
constexpr int kCannotStart = 3;
constexpr int kNotLeft = 4;
constexpr int kLookAroundMs = 1000;

using stp::log_error;
using stp::log_info;
using stp::log_warning;
using stp::MembershipWords;

// A descriptor that is readable when a signal came; they no longer interrupt anything.
int watch_signals() {
  sigset_t set;
  ::sigemptyset(&set);
  for (const int number : {SIGINT, SIGTERM, SIGHUP}) ::sigaddset(&set, number);
  ::pthread_sigmask(SIG_BLOCK, &set, nullptr);
  return ::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

// Sockets hold descriptors here until they are connected; what the system allows is not too much.
void raise_descriptor_limit() {
  rlimit limit = {};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  (void)::setrlimit(RLIMIT_NOFILE, &limit);
}

stp::Result<std::unique_ptr<Agent>> start_agent(const StpdConfig& config, const std::string& stg) {
  AgentSettings settings;
  settings.host.path = stg;
  settings.host.name = stp::fold_name(config.host);
  settings.host.progress = [stg](std::string_view text) {
    if (!text.empty()) log_info(fmt::format("joining \"{}\": {}", stg, text));
  };
  settings.ring_bytes = config.ring_kib * 1024;
  settings.local_over_disk = config.local_over_disk;
  settings.most_sockets_of_a_user = config.most_sockets;
  settings.most_memory_of_a_user = std::uint64_t{config.most_memory_mib} << 20;
  settings.given_for = config.given_for_s * stp::kSecond;
  settings.log = log_warning;
  return Agent::start(settings);
}

// For unmodified programs: of each storage system, unless its hosts would have the addresses of another one's.
std::vector<std::unique_ptr<stp::RunServer>> start_run_servers(const StpdConfig& config, const std::vector<std::unique_ptr<Agent>>& agents) {
  std::vector<std::unique_ptr<stp::RunServer>> servers;
  std::vector<std::uint32_t> addresses;
  for (std::size_t i = 0; i < std::min<std::size_t>(agents.size(), stp::run::kMostStorages); ++i) {
    Agent& agent = *agents[i];
    const stp::run::Network& network = config.run_network;
    const std::uint32_t address = stp::RunHosts(agent, network).own_address();
    if (std::ranges::any_of(addresses, [&](std::uint32_t other) { return network.in_one_part(address, other); })) {
      log_error(fmt::format("{} (\"{}\") has the same part of run_network as a storage before it: `stp run` is not served there. A larger run_network, on all hosts, parts them",
                            agent.stg(), agent.path()));
      continue;
    }
    addresses.push_back(address);
    const stp::RunServer::Settings settings{.agent_path = config.agent,
                                            .host = stp::fold_name(config.host),
                                            .number = static_cast<unsigned>(i),
                                            .storages = static_cast<unsigned>(agents.size()),
                                            .most_of_a_user = config.most_sockets,
                                            .network = network,
                                            .over_disk = config.local_over_disk,
                                            .log = log_warning};
    // Somebody may sit on its name: that must not keep everything else from being served.
    if (auto server = stp::RunServer::start(agent, settings, config.access))
      servers.push_back(std::move(*server));
    else
      log_error(server.error().text + "; `stp run` is not served");
  }
  return servers;
}

void reread(const std::string& path, StpdConfig& config, AgentDoor& door, const std::vector<std::unique_ptr<stp::RunServer>>& run_servers,
            const std::vector<std::unique_ptr<Agent>>& agents) {
  if (path.empty()) return log_warning("SIGHUP: there is no configuration file to read again");
  if (auto read = stp::read_stpd_config(path, config); !read) return log_error(read.error().text + "; going on as before");
  door.set_access(config.access);
  for (const auto& server : run_servers) server->set_access(config.access);
  for (const auto& agent : agents) 
    agent->set_limits(config.most_sockets, std::uint64_t{config.most_memory_mib} << 20, config.given_for_s * stp::kSecond);
  log_info(fmt::format("read {} again: access and limits hold from now on, everything else from the next start", path));
}

// What became of a host since it joined: once each.
void tell_news(Agent& agent, MembershipWords& words) {
  const auto news = words.look(agent.view().self);
  if (!news.ended.empty()) log_warning(news.ended);
  if (!news.stopped.empty()) log_error(news.stopped);
  if (!news.back.empty()) log_info(news.back);
}

int run(const std::string& path, StpdConfig config) {
  ::signal(SIGPIPE, SIG_IGN);
  const int signals = watch_signals();
  raise_descriptor_limit();
  auto door = AgentDoor::open(config.agent, static_cast<mode_t>(std::stoul(config.mode, nullptr, 8)));
  if (!door) {
    log_error(door.error().text);
    return kCannotStart;
  }
  (*door)->set_access(config.access);
  std::vector<std::unique_ptr<Agent>> agents;
  std::vector<MembershipWords> words;  // of each
  for (const std::string& stg : config.stgs) {
    auto agent = start_agent(config, stg);
    if (!agent) {
      log_error(agent.error().text);
      return kCannotStart;
    }
    log_info(fmt::format("{} is a host of {} (\"{}\")", (*agent)->name(), (*agent)->stg(), stg));
    words.emplace_back(stg, (*agent)->view().self);
    agents.push_back(std::move(*agent));
  }
  std::unique_ptr<stp::MetricsServer> metrics;
  if (!config.metrics.empty()) {
    auto started = stp::MetricsServer::start(config.metrics, agents);
    if (!started) {
      log_error(started.error().text);
      return kCannotStart;
    }
    metrics = std::move(*started);
    log_info(fmt::format("metrics on http://{}/metrics", config.metrics));
  }
  auto run_servers = start_run_servers(config, agents);
  log_info(fmt::format("serving on \"{}\"", config.agent));
  const stp::ServiceManager manager;
  manager.ready();
  for (bool ended = false; !ended;) {
    (*door)->serve(agents, signals, manager.watchdog_ms(kLookAroundMs), log_warning);
    manager.alive();
    for (std::size_t i = 0; i < agents.size(); ++i) tell_news(*agents[i], words[i]);
    signalfd_siginfo signal = {};
    while (::read(signals, &signal, sizeof signal) == static_cast<ssize_t>(sizeof signal)) {
      if (signal.ssi_signo != SIGHUP) {
        ended = true;
        break;
      }
      manager.reloading();
      reread(path, config, **door, run_servers, agents);
      manager.ready();
    }
  }
  manager.stopping();
  log_info("leaving");
  run_servers.clear();
  door->reset();
  metrics.reset();
  bool left = true;
  for (const auto& agent : agents) left &= agent->leave();
  if (!left) {
    log_error("the storage did not answer in time: going without having left the group; others will call this host dead");
    std::fflush(nullptr);
    ::_exit(kNotLeft);
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  stp::start_log("stpd");
  CLI::App app{"The agent of a host: holds its data storage systems and serves sockets to the programs of the host, which need no access to the "
               "storage then.",
               "stpd"};
  app.set_version_flag("--version", "stpd " STP_VERSION);
  std::string path;
  std::vector<std::string> stgs;
  std::string host, agent, mode, metrics;
  unsigned ring_kib = 0, most_sockets = 0;
  bool local_over_disk = false;
  const auto octal = CLI::Validator(
      [](std::string& text) {
        const bool good = !text.empty() && text.size() <= 4 && text.find_first_not_of("01234567") == std::string::npos;
        return good ? std::string() : std::string("permissions in octal are wanted, as 0660");
      },
      "OCTAL");
  app.add_option("--config", path, "TOML file to read first; what follows here goes over it")->type_name("FILE");
  app.add_option("--stg", stgs, "path of a data storage system; may be given several times")->type_name("PATH");
  app.add_option("--host", host, "name of this host in the groups")->type_name("NAME");
  app.add_option("--agent", agent, fmt::format("the Unix socket to serve on [{}]; programs find it by STP_AGENT, or there", stp::host::kDefaultAgentPath))
      ->type_name("PATH");
  app.add_option("--mode", mode, "permissions of that socket [0666]")->check(octal);
  app.add_option("--ring", ring_kib, "KiB of memory of each direction of a socket, taken as it is used and up to 128 KiB ahead [2048]")->check(CLI::Range(4, 65536));
  app.add_flag("--local-over-disk", local_over_disk, "have programs of this host talk over the disk with each other too, to try that on one machine");
  app.add_option("--max-sockets", most_sockets, "sockets that one user may have [16384]")->check(CLI::Range(1, 1 << 24));
  app.add_option("--metrics", metrics, "serve statistics for Prometheus over HTTP there")->type_name("ADDRESS:PORT");
  app.footer("Runs in the foreground. SIGHUP reads the configuration again. Ends on SIGTERM or SIGINT: leaves the groups in good order;\n"
             "conversations that are open are reset.\n"
             "Exit status: 0 ended by a signal, 2 wrong use, 3 cannot start (said why), 4 the storage did not\n"
             "answer at the end.");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : kUsage;
  }
  StpdConfig config;
  if (!path.empty()) {
    if (auto read = stp::read_stpd_config(path, config); !read) {
      log_error(read.error().text);
      return kUsage;
    }
  }
  if (!stgs.empty()) config.stgs = stgs;
  if (!host.empty()) config.host = host;
  if (!agent.empty()) config.agent = agent;
  if (!mode.empty()) config.mode = mode;
  if (!metrics.empty()) config.metrics = metrics;
  if (ring_kib != 0) config.ring_kib = ring_kib;
  if (local_over_disk) config.local_over_disk = true;
  if (most_sockets != 0) config.most_sockets = most_sockets;
  if (config.stgs.empty() || config.host.empty()) {
    log_error("say which storage and which host: --stg PATH --host NAME, or stg and host in the file of --config");
    return kUsage;
  }
  return run(path, std::move(config));
}
