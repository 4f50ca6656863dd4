// stpd: the agent of a host. Holds the data storage systems, joins their groups, and serves the programs of the host.

#include <fmt/format.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "hostlib/agent_door.h"
#include "stp/names.h"
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

void say(std::string_view text) { fmt::print(stderr, "stpd: {}\n", text); }

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
    if (!text.empty()) say(fmt::format("joining \"{}\": {}", stg, text));
  };
  settings.ring_bytes = config.ring_kib * 1024;
  settings.most_sockets_of_a_user = config.most_sockets;
  settings.log = say;
  return Agent::start(settings);
}

void reread(const std::string& path, StpdConfig& config, AgentDoor& door, const std::vector<std::unique_ptr<Agent>>& agents) {
  if (path.empty()) return say("SIGHUP: there is no configuration file to read again");
  if (auto read = stp::read_stpd_config(path, config); !read) return say(read.error().text + "; going on as before");
  door.set_access(config.access);
  for (const auto& agent : agents) agent->set_most_sockets_of_a_user(config.most_sockets);
  say(fmt::format("read {} again: access and limits hold from now on, everything else from the next start", path));
}

int run(const std::string& path, StpdConfig config) {
  ::signal(SIGPIPE, SIG_IGN);
  const int signals = watch_signals();
  raise_descriptor_limit();
  auto door = AgentDoor::open(config.agent, static_cast<mode_t>(std::stoul(config.mode, nullptr, 8)));
  if (!door) {
    say(door.error().text);
    return kCannotStart;
  }
  (*door)->set_access(config.access);
  std::vector<std::unique_ptr<Agent>> agents;
  for (const std::string& stg : config.stgs) {
    auto agent = start_agent(config, stg);
    if (!agent) {
      say(agent.error().text);
      return kCannotStart;
    }
    say(fmt::format("{} is a host of {} (\"{}\")", (*agent)->name(), (*agent)->stg(), stg));
    agents.push_back(std::move(*agent));
  }
  say(fmt::format("serving on \"{}\"", config.agent));
  const stp::ServiceManager manager;
  manager.ready();
  for (bool ended = false; !ended;) {
    (*door)->serve(agents, signals, manager.watchdog_ms(kLookAroundMs), say);
    manager.alive();
    signalfd_siginfo signal = {};
    while (::read(signals, &signal, sizeof signal) == static_cast<ssize_t>(sizeof signal)) {
      if (signal.ssi_signo != SIGHUP) {
        ended = true;
        break;
      }
      manager.reloading();
      reread(path, config, **door, agents);
      manager.ready();
    }
  }
  manager.stopping();
  say("leaving");
  door->reset();
  bool left = true;
  for (const auto& agent : agents) left &= agent->leave();
  if (!left) {
    say("the storage did not answer in time: going without having left the group; others will call this host dead");
    std::fflush(nullptr);
    ::_exit(kNotLeft);
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"The agent of a host: holds its data storage systems and serves sockets to the programs of the host, which need no access to the "
               "storage then.",
               "stpd"};
  app.set_version_flag("--version", "stpd " STP_VERSION);
  std::string path;
  std::vector<std::string> stgs;
  std::string host, agent, mode;
  unsigned ring_kib = 0, most_sockets = 0;
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
  app.add_option("--ring", ring_kib, "KiB of memory of each direction of a socket, touched as it is used [1024]")->check(CLI::Range(4, 65536));
  app.add_option("--max-sockets", most_sockets, "sockets that one user may have [16384]")->check(CLI::Range(1, 1 << 24));
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
      say(read.error().text);
      return kUsage;
    }
  }
  if (!stgs.empty()) config.stgs = stgs;
  if (!host.empty()) config.host = host;
  if (!agent.empty()) config.agent = agent;
  if (!mode.empty()) config.mode = mode;
  if (ring_kib != 0) config.ring_kib = ring_kib;
  if (most_sockets != 0) config.most_sockets = most_sockets;
  if (config.stgs.empty() || config.host.empty()) {
    say("say which storage and which host: --stg PATH --host NAME, or stg and host in the file of --config");
    return kUsage;
  }
  return run(path, std::move(config));
}
