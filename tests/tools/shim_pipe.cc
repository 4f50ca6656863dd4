// `stp pipe` alone, for tests over the stand-in for libstp.

#include <fmt/format.h>

#include "tools/commands.h"

namespace stp::tools {
CLI::Option* add_stg_option(CLI::App& command, Context& context) { return command.add_option("--stg", context.stg); }
CLI::Option* add_host_option(CLI::App& command, Context& context) { return command.add_option("--host", context.host); }
}  // namespace stp::tools

int main(int argc, char** argv) {
  CLI::App app;
  stp::tools::Context context;
  stp::tools::add_pipe_command(app, context);
  CLI11_PARSE(app, argc, argv);
  return context.status;
}
