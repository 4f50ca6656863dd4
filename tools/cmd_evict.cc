// `stp evict HOST`: frees the slot of a dead host.

#include <fmt/format.h>

#include <memory>

#include "stp/evict.h"
#include "stp/system.h"
#include "tools/commands.h"
#include "tools/open_storage.h"
#include "tools/progress.h"

namespace stp::tools {
namespace {

int run_evict(const CLI::App& command, const Context& context, const std::string& host) {
  auto storage = open_storage(context, {}, Storage::Access::kReadWrite);
  if (!storage) return complain(command, storage.error());
  SystemRandom random;
  EvictRequest request;
  request.host = host;
  Result<Evicted> evicted;
  {
    ProgressLine line("watching the lease");
    request.progress = [&](Nanos watched, Nanos needed) {
      line.text(fmt::format("{:.1f} of {:.1f} s", static_cast<double>(watched) / 1e9, static_cast<double>(needed) / 1e9));
    };
    evicted = evict_host(**storage, random, request);
  }
  if (!evicted) return complain(command, evicted.error());
  fmt::print("slot {} is free{}\n", evicted->slot, evicted->name.empty() ? "" : fmt::format("; it was that of {}", evicted->name));
  return kOk;
}

}  // namespace

void add_evict_command(CLI::App& app, Context& context) {
  CLI::App* command = app.add_subcommand("evict", "Free the slot of a host that is dead");
  auto host = std::make_shared<std::string>();
  command->add_option("HOST", *host, "name of the host, or slot:N when its lease can not be read")->required();
  add_stg_option(*command, context);
  command->footer("A host that is alive is never evicted: its lease is watched for as long as it takes to call a host dead (10 s in the timing\n"
                  "profile local, 90 s in san), unless it ran on this machine or has left, which is known at once.\n"
                  "Exit status: 0 freed, 1 refused or failed (standard error says why), 2 wrong use.");
  command->callback([command, host, &context] { context.status = run_evict(*command, context, *host); });
}

}  // namespace stp::tools
