// stp-ftpd: serves a directory to stp-ftp clients on other hosts of the storage group.

#include <fmt/format.h>
#include <signal.h>

#include <CLI/CLI.hpp>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "tools/agent_option.h"
#include "tools/ftp_server.h"
#include "tools/joining.h"

namespace {

std::atomic<bool> stopping = false;

void stop(int) {
  // A second signal does not wait for good manners.
  if (stopping.exchange(true)) ::_exit(stp::exit_status(stp::FailureCode::kInterrupted));
}

void set_signals() {
  struct sigaction action {};
  action.sa_handler = stop;
  ::sigaction(SIGINT, &action, nullptr);
  ::sigaction(SIGTERM, &action, nullptr);
  ::signal(SIGPIPE, SIG_IGN);
  ::signal(SIGXFSZ, SIG_IGN);  // the write fails with EFBIG instead
}

int serve(const std::string& root, std::uint16_t port, const stp::ftp::ServerOptions& options) {
  auto files = stp::RootedFiles::open(root);
  if (!files) {
    fmt::print(stderr, "stp-ftpd: {}\n", files.error().text);
    return stp::exit_status(files.error().code);
  }
  auto listener = stp::Listener::listen(port, 64, &stopping);
  if (!listener) {
    fmt::print(stderr, "stp-ftpd: {}\n", listener.error().text);
    return stp::exit_status(listener.error().code);
  }
  fmt::print(stderr, "stp-ftpd: serving \"{}\" on port {}{}\n", root, listener->port(), options.read_only ? ", read-only" : "");
  stp::ftp::Server server(std::move(*files), options);
  const auto end = server.serve(*listener, stopping);
  if (!end) {
    fmt::print(stderr, "stp-ftpd: {}\n", end.error().text);
    return stp::exit_status(end.error().code);
  }
  fmt::print(stderr, "stp-ftpd: ended\n");
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"Serves the files below a directory to stp-ftp on the other hosts of a storage group. Nothing outside of the directory can be reached: "
               "not by .., not by symbolic links.",
               "stp-ftpd"};
  app.set_version_flag("--version", "stp-ftpd " STP_VERSION);
  std::string root, stg, host;
  std::uint16_t port = stp::ftp::kDefaultPort;
  stp::ftp::ServerOptions options;
  app.add_option("--root", root, "the directory to serve")->required()->type_name("DIR");
  app.add_option("--port", port, "STP port to listen on")->capture_default_str();
  app.add_option("--stg", stg, "path of the data storage system (else STP_STG)")->type_name("PATH");
  app.add_option("--host", host, "name of this host (else STP_HOST, else the machine's)")->type_name("NAME");
  stp::tools::add_agent_option(app);
  app.add_flag("--read-only", options.read_only, "clients may only fetch");
  app.add_option("--max-clients", options.max_clients, "clients served at a time; more are told that the server is busy")
      ->capture_default_str()
      ->check(CLI::Range(1, 4096));
  app.add_flag("--quiet", options.quiet, "do not say who comes and goes");
  app.footer("Ends on SIGTERM or SIGINT; transfers that are cut off by this are resumed when the client repeats them.\n"
             "Exit status: 0 ended by a signal, 2 wrong use, 3 cannot listen, others as stp-ftp.");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : stp::exit_status(stp::FailureCode::kUsage);
  }
  if (!stg.empty()) ::setenv("STP_STG", stg.c_str(), 1);
  if (!host.empty()) ::setenv("STP_HOST", host.c_str(), 1);
  set_signals();
  stp::show_joining("stp-ftpd");
  return serve(root, port, options);
}
