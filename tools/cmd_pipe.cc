// stp pipe: standard input and output through a session.

#include <fmt/format.h>
#include <signal.h>
#include <unistd.h>

#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "tools/agent_option.h"
#include "tools/commands.h"
#include "tools/joining.h"
#include "tools/pipe_pump.h"
#include "tools/stream.h"

namespace stp::tools {

namespace {

// Exit statuses of this command.
constexpr int kCannotConnect = 3;
constexpr int kConnectionLost = 4;
constexpr int kLocalIo = 5;

struct PipeOptions {
  std::vector<std::string> target;  // HOST PORT
  std::string listen;               // PORT
  double wait_s = 0;
  bool no_stdin = false;
};

int status_of(FailureCode code) {
  switch (code) {
    case FailureCode::kUsage:
      return kUsage;
    case FailureCode::kCannotConnect:
      return kCannotConnect;
    case FailureCode::kIo:
      return kLocalIo;
    default:
      return kConnectionLost;
  }
}

Outcome<Stream> meet_peer(const PipeOptions& options) {
  const bool listening = !options.listen.empty();
  if (listening == !options.target.empty() || (!listening && options.target.size() != 2))
    return failure(FailureCode::kUsage, "say either HOST PORT or --listen PORT");
  const std::string& text = listening ? options.listen : options.target[1];
  const auto port = parse_port(text);
  if (!port) return failure(FailureCode::kUsage, fmt::format("\"{}\" is not a port: 1 to 65535", printable(text)));
  const std::chrono::milliseconds wait(static_cast<std::int64_t>(options.wait_s * 1000));
  if (!listening) return connect_stream(options.target[0], *port, wait, nullptr);
  auto listener = Listener::listen(*port, 1, nullptr);
  if (!listener) return std::unexpected(listener.error());
  return listener->accept();
}

int run_pipe(const PipeOptions& options) {
  ::signal(SIGPIPE, SIG_IGN);  // a closed standard output is an error with its own status
  show_joining("stp pipe");
  auto stream = meet_peer(options);
  const auto end = stream ? pump(std::move(*stream), options.no_stdin ? -1 : STDIN_FILENO, STDOUT_FILENO) : std::unexpected(stream.error());
  if (end) return kOk;
  fmt::print(stderr, "stp pipe: {}\n", end.error().text);
  return status_of(end.error().code);
}

}  // namespace

void add_pipe_command(CLI::App& app, Context& context) {
  auto options = std::make_shared<PipeOptions>();
  CLI::App* command = app.add_subcommand("pipe", "standard input and output through a session, process to process");
  command->add_option("target", options->target, "host and port to connect to")->expected(2)->type_name("HOST PORT");
  command->add_option("--listen", options->listen, "wait on this port for one connection")->type_name("PORT");
  command->add_option("--wait", options->wait_s, "seconds to try again while nobody listens there yet")->type_name("SECONDS")->check(CLI::Range(0.0, 1e6));
  command->add_flag("-n,--no-stdin", options->no_stdin, "send nothing: as if standard input were at its end");
  add_stg_option(*command, context);
  add_host_option(*command, context);
  add_agent_option(*command);
  command->footer(
      "Both directions run at once. The end of standard input ends what is sent, and only that: the pipe goes on until the peer has ended too, and\n"
      "nothing is cut off. When standard input is a terminal, it counts as ended when the peer ends.\n"
      "  pg_dump db | stp pipe beta 7000        on one host,   stp pipe --listen 7000 | psql db     on beta\n"
      "Exit status: 0 everything was delivered both ways; 2 wrong use; 3 cannot connect or listen: nobody listens, host unknown or down;\n"
      "4 the connection was lost in the middle; 5 standard input or output failed.");
  command->callback([options, &context] {
    if (!context.stg.empty()) ::setenv("STP_STG", context.stg.c_str(), 1);
    if (!context.host.empty()) ::setenv("STP_HOST", context.host.c_str(), 1);
    context.status = run_pipe(*options);
  });
}

}  // namespace stp::tools
