// stp forward: carries TCP connections and Unix sockets to STP hosts, and STP connections to TCP and Unix sockets.

#include <fmt/format.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <iterator>
#include <memory>
#include <optional>
#include <string>
#include <system_error>
#include <vector>

#include "tools/agent_option.h"
#include "tools/commands.h"
#include "tools/failure.h"
#include "tools/forward_control.h"
#include "tools/forward_spec.h"
#include "tools/forwarder.h"
#include "tools/joining.h"

namespace stp::tools {

namespace {

using forward::Direction;
using forward::ForwardControl;
using forward::Forwarder;
using forward::ForwardSpec;

// Exit status of this command: an endpoint, the control socket or the storage is not to be had.
constexpr int kCannotServe = 3;
constexpr int kInterrupted = 130;

struct ForwardOptions {
  std::vector<std::string> local, remote, dynamic;
  std::string control;
  std::optional<std::string> ask;
  Forwarder::Limits limits;
  bool json = false;
};

int signal_bell = -1;
std::atomic<bool> stopping = false;

void on_signal(int) {
  // A second signal does not wait for good manners.
  if (stopping.exchange(true)) ::_exit(kInterrupted);
  const int before = errno;
  const std::uint64_t one = 1;
  (void)!::write(signal_bell, &one, sizeof one);
  errno = before;
}

void say(const std::string& text) { fmt::print(stderr, "stp forward: {}\n", printable(text)); }

int cannot(const std::string& text) {
  say(text);
  return kCannotServe;
}

int wrong_use(const std::string& text) {
  say(text);
  return kUsage;
}

Result<std::vector<ForwardSpec>> specs_of(const ForwardOptions& options) {
  std::vector<ForwardSpec> out;
  const auto parse_all = [&](Direction direction, const std::vector<std::string>& texts) -> Result<void> {
    for (const std::string& text : texts) {
      auto spec = forward::parse_forward_spec(direction, text);
      if (!spec) return std::unexpected(spec.error());
      out.push_back(std::move(*spec));
    }
    return {};
  };
  auto good = parse_all(Direction::kLocal, options.local);
  if (good) good = parse_all(Direction::kRemote, options.remote);
  if (good) good = parse_all(Direction::kDynamic, options.dynamic);
  if (!good) return std::unexpected(good.error());
  return out;
}

std::size_t open_descriptors() {
  std::error_code error;
  const std::filesystem::directory_iterator begin("/proc/self/fd", error);
  return error ? 64 : static_cast<std::size_t>(std::distance(begin, std::filesystem::directory_iterator()));
}

// So many connections find descriptors. The shell's limit is for people, and is raised as far as may be; were more connections accepted
// than find all of their descriptors, those would fail that could as well have waited.
std::size_t connections_by_descriptors(std::size_t wanted, std::size_t endpoints) {
  constexpr std::size_t kOfAConnection = 5;  // its two sockets and what shows readiness of one, and one for the time that it is made
  constexpr std::size_t kOfAnEndpoint = 2;
  constexpr std::size_t kSpare = 24;  // control connections, looking up names
  rlimit limit = {};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return wanted;
  const std::size_t others = open_descriptors() + kSpare + kOfAnEndpoint * endpoints;
  const std::size_t room = std::max<std::size_t>(limit.rlim_cur, others + kOfAConnection) - others;
  const std::size_t possible = std::min(wanted, room / kOfAConnection);
  if (possible < wanted)
    say(fmt::format("{} descriptors, of which {} are in use, are enough for {} connections at a time; raise the limit (ulimit -n) for more",
                    limit.rlim_cur, open_descriptors(), possible));
  return possible;
}

void raise_descriptor_limit() {
  rlimit limit = {};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  (void)::setrlimit(RLIMIT_NOFILE, &limit);
}

// The first socket joins the storage system, which may take a while: before anybody is let in.
Result<void> join() {
  const StpSocket socket(STPsocket(AF_STP, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!socket) return fail(errno, fmt::format("can not use STP: {}", stp_words(-1, errno)));
  return {};
}

// Until now a signal ended the program as usual: there was nothing to put in order.
bool end_on_signals(EventLoop& loop, const UniqueFd& bell) {
  signal_bell = bell.get();
  struct sigaction action {};
  action.sa_handler = on_signal;
  return bell && loop.watch(bell.get(), EPOLLIN, [&loop, fd = bell.get()](std::uint32_t) {
    loop.forget(fd);
    loop.stop();
  }) && ::sigaction(SIGINT, &action, nullptr) == 0 && ::sigaction(SIGTERM, &action, nullptr) == 0;
}

int serve(const ForwardOptions& options, const std::vector<ForwardSpec>& specs) {
  ::signal(SIGPIPE, SIG_IGN);
  raise_descriptor_limit();
  show_joining("stp forward");
  if (const auto joined = join(); !joined) return cannot(joined.error().text);
  auto loop = EventLoop::make();
  if (!loop) return cannot(loop.error().text);
  const UniqueFd bell(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!end_on_signals(**loop, bell)) return cannot("can not wait for signals");
  Forwarder::Limits limits = options.limits;
  limits.connections = connections_by_descriptors(limits.connections, specs.size());
  Forwarder forwarder(**loop, limits, say);
  for (const ForwardSpec& spec : specs)
    if (const auto added = forwarder.add(spec); !added) return cannot(added.error().text);
  std::unique_ptr<ForwardControl> control;
  if (!options.control.empty()) {
    auto opened = ForwardControl::open(**loop, options.control, forwarder);
    if (!opened) return cannot(fmt::format("--control: {}", opened.error().text));
    control = std::move(*opened);
  }
  for (const ForwardSpec& spec : specs) say(fmt::format("serving {}", to_string(spec)));
  if (control) say(fmt::format("taking commands on {}", options.control));
  (*loop)->run();
  return kOk;
}

int ask(const ForwardOptions& options) {
  const auto answer = forward::ask_forwarder(options.control, options.json ? *options.ask + " --json" : *options.ask);
  if (!answer) {
    say(answer.error().text);
    return kFailed;
  }
  fmt::print("{}", *answer);
  return kOk;
}

int run_forward(const ForwardOptions& options) {
  const bool endpoints = !options.local.empty() || !options.remote.empty() || !options.dynamic.empty();
  if (options.ask) {
    if (options.control.empty() || endpoints) return wrong_use("--ask goes with --control PATH, and with no endpoints");
    return ask(options);
  }
  if (options.json) return wrong_use("--json goes with --ask list");
  if (!endpoints && options.control.empty()) return wrong_use("say what to forward: -L, -R, -D, or --control PATH to be told later");
  const auto specs = specs_of(options);
  return specs ? serve(options, *specs) : wrong_use(specs.error().text);
}

void add_endpoint_options(CLI::App& command, ForwardOptions& options) {
  const auto each = [&](const char* name, std::vector<std::string>& texts, const char* what, const char* form) {
    command.add_option(name, texts, what)->type_name(form)->expected(1)->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  };
  each("-L", options.local,
       "listen on TCP (127.0.0.1 unless ADDR says otherwise), or on a Unix socket, and carry each connection to STP host HOST, port PORT",
       "[ADDR:]PORT:HOST:PORT|/PATH:HOST:PORT");
  each("-R", options.remote, "listen on an STP port of this host, and carry each connection to TCP, or to a Unix socket",
       "PORT:ADDR:PORT|PORT:/PATH");
  each("-D", options.dynamic, "SOCKS5 proxy, whose clients ask for HOST.stp or HOST.STG.stp", "[ADDR:]PORT");
}

}  // namespace

void add_forward_command(CLI::App& app, Context& context) {
  auto options = std::make_shared<ForwardOptions>();
  CLI::App* command = app.add_subcommand("forward", "TCP and Unix sockets to STP hosts, and back: for programs that know nothing of STP");
  add_endpoint_options(*command, *options);
  command->add_option("--control", options->control, "Unix socket, made for its user alone, that takes commands while this runs")
      ->type_name("PATH");
  command->add_option("--ask", options->ask, "give this command to the one that runs with that --control, and print the answer")
      ->type_name("COMMAND");
  command->add_flag("--json", options->json, "with --ask list: as JSON");
  command->add_option("--max-connections", options->limits.connections, "connections carried at a time; more wait in the queues")
      ->capture_default_str()
      ->check(CLI::Range(1, 1'000'000));
  add_stg_option(*command, context);
  add_host_option(*command, context);
  add_agent_option(*command);
  command->footer(
      "-L, -R and -D may be given many times. IPv6 addresses stand in brackets; ADDR \"*\" is every address of the machine. Both ends\n"
      "of a connection are carried over as they are: the end of one direction leaves the other open, and a reset is a reset (to a Unix\n"
      "socket only where the program's last words were few: the kernel resets it by what is left unread).\n"
      "  stp forward -R 5432:127.0.0.1:5432         on beta,   stp forward -L 5432:beta:5432     on alpha: psql -h 127.0.0.1 there\n"
      "  stp forward -D 1080                        curl --socks5-hostname 127.0.0.1:1080 http://beta.stp:8080/\n"
      "  stp forward --control /run/user/0/forward --ask 'add -L 8080:beta:80'      also remove -L SPEC, list\n"
      "A removed endpoint's connections go on. Whoever may connect to what this listens on is let through: there is no authentication.\n"
      "Exit status: 0 ended by SIGTERM or SIGINT, or the command was carried out; 1 it was not; 2 wrong use; 3 an endpoint, the control\n"
      "socket or the storage can not be had; 130 a second signal came before it had ended.");
  command->callback([options, &context] {
    if (!context.stg.empty()) ::setenv("STP_STG", context.stg.c_str(), 1);
    if (!context.host.empty()) ::setenv("STP_HOST", context.host.c_str(), 1);
    context.status = run_forward(*options);
  });
}

}  // namespace stp::tools
