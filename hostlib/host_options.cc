#include "hostlib/host_options.h"

#include <unistd.h>

#include <array>
#include <cstdlib>
#include <mutex>

#include "hostlib/agent_protocol.h"
#include "stp/names.h"

namespace stp::host {
namespace {

std::mutex& settings_mutex() {
  static std::mutex& mutex = *new std::mutex;  // never destroyed: calls may come from the destructors of statics
  return mutex;
}

HostSettings& settings() {
  static HostSettings& given = *new HostSettings;
  return given;
}

std::string from_environment(const char* name) {
  const char* value = std::getenv(name);
  return value != nullptr ? value : "";
}

std::string short_machine_name() {
  std::array<char, 256> name{};
  if (::gethostname(name.data(), name.size() - 1) != 0) return {};
  const std::string_view whole(name.data());
  return std::string(whole.substr(0, whole.find('.')));
}

}  // namespace

void set_storage_path(std::string path) {
  std::lock_guard lock(settings_mutex());
  settings().path = std::move(path);
}

void set_host_name(std::string name) {
  std::lock_guard lock(settings_mutex());
  settings().name = std::move(name);
}

void set_agent_path(std::string path) {
  std::lock_guard lock(settings_mutex());
  settings().agent = std::move(path);
}

void set_agent_only(std::string path, std::string stg) {
  std::lock_guard lock(settings_mutex());
  settings().agent = std::move(path);
  settings().path = std::move(stg);
  settings().agent_only = true;
}

void set_join_progress(std::function<void(std::string_view)> show) {
  std::lock_guard lock(settings_mutex());
  settings().progress = std::move(show);
}

HostSettings host_settings() {
  std::lock_guard lock(settings_mutex());
  HostSettings now = settings();
  if (now.path.empty() && !now.agent_only) now.path = from_environment("STP_STG");
  if (now.name.empty() && !now.agent_only) now.name = from_environment("STP_HOST");
  now.wanted_name = fold_name(now.name);
  if (now.name.empty()) now.name = short_machine_name();
  if (now.agent.empty()) now.agent = from_environment("STP_AGENT");
  now.agent_named = !now.agent.empty();
  if (now.agent.empty()) now.agent = kDefaultAgentPath;
  if (now.agent == "none") now.agent.clear();
  now.name = fold_name(now.name);
  return now;
}

}  // namespace stp::host
