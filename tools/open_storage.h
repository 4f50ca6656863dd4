// Which storage a subcommand works on: PATH on its command line, else --stg, else STP_STG.
#pragma once

#include <memory>
#include <string>

#include "stp/storage.h"
#include "tools/commands.h"

namespace stp::tools {

// Adds the positional PATH and --stg.
void add_storage_options(CLI::App& command, Context& context, std::string& path);
Result<std::string> chosen_path(const Context& context, const std::string& path);
Result<std::shared_ptr<Storage>> open_storage(const Context& context, const std::string& path, Storage::Access access);

}  // namespace stp::tools
