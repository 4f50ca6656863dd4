// The subcommands of `stp`. Each add_NAME_command() adds one to the command line; its callback does the work and leaves its
// exit status in Context::status. Data goes to standard output, everything else to standard error.
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

#include "stp/error.h"

namespace stp::tools {

// What the subcommands share.
struct Context {
  std::string stg;   // --stg: path of the data storage system; else STP_STG
  std::string host;  // --host: my host name; else STP_HOST
  std::vector<std::string> program;  // `stp run`: the program to start, and its arguments
  int status = 0;    // exit status of the program
};

// Of `stp run`: takes the program and its arguments off the command line, which are not this program's to read. What is left is parsed.
std::vector<std::string> take_program(int& argc, char** argv);

// Exit statuses that all subcommands share; some have more, and their --help says which.
inline constexpr int kOk = 0;
inline constexpr int kFailed = 1;
inline constexpr int kUsage = 2;

// Adds --stg (and STP_STG), or --host (and STP_HOST), to a subcommand.
CLI::Option* add_stg_option(CLI::App& command, Context& context);
CLI::Option* add_host_option(CLI::App& command, Context& context);

// "stp NAME: text" on standard error; returns kFailed.
int complain(const CLI::App& command, const Error& error);

void add_bench_command(CLI::App& app, Context& context);
void add_check_command(CLI::App& app, Context& context);
void add_evict_command(CLI::App& app, Context& context);
void add_format_command(CLI::App& app, Context& context);
void add_forward_command(CLI::App& app, Context& context);
void add_list_commands(CLI::App& app, Context& context);  // hosts, sockets, ports
void add_pipe_command(CLI::App& app, Context& context);
void add_repair_command(CLI::App& app, Context& context);
void add_run_command(CLI::App& app, Context& context);
void add_stats_command(CLI::App& app, Context& context);
void add_top_command(CLI::App& app, Context& context);

}  // namespace stp::tools
