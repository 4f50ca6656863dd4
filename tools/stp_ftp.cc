// stp-ftp: moves files to and from a host of the storage group that runs stp-ftpd.

#include <fmt/format.h>
#include <signal.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>

#include "tools/agent_option.h"
#include "tools/ftp_shell.h"
#include "tools/joining.h"
#include "tools/line_editor.h"

namespace {

using stp::Failure;
using stp::FailureCode;
using stp::Outcome;
using stp::ftp::Shell;

std::atomic<bool> interrupted = false;

void interrupt(int) {
  // The first leaves time to tidy up, the second does not.
  if (interrupted.exchange(true)) ::_exit(stp::exit_status(FailureCode::kInterrupted));
}

void set_signals() {
  struct sigaction action {};
  action.sa_handler = interrupt;
  ::sigaction(SIGINT, &action, nullptr);
  ::sigaction(SIGTERM, &action, nullptr);
  ::signal(SIGPIPE, SIG_IGN);
  ::signal(SIGXFSZ, SIG_IGN);  // the write fails with EFBIG instead
}

void complain(const Failure& why, bool json) {
  std::string text = why.text;
  if (why.code == FailureCode::kPeerGone || why.code == FailureCode::kInterrupted) text += "; a transfer that was cut off goes on when the command is given again";
  fmt::print(stderr, "stp-ftp: {}\n", text);
  if (!json) return;
  const nlohmann::ordered_json line = {{"event", "error"}, {"status", stp::exit_status(why.code)}, {"text", text}};
  fmt::print("{}\n", line.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
  std::fflush(stdout);
}

// Stops at the first error and returns its status.
int run_script(Shell& shell, std::string_view script, bool json) {
  const auto commands = stp::ftp::parse_commands(script);
  Outcome<void> done = commands ? Outcome<void>() : std::unexpected(commands.error());
  for (std::size_t i = 0; done && commands && i < commands->size() && !shell.quit(); ++i) done = shell.run((*commands)[i]);
  if (done) return 0;
  complain(done.error(), json);
  return stp::exit_status(done.error().code);
}

// Goes on after errors; the status is that of the last command.
int run_interactive(Shell& shell, bool json) {
  stp::LineEditor editor("stp-ftp", Shell::command_names());
  int status = 0;
  while (!shell.quit()) {
    interrupted = false;
    std::string line;
    const auto result = editor.read(shell.prompt(), interrupted, &line);
    if (result != stp::LineEditor::Result::kLine) fmt::print("\n");
    if (result == stp::LineEditor::Result::kEnd) break;
    if (result == stp::LineEditor::Result::kInterrupted) continue;
    status = run_script(shell, line, json);
  }
  return status;
}

struct Options {
  std::string host, script, batch, stg, name;
  std::uint16_t port = stp::ftp::kDefaultPort;
  double wait_s = 0;
  bool json = false, has_script = false;
};

int read_batch(const std::string& path, std::string* script) {
  std::ostringstream text;
  if (path == "-") {
    text << std::cin.rdbuf();
  } else {
    std::ifstream file(path);
    if (!file) {
      const auto why = stp::file_failure(errno, fmt::format("cannot read \"{}\"", stp::printable(path)));
      fmt::print(stderr, "stp-ftp: {}\n", why.error().text);
      return stp::exit_status(why.error().code);
    }
    text << file.rdbuf();
  }
  *script = text.str();
  return 0;
}

int run(const Options& options) {
  const bool interactive = !options.has_script && options.batch.empty() && ::isatty(STDIN_FILENO) == 1;
  std::string script = options.script;
  if (!options.has_script && !interactive)
    if (const int status = read_batch(options.batch.empty() ? "-" : options.batch, &script); status != 0) return status;
  Shell::Options settings;
  settings.port = options.port;
  settings.wait = std::chrono::milliseconds(static_cast<std::int64_t>(options.wait_s * 1000));
  settings.json = options.json;
  settings.progress = options.json                       ? stp::ftp::ProgressStyle::kJson
                      : ::isatty(STDERR_FILENO) == 1 ? stp::ftp::ProgressStyle::kTerminal
                                                         : stp::ftp::ProgressStyle::kNone;
  Shell shell(settings, &interrupted);
  if (!options.host.empty()) {
    if (auto opened = shell.open(options.host, options.port); !opened) {
      complain(opened.error(), options.json);
      if (!interactive) return stp::exit_status(opened.error().code);
    }
  }
  return interactive ? run_interactive(shell, options.json) : run_script(shell, script, options.json);
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"Moves files to and from a host of the storage group that runs stp-ftpd. With -c or -b, or when standard input is not a terminal, it stops "
               "at the first command that fails and returns its status.",
               "stp-ftp"};
  app.set_version_flag("--version", "stp-ftp " STP_VERSION);
  Options options;
  app.add_option("HOST", options.host, "host to connect to: HOST or HOST.STG");
  app.add_option("--port", options.port, "STP port of the server")->capture_default_str();
  auto* script = app.add_option("-c,--command", options.script, "commands to run, separated by ';'")->type_name("COMMANDS");
  app.add_option("-b,--batch", options.batch, "file of commands to run, - for standard input")->type_name("FILE")->excludes(script);
  app.add_option("--wait", options.wait_s, "seconds to wait for the server to come up")->type_name("SECONDS")->check(CLI::Range(0.0, 1e6));
  app.add_option("--stg", options.stg, "path of the data storage system (else STP_STG)")->type_name("PATH");
  app.add_option("--host", options.name, "name of this host (else STP_HOST, else the machine's)")->type_name("NAME");
  stp::tools::add_agent_option(app);
  app.add_flag("--json", options.json, "progress, results and listings as JSON lines on standard output");
  app.footer("Commands:\n" + Shell::help_text() + "\n" + std::string(stp::exit_status_help()));
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : stp::exit_status(FailureCode::kUsage);
  }
  options.has_script = script->count() > 0;
  if (!options.stg.empty()) ::setenv("STP_STG", options.stg.c_str(), 1);
  if (!options.name.empty()) ::setenv("STP_HOST", options.name.c_str(), 1);
  set_signals();
  stp::show_joining("stp-ftp");
  return run(options);
}
