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

namespace {

using stp::host::Agent;
using stp::host::AgentDoor;
using stp::host::AgentSettings;

struct Options {
  std::vector<std::string> stgs;
  std::string host;
  std::string path = stp::host::kDefaultAgentPath;
  std::string mode = "0666";
  unsigned ring_kib = 1024;
  unsigned most_sockets = 16384;
};

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

int run(const Options& options) {
  ::signal(SIGPIPE, SIG_IGN);
  const int signals = watch_signals();
  raise_descriptor_limit();
  auto door = AgentDoor::open(options.path, static_cast<mode_t>(std::stoul(options.mode, nullptr, 8)));
  if (!door) {
    say(door.error().text);
    return 3;
  }
  std::vector<std::unique_ptr<Agent>> agents;
  for (const std::string& stg : options.stgs) {
    AgentSettings settings;
    settings.host.path = stg;
    settings.host.name = stp::fold_name(options.host);
    settings.host.progress = [&stg](std::string_view text) {
      if (!text.empty()) say(fmt::format("joining \"{}\": {}", stg, text));
    };
    settings.ring_bytes = options.ring_kib * 1024;
    settings.most_sockets_of_a_user = options.most_sockets;
    settings.log = say;
    auto agent = Agent::start(settings);
    if (!agent) {
      say(agent.error().text);
      return 3;
    }
    say(fmt::format("{} is a host of {} (\"{}\")", (*agent)->name(), (*agent)->stg(), stg));
    agents.push_back(std::move(*agent));
  }
  say(fmt::format("serving on \"{}\"", options.path));
  stp::ServiceManager manager;
  manager.ready();
  for (;;) {
    (*door)->serve(agents, signals, manager.watchdog_ms(1000), say);
    manager.alive();
    signalfd_siginfo signal = {};
    if (::read(signals, &signal, sizeof signal) != static_cast<ssize_t>(sizeof signal)) continue;
    if (signal.ssi_signo == SIGHUP) continue;
    break;
  }
  manager.stopping();
  say("leaving");
  door->reset();
  agents.clear();
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"The agent of a host: holds its data storage systems and serves sockets to the programs of the host, which need no access to the "
               "storage then.",
               "stpd"};
  app.set_version_flag("--version", "stpd " STP_VERSION);
  Options options;
  app.add_option("--stg", options.stgs, "path of a data storage system; may be given several times")->required()->type_name("PATH");
  app.add_option("--host", options.host, "name of this host in the groups")->required()->type_name("NAME");
  app.add_option("--agent", options.path, "the Unix socket to serve on; programs find it by STP_AGENT, or at this default")
      ->capture_default_str()
      ->type_name("PATH");
  app.add_option("--mode", options.mode, "permissions of that socket, in octal")
      ->capture_default_str()
      ->check(CLI::Validator([](std::string& text) { return !text.empty() && text.size() <= 4 && text.find_first_not_of("01234567") == std::string::npos
                                                                ? std::string()
                                                                : std::string("permissions in octal are wanted, as 0660"); },
                             "OCTAL"));
  app.add_option("--ring", options.ring_kib, "KiB of memory of each direction of a socket, touched as it is used")
      ->capture_default_str()
      ->check(CLI::Range(4, 65536));
  app.add_option("--max-sockets", options.most_sockets, "sockets that one user may have")->capture_default_str()->check(CLI::Range(1, 1 << 24));
  app.footer("Runs in the foreground. Ends on SIGTERM or SIGINT: leaves the groups in good order; conversations that are open are reset.\n"
             "Exit status: 0 ended by a signal, 2 wrong use, 3 cannot start (said why).");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  return run(options);
}
