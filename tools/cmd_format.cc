// `stp format PATH`: makes a data storage system.

#include <fmt/format.h>

#include <atomic>
#include <csignal>
#include <memory>

#include "stp/formatter.h"
#include "stp/size_text.h"
#include "tools/commands.h"
#include "tools/progress.h"

namespace stp::tools {
namespace {

struct FormatOptions {
  FormatRequest request;
  std::string size, medium;
};

std::atomic<bool> interrupted{false};
static_assert(std::atomic<bool>::is_always_lock_free);
void on_interrupt(int) { interrupted = true; }

void print_summary(const Superblock& s, const std::string& path) {
  const Geometry& g = s.geometry;
  fmt::print("STG            {}\npath           {}\nUUID           {}\nsize           {}\nmedium         {}\nblock size     {} bytes\n", s.stg, path,
             to_string(s.uuid), size_text(g.total_bytes()), to_string(s.medium), g.block_size);
  fmt::print("hosts          up to {}\nsockets        {} a host\nrings          {} packets for each pair of hosts\ncache region   {} a host\n", g.hosts,
             g.sockets, g.ring_blocks, size_text(static_cast<std::uint64_t>(g.extents) * kExtentBytes));
  fmt::print("timing         dead after {:.1f} s, detected within {:.1f} s\n", s.timing.dead_ms / 1000.0, s.timing.detection_ms() / 1000.0);
}

int run_format(const CLI::App& command, FormatOptions& o) {
  if (!o.size.empty()) {
    auto size = parse_size(o.size);
    if (!size) return complain(command, size.error());
    o.request.size_bytes = *size;
  }
  if (!o.medium.empty()) o.request.medium = o.medium == "mapped" ? MediumKind::kMapped : MediumKind::kDirect;
  o.request.warn = [&](const std::string& text) { fmt::print(stderr, "stp format: warning: {}\n", text); };
  struct sigaction action {};
  action.sa_handler = on_interrupt;
  ::sigaction(SIGINT, &action, nullptr);
  ::sigaction(SIGTERM, &action, nullptr);
  Result<Superblock> made;
  {
    ProgressLine line("formatting");
    o.request.progress = [&](std::uint64_t done, std::uint64_t total) {
      line.show(done, total);
      return !interrupted;
    };
    made = format_storage(o.request);
  }
  if (!made) return complain(command, made.error());
  print_summary(*made, o.request.path);
  return kOk;
}

}  // namespace

void add_format_command(CLI::App& app, Context& context) {
  CLI::App* command = app.add_subcommand("format", "Make a data storage system out of a file or a block device");
  auto options = std::make_shared<FormatOptions>();
  FormatRequest& r = options->request;
  command->add_option("PATH", r.path, "a block device, or a file (made if it is not there)")->required();
  command->add_option("--name", r.stg, "name of the storage group: a-z, 0-9 and -, at most 31; default: made from the file's name")->type_name("STG");
  command->add_option("--size", options->size, "size, as in 64M or 4G; default: the device's or file's own, 1G for a new file");
  command->add_option("--hosts", r.hosts, "most hosts; default 8 up to 2G, 16 above");
  command->add_option("--sockets", r.sockets, "most sockets a host; default 16384 where the size allows");
  command->add_option("--medium", options->medium, "direct (any device or file, any number of machines) or mapped (one machine only, faster)")
      ->check(CLI::IsMember({"direct", "mapped"}));
  command->add_option("--block-size", r.block_size, "bytes a block; default: the physical block, at least 4096");
  command->add_option("--timing", r.timing, "how soon a silent host counts as dead: local (10 s), san (90 s), fast (1 s, tests)")
      ->check(CLI::IsMember({"local", "san", "fast"}))
      ->capture_default_str();
  command->add_flag("--force", r.force, "destroy what is there: file systems, other storages, even one that live hosts use");
  command->footer("Exit status: 0 formatted, 1 refused or failed (standard error says why), 2 wrong use.\n"
                  "An interrupted format leaves no storage behind, neither the old one nor the new one.");
  command->callback([command, options, &context] { context.status = run_format(*command, *options); });
}

}  // namespace stp::tools
