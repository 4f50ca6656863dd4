// stp-fuse: shows a data storage system as a tree of files.

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "fuse/conversations.h"
#include "fuse/events.h"
#include "fuse/net_nodes.h"
#include "fuse/options.h"
#include "fuse/session.h"
#include "fuse/source.h"
#include "fuse/tree.h"
#include "hostlib/agent_protocol.h"
#include "hostlib/host_options.h"

namespace {

using namespace stp;
using view::MountOptions;

constexpr int kFailed = 1;
constexpr int kUsage = 2;
constexpr int kCannotMount = 3;
constexpr Nanos kPatienceAtEnd = 2 * kSecond;

constexpr const char* kOptionsHelp =
    "Options of -o (mount(8)'s own are taken too):\n"
    "  agent=PATH         Unix socket of the agent [STP_AGENT, else /run/stp/agent.sock]\n"
    "  noagent            straight from the storage, though an agent may serve it: nothing but reading\n"
    "  uid=N, gid=N       owner of the files [who mounts]\n"
    "  mode=OCTAL         who may read texts [0444]; umask=OCTAL says the same the other way round\n"
    "  talk=owner|group|all  who may open what flows: the owner, the group as well, everybody [owner]\n"
    "  allow_other        other users may enter the mount at all; whoever is not root needs user_allow_other in /etc/fuse.conf\n"
    "  deadline=SECONDS   how long to wait for the storage or the agent before a program has ETIMEDOUT [5]\n"
    "  fresh=MS           how long what was read serves whoever asks next [150]\n"
    "\n"
    "SRC is a path of a storage (by its agent where one serves it, else straight from it), the name of an STG that the agent serves, a\n"
    "path of an agent's socket, or \"agent\" (also \"none\"): the agent's first one, as without SRC.\n"
    "Goes into the background when the mount is there. SIGTERM, SIGINT or `fusermount3 -u DIR` end it.\n"
    "Exit status: 0 mounted (with -f: unmounted), 1 failed while mounted, 2 wrong use, 3 cannot mount (said why).";

struct CommandLine {
  std::vector<std::string> places;  // [SRC] MOUNTPOINT
  std::vector<std::string> options;
  std::string type;
  bool foreground = false;
};

int complain(int status, std::string_view text) {
  fmt::print(stderr, "stp-fuse: {}\n", text);
  return status;
}

std::string agent_path(const MountOptions& options) {
  if (!options.agent.empty()) return options.agent;
  const char* const path = std::getenv("STP_AGENT");
  return path != nullptr && *path != '\0' ? path : host::kDefaultAgentPath;
}

// A daemon has another working directory.
std::string absolute(const std::string& path) {
  std::error_code error;
  const auto found = std::filesystem::absolute(path, error);
  return error ? path : found.string();
}

// `agent`: which one it is, where it is one.
Result<std::unique_ptr<view::Source>> open_source(const std::string& source, const MountOptions& options, view::AgentSourceSettings& agent) {
  agent = {.path = absolute(agent_path(options)), .stg = {}, .patience = options.deadline};
  if (source.empty() || source == "agent" || source == "none") return view::make_agent_source(agent);
  struct stat facts = {};
  const bool there = ::stat(source.c_str(), &facts) == 0;
  if (!there && source.find('/') != std::string::npos) return fail(errno, fmt::format("\"{}\": {}", source, std::strerror(errno)));
  if (there && S_ISSOCK(facts.st_mode)) {
    agent.path = absolute(source);
    return view::make_agent_source(agent);
  }
  agent.stg = there ? absolute(source) : source;
  if (!there) return view::make_agent_source(agent);
  if (!options.no_agent)
    if (auto served = view::make_agent_source(agent)) return served;
  return view::make_storage_source(absolute(source));
}

// What would fail later without words.
Result<void> check_place(const std::string& mountpoint, const MountOptions& options) {
  struct stat facts = {};
  if (::stat(mountpoint.c_str(), &facts) != 0) {
    if (errno == ENOTCONN)
      return fail(ENOTCONN, fmt::format("\"{}\" is still the mount of a program that is gone; `fusermount3 -u {}` clears it", mountpoint, mountpoint));
    return fail(errno, fmt::format("\"{}\": {}", mountpoint, std::strerror(errno)));
  }
  if (!S_ISDIR(facts.st_mode)) return fail(ENOTDIR, fmt::format("\"{}\" is no directory", mountpoint));
  if (!options.allow_other || ::geteuid() == 0) return {};
  std::ifstream in("/etc/fuse.conf");
  const std::string conf((std::istreambuf_iterator<char>(in)), {});
  if (view::others_allowed(conf)) return {};
  return fail(EPERM, "allow_other: only root may mount for others, unless /etc/fuse.conf has a line user_allow_other");
}

int run(const std::string& source, const std::string& mountpoint, const MountOptions& options, bool foreground) {
  if (auto place = check_place(mountpoint, options); !place) return complain(kCannotMount, place.error().text);
  view::AgentSourceSettings agent;
  auto opened = open_source(source, options, agent);
  if (!opened) return complain(kCannotMount, opened.error().text);
  view::SessionSettings settings{.mountpoint = absolute(mountpoint), .mount_options = options.for_libfuse, .deadline = options.deadline, .uid = options.uid,
                                 .gid = options.gid, .show_mode = options.mode, .talk_mode = options.talk_mode()};
  // A comma would begin another option.
  std::string name = source.empty() ? "agent" : source;
  std::ranges::replace(name, ',', '_');
  settings.mount_options.push_back("fsname=" + name);
  settings.mount_options.emplace_back("subtype=stp-fuse");
  settings.mount_options.emplace_back("default_permissions");
  if (options.allow_other) settings.mount_options.emplace_back("allow_other");
  auto shown = std::make_shared<view::View>(std::move(*opened), view::View::Settings{.fresh = options.fresh, .deadline = options.deadline});
  auto session = view::Session::mount(settings);
  if (!session) return complain(kCannotMount, session.error().text);
  if (auto gone = (*session)->daemonize(foreground); !gone) return complain(kCannotMount, gone.error().text);
  const auto events = view::make_event_feed(shown, view::EventSettings{.deadline = options.deadline});
  view::Plugs plugs;
  plugs.events = view::make_events(events);
  if (shown->source().talks()) {
    host::set_agent_only(agent.path, agent.stg);
    auto conversations = view::Conversations::start();
    if (!conversations) return complain(kFailed, conversations.error().text);
    plugs.net = view::make_net(*conversations);
    plugs.port_data = [all = *conversations](const std::string& host, std::uint16_t port) { return view::make_port_data(all, host, port); };
  }
  const auto ended = (*session)->run(view::make_tree(shown, std::move(plugs)));
  const bool all_ended = view::stop(*events, kPatienceAtEnd);
  if (!ended) return complain(kFailed, ended.error().text);
  if (!*ended || !all_ended) ::_exit(0);  // a thread still waits for the storage
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"Shows a data storage system as a tree of files.", "stp-fuse"};
  app.set_version_flag("--version", "stp-fuse " STP_VERSION);
  CommandLine line;
  app.add_option("SRC", line.places, "what to show, then where: [SRC] MOUNTPOINT")->required()->expected(1, 2)->type_name("[SRC] MOUNTPOINT");
  app.add_option("-o", line.options, "mount options, separated by commas")->type_name("OPTIONS")->allow_extra_args(false);
  app.add_option("-t,--type", line.type, "taken, and not used: mount(8) gives it")->type_name("TYPE");
  app.add_flag("-f,--foreground", line.foreground, "stay in the foreground");
  app.footer(kOptionsHelp);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : kUsage;
  }
  MountOptions options;
  options.uid = ::geteuid();
  options.gid = ::getegid();
  for (const std::string& each : line.options)
    if (auto parsed = view::parse_mount_options(each, options); !parsed) return complain(kUsage, parsed.error().text);
  return run(line.places.size() == 2 ? line.places.front() : std::string(), line.places.back(), options, line.foreground);
}
