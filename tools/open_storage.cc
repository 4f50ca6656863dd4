#include "tools/open_storage.h"

#include <cerrno>

namespace stp::tools {

void add_storage_options(CLI::App& command, Context& context, std::string& path) {
  command.add_option("PATH", path, "path of the data storage system; default: --stg, else STP_STG");
  add_stg_option(command, context);
}

Result<std::string> chosen_path(const Context& context, const std::string& path) {
  const std::string& chosen = path.empty() ? context.stg : path;
  if (chosen.empty()) return fail(EINVAL, "which storage? give its path, or --stg PATH, or set STP_STG");
  return chosen;
}

Result<std::shared_ptr<Storage>> open_storage(const Context& context, const std::string& path, Storage::Access access) {
  auto chosen = chosen_path(context, path);
  if (!chosen) return std::unexpected(chosen.error());
  return Storage::open(*chosen, access);
}

}  // namespace stp::tools
