// `stp repair PATH`: restores a damaged superblock from its copy, or the copy from the superblock.

#include <fmt/format.h>

#include <memory>

#include "stp/repair.h"
#include "tools/commands.h"
#include "tools/open_storage.h"

namespace stp::tools {
namespace {

struct RepairOptions {
  std::string path, from;
};

int run_repair(const CLI::App& command, const Context& context, const RepairOptions& o) {
  auto path = chosen_path(context, o.path);
  if (!path) return complain(command, path.error());
  RepairRequest request{.path = *path, .from = {}};
  if (!o.from.empty()) request.from = o.from == "first" ? RepairSource::kFirst : RepairSource::kCopy;
  auto outcome = repair_superblock(request);
  if (!outcome) return complain(command, outcome.error());
  switch (outcome->done) {
    case RepairOutcome::Done::kNothing:
      fmt::print("{}: STG \"{}\": superblock and copy are good, nothing to do\n", *path, outcome->superblock.stg);
      break;
    case RepairOutcome::Done::kFirstRestored:
      fmt::print("{}: STG \"{}\": the superblock was bad ({}), it is restored from its copy\n", *path, outcome->superblock.stg, outcome->was);
      break;
    case RepairOutcome::Done::kCopyRestored:
      fmt::print("{}: STG \"{}\": the copy of the superblock was bad ({}), it is restored from the first one\n", *path, outcome->superblock.stg,
                 outcome->was);
      break;
  }
  return kOk;
}

}  // namespace

void add_repair_command(CLI::App& app, Context& context) {
  CLI::App* command = app.add_subcommand("repair", "Restore a damaged superblock from its copy, or the copy from it");
  auto o = std::make_shared<RepairOptions>();
  add_storage_options(*command, context, o->path);
  command->add_option("--from", o->from, "which one is right, when both are good and differ")->check(CLI::IsMember({"first", "copy"}));
  command->footer("Writes one superblock and nothing else; hosts may go on.\n"
                  "Exit status: 0 repaired, or nothing to do; 1 neither is good, or they differ and --from is missing; 2 wrong use.");
  command->callback([command, o, &context] { context.status = run_repair(*command, context, *o); });
}

}  // namespace stp::tools
