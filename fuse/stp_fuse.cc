// stp-fuse: shows a data storage system as a tree of files.

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

#include "fuse/session.h"

namespace {

using namespace stp;

class Status final : public view::TextFile {
 public:
  Result<std::string> text(view::Patience) override { return std::string("nothing is shown yet\n"); }
};

class Root final : public view::Directory {
 public:
  Result<view::NodePtr> lookup(std::string_view name, view::Patience) override {
    if (name != "status") return fail(ENOENT, "");
    return std::make_shared<Status>();
  }
  Result<std::vector<Entry>> list(view::Patience) override { return std::vector<Entry>{{"status", std::make_shared<Status>()}}; }
};

constexpr int kUsage = 2;
constexpr int kCannotMount = 3;

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"Shows a data storage system as a tree of files.", "stp-fuse"};
  app.set_version_flag("--version", "stp-fuse " STP_VERSION);
  view::SessionSettings settings;
  bool foreground = false;
  app.add_option("MOUNTPOINT", settings.mountpoint)->required();
  app.add_flag("-f,--foreground", foreground, "stay in the foreground");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : kUsage;
  }
  settings.mount_options = {"default_permissions", "fsname=stp", "subtype=stp-fuse"};
  settings.uid = ::geteuid();
  settings.gid = ::getegid();
  auto session = view::Session::mount(settings, std::make_shared<Root>());
  auto well = session ? (*session)->daemonize(foreground) : Result<void>(std::unexpected(session.error()));
  auto ended = well ? (*session)->run() : Result<bool>(std::unexpected(well.error()));
  if (ended) return 0;
  fmt::print(stderr, "stp-fuse: {}\n", ended.error().text);
  return kCannotMount;
}
