// `stp check PATH`: verifies everything on a storage, and writes nothing.

#include <fmt/format.h>

#include <memory>
#include <nlohmann/json.hpp>

#include "stp/checker.h"
#include "stp/size_text.h"
#include "tools/commands.h"
#include "tools/open_storage.h"
#include "tools/progress.h"

namespace stp::tools {
namespace {

using nlohmann::ordered_json;

// As fsck: 4 means errors were left, 8 that the check itself failed.
constexpr int kFaultsFound = 4;
constexpr int kNotChecked = 8;

struct CheckOptions {
  std::string path;
  bool json = false;
};

void print_finding(const Finding& f) {
  const std::string whose = f.host.empty() ? "" : fmt::format(" of {}", f.slot == kNoSlot || f.host.starts_with("slot ") ? f.host
                                                                       : fmt::format("{} (slot {})", f.host, f.slot));
  fmt::print("{}: block {}, {}{}: {}\n  {}\n", to_string(f.severity), f.block, f.region, whose, f.what, f.advice);
}

ordered_json finding_json(const Finding& f) {
  ordered_json j{{"severity", to_string(f.severity)}, {"block", f.block}, {"region", f.region}};
  j["slot"] = f.slot == kNoSlot ? ordered_json(nullptr) : ordered_json(f.slot);
  j["host"] = f.host;
  j["what"] = f.what;
  j["advice"] = f.advice;
  return j;
}

int run_check(const CLI::App& command, const Context& context, const CheckOptions& o) {
  auto storage = open_storage(context, o.path, Storage::Access::kReadOnly);
  if (!storage) {
    complain(command, storage.error());
    return kNotChecked;
  }
  std::vector<Finding> findings;
  CheckRequest request;
  request.report = [&](const Finding& f) { findings.push_back(f); };
  Result<CheckSummary> sum;
  {
    ProgressLine line("checking");
    request.progress = [&](std::uint64_t done, std::uint64_t total) { line.show(done, total); };
    sum = check_storage(**storage, request);
  }
  if (!sum) {
    complain(command, sum.error());
    return kNotChecked;
  }
  const Superblock& s = (*storage)->superblock();
  if (o.json) {
    ordered_json j{{"version", 1}, {"stg", s.stg}, {"uuid", to_string(s.uuid)}, {"clean", sum->faults == 0 && sum->warnings == 0}};
    j["blocks"] = sum->blocks;
    j["never_written"] = sum->empty;
    j["stale"] = sum->stale;
    j["warnings"] = sum->warnings;
    j["faults"] = sum->faults;
    j["findings"] = ordered_json::array();
    for (const Finding& f : findings) j["findings"].push_back(finding_json(f));
    fmt::print("{}\n", j.dump(2));
  } else {
    for (const Finding& f : findings) print_finding(f);
    fmt::print("{}: STG \"{}\", {} blocks checked ({} never written, {} of earlier incarnations): {} faults, {} warnings\n", (*storage)->path(), s.stg,
               sum->blocks, sum->empty, sum->stale, sum->faults, sum->warnings);
  }
  return sum->faults > 0 ? kFaultsFound : kOk;
}

}  // namespace

void add_check_command(CLI::App& app, Context& context) {
  CLI::App* command = app.add_subcommand("check", "Verify everything on a storage; never writes");
  auto o = std::make_shared<CheckOptions>();
  add_storage_options(*command, context, o->path);
  command->add_flag("--json", o->json, "print JSON (its \"version\" is 1)");
  command->footer("Names each fault: block, region, whose it is, what is wrong, what to do. Safe while hosts use the storage.\n"
                  "Exit status: 0 no faults (warnings are what a crash leaves behind; they heal), 2 wrong use, 4 faults found,\n"
                  "8 the storage can not be read or is none.");
  command->callback([command, o, &context] { context.status = run_check(*command, context, *o); });
}

}  // namespace stp::tools
