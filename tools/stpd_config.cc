#include "tools/stpd_config.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <grp.h>
#include <pwd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <optional>
#include <string_view>
#include <toml++/toml.h>

namespace stp {
namespace {

constexpr std::array<std::string_view, 12> kKeys = {"host",        "stg",            "agent",       "mode",    "ring_kib",    "local_over_disk",
                                                     "max_sockets", "max_memory_mib", "given_for_s", "metrics", "access", "run_network"};
constexpr std::array<std::string_view, 4> kAccessKeys = {"allow_users", "allow_groups", "deny_users", "deny_groups"};

std::unexpected<Error> wrong(const std::string& path, const toml::node& node, const std::string& text) {
  return fail(EINVAL, fmt::format("{}:{}: {}", path, node.source().begin.line, text));
}

std::optional<id_t> user_number(const std::string& name) {
  const passwd* found = ::getpwnam(name.c_str());
  return found != nullptr ? std::optional<id_t>(found->pw_uid) : std::nullopt;
}

std::optional<id_t> group_number(const std::string& name) {
  const group* found = ::getgrnam(name.c_str());
  return found != nullptr ? std::optional<id_t>(found->gr_gid) : std::nullopt;
}

Result<std::vector<id_t>> numbers(const std::string& path, const toml::node& node, bool users) {
  const toml::array* list = node.as_array();
  if (list == nullptr) return wrong(path, node, "a list is wanted, as [\"name\", 1000]");
  std::vector<id_t> out;
  for (const toml::node& each : *list) {
    if (const auto number = each.value_exact<std::int64_t>()) {
      if (*number < 0 || *number > 0xfffffffe) return wrong(path, each, "that is no number of a user or group");
      out.push_back(static_cast<id_t>(*number));
      continue;
    }
    const auto name = each.value_exact<std::string>();
    if (!name) return wrong(path, each, "a name or a number is wanted");
    const auto found = users ? user_number(*name) : group_number(*name);
    if (!found) return wrong(path, each, fmt::format("there is no {} \"{}\"", users ? "user" : "group", *name));
    out.push_back(*found);
  }
  return out;
}

Result<void> read_access(const std::string& path, const toml::node& node, host::AgentAccess& access) {
  const toml::table* table = node.as_table();
  if (table == nullptr) return wrong(path, node, "[access] is a table");
  for (const auto& [key, value] : *table) {
    const std::string_view name = key.str();
    if (std::ranges::find(kAccessKeys, name) == kAccessKeys.end()) return wrong(path, value, fmt::format("there is no setting access.{}", name));
    auto read = numbers(path, value, name.ends_with("users"));
    if (!read) return std::unexpected(read.error());
    (name == "allow_users" ? access.allow_users : name == "allow_groups" ? access.allow_groups
     : name == "deny_users" ? access.deny_users : access.deny_groups) = std::move(*read);
  }
  return {};
}

Result<void> read_text(const std::string& path, const toml::node& node, std::string& into) {
  const auto text = node.value_exact<std::string>();
  if (!text || text->empty()) return wrong(path, node, "a text is wanted, in quotes");
  into = *text;
  return {};
}

Result<void> read_number(const std::string& path, const toml::node& node, std::int64_t least, std::int64_t most, unsigned& into) {
  const auto number = node.value_exact<std::int64_t>();
  if (!number || *number < least || *number > most) return wrong(path, node, fmt::format("a number from {} to {} is wanted", least, most));
  into = static_cast<unsigned>(*number);
  return {};
}

Result<void> read_truth(const std::string& path, const toml::node& node, bool& into) {
  const auto truth = node.value_exact<bool>();
  if (!truth) return wrong(path, node, "true or false is wanted");
  into = *truth;
  return {};
}

Result<void> read_network(const std::string& path, const toml::node& node, run::Network& into) {
  const auto text = node.value_exact<std::string>();
  const std::size_t slash = text ? text->find('/') : std::string::npos;
  in_addr base = {};
  unsigned prefix = 0;
  const char* const end = text ? text->data() + text->size() : nullptr;
  const bool good = slash != std::string::npos && ::inet_pton(AF_INET, text->substr(0, slash).c_str(), &base) == 1 &&
                    std::from_chars(text->data() + slash + 1, end, prefix).ptr == end && prefix >= 8 && prefix <= run::kLongestPrefix;
  if (!good) return wrong(path, node, fmt::format("a range of IPv4 addresses is wanted, from /8 to /{}, as \"198.18.0.0/16\"", run::kLongestPrefix));
  into = {.base = ntohl(base.s_addr), .prefix = prefix};
  return {};
}

Result<void> read_storages(const std::string& path, const toml::node& node, std::vector<std::string>& into) {
  std::vector<std::string> out;
  if (const auto one = node.value_exact<std::string>()) out.push_back(*one);
  if (const toml::array* list = node.as_array()) {
    for (const toml::node& each : *list) {
      std::string text;
      if (auto read = read_text(path, each, text); !read) return read;
      out.push_back(std::move(text));
    }
  }
  if (out.empty()) return wrong(path, node, "paths are wanted, as [\"/dev/...\"]");
  into = std::move(out);
  return {};
}

}  // namespace

Result<void> read_stpd_config(const std::string& path, StpdConfig& config) {
  toml::table parsed;
  try {
    parsed = toml::parse_file(path);
  } catch (const toml::parse_error& error) {
    return fail(EINVAL, fmt::format("{}:{}: {}", path, error.source().begin.line, error.description()));
  }
  StpdConfig fresh = config;
  fresh.access = {};
  for (const auto& [key, value] : parsed) {
    const std::string_view name = key.str();
    if (std::ranges::find(kKeys, name) == kKeys.end()) return wrong(path, value, fmt::format("there is no setting {}", name));
    Result<void> read;
    if (name == "host") read = read_text(path, value, fresh.host);
    if (name == "stg") read = read_storages(path, value, fresh.stgs);
    if (name == "agent") read = read_text(path, value, fresh.agent);
    if (name == "mode") read = read_text(path, value, fresh.mode);
    if (name == "ring_kib") read = read_number(path, value, 4, 65536, fresh.ring_kib);
    if (name == "local_over_disk") read = read_truth(path, value, fresh.local_over_disk);
    if (name == "max_sockets") read = read_number(path, value, 1, 1 << 24, fresh.most_sockets);
    if (name == "max_memory_mib") read = read_number(path, value, 1, 1 << 24, fresh.most_memory_mib);
    if (name == "given_for_s") read = read_number(path, value, 1, 1 << 24, fresh.given_for_s);
    if (name == "metrics") read = read_text(path, value, fresh.metrics);
    if (name == "run_network") read = read_network(path, value, fresh.run_network);
    if (name == "access") read = read_access(path, value, fresh.access);
    if (!read) return read;
  }
  const bool octal = fresh.mode.size() <= 4 && fresh.mode.find_first_not_of("01234567") == std::string::npos;
  if (!octal) return fail(EINVAL, fmt::format("{}: mode: permissions in octal are wanted, as \"0660\"", path));
  config = std::move(fresh);
  return {};
}

}  // namespace stp
