// The `stp` tool: one program, a subcommand for each job.

#include <fmt/format.h>

#include <cstdio>
#include <cstdlib>

#include "tools/commands.h"

namespace stp::tools {

CLI::Option* add_stg_option(CLI::App& command, Context& context) {
  return command.add_option("--stg", context.stg, "path of the data storage system")->envname("STP_STG")->type_name("PATH");
}

CLI::Option* add_host_option(CLI::App& command, Context& context) {
  return command.add_option("--host", context.host, "name of this host")->envname("STP_HOST")->type_name("NAME");
}

int complain(const CLI::App& command, const Error& error) {
  fmt::print(stderr, "stp {}: {}\n", command.get_name(), error.text);
  return kFailed;
}

namespace {

int run(int argc, char** argv) {
  CLI::App app{"Sockets over a shared disk: makes, checks and shows a data storage system, and sends data through it.", "stp"};
  app.set_version_flag("--version", "stp " STP_VERSION);
  app.require_subcommand(1);
  app.footer("Exit status: 0 done, 1 failed, 2 wrong use; `stp COMMAND --help` says what else a command returns.");
  app.failure_message([](const CLI::App*, const CLI::Error& error) { return fmt::format("stp: {}\nRun stp --help for more.\n", error.what()); });
  Context context;
  add_bench_command(app, context);
  add_format_command(app, context);
  add_check_command(app, context);
  add_repair_command(app, context);
  add_stats_command(app, context);
  add_evict_command(app, context);
  add_list_commands(app, context);
  add_pipe_command(app, context);
  add_forward_command(app, context);
  add_run_command(app, context);
  add_top_command(app, context);
  context.program = take_program(argc, argv);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? kOk : kUsage;
  }
  return context.status;
}

}  // namespace
}  // namespace stp::tools

int main(int argc, char** argv) { return stp::tools::run(argc, argv); }
