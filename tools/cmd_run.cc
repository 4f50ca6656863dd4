// stp run: starts an unmodified program whose sockets to STP hosts go through the agent.

#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "hostlib/agent_protocol.h"
#include "hostlib/run_protocol.h"
#include "hostlib/run_rules.h"
#include "tools/agent_option.h"
#include "tools/commands.h"
#include "tools/elf_kind.h"

namespace stp::tools {

namespace {

constexpr int kNoAgent = 3;
constexpr int kCanNotPreload = 126;  // as shells have it for what can not be run
constexpr int kNotFound = 127;


std::string agent_path() {
  const char* const path = std::getenv("STP_AGENT");
  return std::filesystem::weakly_canonical(path != nullptr && *path != 0 ? path : host::kDefaultAgentPath).string();
}

// In the build's tree beside the tool, else where it was installed.
std::string preload_library() {
  if (const char* const path = std::getenv("STP_PRELOAD"); path != nullptr && *path != 0) return path;
  std::error_code code;
  const auto self = std::filesystem::read_symlink("/proc/self/exe", code);
  const auto beside = self.parent_path().parent_path() / "hostlib" / "libstp-preload.so";
  if (!code && std::filesystem::exists(beside, code)) return beside.string();
  return STP_PRELOAD;
}

// A file with rules, or rules.
Result<std::string> read_rules(const std::string& map) {
  std::string text = map, name = "--map";
  if (std::ifstream file(map); !map.empty() && map.find(' ') == std::string::npos) {
    if (!file) return fail(EINVAL, fmt::format("--map: \"{}\" is neither a file that can be read nor a rule, as \"listen 80 stp\"", map));
    std::ostringstream all;
    all << file.rdbuf();
    text = all.str();
    name = map;
  }
  if (auto rules = run::RunRules::parse(text); !rules) return fail(EINVAL, fmt::format("{}: {}", name, rules.error()));
  return text;
}

Result<std::string> ask_agent() {
  const std::string path = agent_path();
  std::string told;
  const int code = run::find_run_server(path, told);
  if (code == 0) return told;
  if (code == ENOENT && ::access(path.c_str(), F_OK) == 0)
    return fail(code, fmt::format("the agent on \"{}\" does not serve yet (it joins its group first), or has ended: wait a moment, or start one with stpd", path));
  if (code == ENOENT) return fail(code, fmt::format("no agent serves on \"{}\": start one with stpd, or name another one with --agent", path));
  if (code == EPERM) return fail(code, fmt::format("who serves as the agent of \"{}\" is neither root nor you nor that socket's owner", path));
  return fail(code, fmt::format("the agent of \"{}\" does not serve this program: {}", path, std::strerror(code)));
}

int refuse(int status, std::string_view text) {
  fmt::print(stderr, "stp run: {}\n", text);
  return status;
}

int run_program(const std::string& map, const std::vector<std::string>& command) {
  const auto rules = read_rules(map);
  if (!rules) return refuse(kUsage, rules.error().text);
  const std::string program = find_program(command.front());
  if (program.empty()) return refuse(kNotFound, fmt::format("there is no program \"{}\"", command.front()));
  std::string seen;
  const ElfKind kind = elf_kind(program, seen);
  constexpr std::string_view kForward = "`stp forward` connects it to STP over TCP or a Unix socket";
  if (kind == ElfKind::kStatic) return refuse(kCanNotPreload, fmt::format("\"{}\" is linked statically and loads no library (Go programs often are): {}", seen, kForward));
  if (kind == ElfKind::kPrivileged) return refuse(kCanNotPreload, fmt::format("\"{}\" runs with more rights than you have (setuid, setgid or capabilities), and takes no library from you: {}", seen, kForward));
  const std::string library = preload_library();
  if (::access(library.c_str(), R_OK) != 0) return refuse(kFailed, fmt::format("\"{}\" can not be read: {}; STP_PRELOAD names another place", library, std::strerror(errno)));
  const auto told = ask_agent();
  if (!told) return refuse(kNoAgent, told.error().text);
  const char* const before = std::getenv("LD_PRELOAD");
  const std::string preload = before != nullptr && *before != 0 ? library + ":" + before : library;
  (void)::setenv(run::kRunVariable, told->c_str(), 1);
  (void)::setenv("STP_MAP", rules->c_str(), 1);
  (void)::setenv("LD_PRELOAD", preload.c_str(), 1);
  std::vector<char*> arguments;
  for (const std::string& word : command) arguments.push_back(const_cast<char*>(word.c_str()));
  arguments.push_back(nullptr);
  (void)::execv(program.c_str(), arguments.data());
  return refuse(errno == ENOENT ? kNotFound : kCanNotPreload, fmt::format("can not start \"{}\": {}", program, std::strerror(errno)));
}

}  // namespace

std::vector<std::string> take_program(int& argc, char** argv) {
  if (argc < 2 || std::string_view(argv[1]) != "run") return {};
  int at = 2;
  for (; at < argc; ++at) {
    const std::string_view word = argv[at];
    if (word == "--" || !word.starts_with('-')) break;
    if (word == "--map" || word == "--agent") ++at;  // and its value
  }
  if (at >= argc) return {};
  const bool marked = std::string_view(argv[at]) == "--";
  std::vector<std::string> program(argv + at + (marked ? 1 : 0), argv + argc);
  argc = at;
  return program;
}

void add_run_command(CLI::App& app, Context& context) {
  auto map = std::make_shared<std::string>();
  CLI::App* command = app.add_subcommand("run", "an unmodified program, whose sockets reach STP hosts as HOST.stp: stp run [OPTIONS] [--] COMMAND [ARGUMENTS]");
  command->add_option("--map", *map, "which of its listening sockets are STP's: a file with rules, or rules")->type_name("RULES");
  add_agent_option(*command);
  command->footer(
      "Every STP host has the name HOST.stp (HOST.STG.stp) and an IPv4 address for the program. What it connects to there, and what it listens on at\n"
      "0.0.0.0 or ::, goes through STP; everything else stays as it is. Rules, the first that fits holds:\n"
      "  [program NAME] listen PORTS [on wildcard | on loopback] stp | tcp | both      as: \"listen 22,8000-8999 tcp; listen * stp\"\n"
      "(both: the program listens on TCP as ever, and what comes over STP is brought to it.)\n"
      "The program's exit status is returned. 2 wrong use or a rule that makes no sense; 3 no agent serves; 126 the program can not be\n"
      "preloaded (static, setuid) or started; 127 it is not there. STP_DEBUG=1 says on stderr what becomes of its sockets.");
  command->callback([map, &context] {
    if (context.program.empty()) {
      fmt::print(stderr, "stp run: say which program to start, as: stp run -- curl http://alpha.stp/\n");
      context.status = kUsage;
      return;
    }
    context.status = run_program(*map, context.program);
  });
}

}  // namespace stp::tools
