// The --agent option of programs that make STP calls.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdlib>
#include <string>

namespace stp::tools {

inline void add_agent_option(CLI::App& command) {
  command
      .add_option_function<std::string>("--agent", [](const std::string& path) { ::setenv("STP_AGENT", path.c_str(), 1); },
                                        "Unix socket of the agent to use, or \"none\" (else STP_AGENT, else /run/stp/agent.sock)")
      ->type_name("PATH");
}

}  // namespace stp::tools
