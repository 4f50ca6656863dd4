#include "fuse/options.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <optional>

namespace stp::view {
namespace {

// mount(8) and systemd leave these in, and they are not for us.
constexpr std::array<std::string_view, 14> kIgnored = {"auto",  "noauto", "user",   "nouser",  "users",     "owner", "group",
                                                       "defaults", "nofail", "_netdev", "fail", "noowner", "nogroup", "nousers"};
constexpr std::array<std::string_view, 13> kForLibfuse = {"rw",    "suid",  "nosuid",  "dev",     "nodev", "exec",         "noexec",
                                                          "atime", "noatime", "ro", "sync", "async", "dirsync"};
constexpr std::array<std::string_view, 4> kForLibfuseWithValue = {"context", "fscontext", "defcontext", "rootcontext"};

template <class List>
bool contains(const List& list, std::string_view name) {
  return std::ranges::find(list, name) != std::end(list);
}

std::optional<std::uint64_t> number(std::string_view text, int base) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

std::unexpected<Error> wrong(std::string_view name, std::string_view value, std::string_view wanted) {
  return fail(EINVAL, fmt::format("option {}={}: {} is wanted", name, value, wanted));
}

Result<bool> take_number(std::string_view name, std::string_view value, MountOptions& o) {
  const auto in = [&](int base, std::uint64_t least, std::uint64_t most) {
    const auto n = number(value, base);
    return n && *n >= least && *n <= most ? n : std::nullopt;
  };
  if (name == "uid" || name == "gid") {
    const auto n = in(10, 0, 0xfffffffe);
    if (!n) return wrong(name, value, "a number");
    (name == "uid" ? o.uid : o.gid) = static_cast<uid_t>(*n);
  } else if (name == "mode") {
    const auto n = in(8, 0, 0777);
    if (!n) return wrong(name, value, "permissions in octal, as 0444,");
    o.mode = static_cast<mode_t>(*n) & 0444;
  } else if (name == "umask") {
    const auto n = in(8, 0, 0777);
    if (!n) return wrong(name, value, "a mask in octal, as 077,");
    o.mode = 0444 & ~static_cast<mode_t>(*n);
  } else if (name == "deadline") {
    const auto n = in(10, 1, 3600);
    if (!n) return wrong(name, value, "a number of seconds");
    o.deadline = static_cast<Nanos>(*n) * kSecond;
  } else if (name == "fresh") {
    const auto n = in(10, 0, 60'000);
    if (!n) return wrong(name, value, "a number of milliseconds");
    o.fresh = static_cast<Nanos>(*n) * kMillisecond;
  } else {
    return false;
  }
  return true;
}

Result<void> take_one(std::string_view option, MountOptions& o) {
  const std::size_t equals = option.find('=');
  const std::string_view name = option.substr(0, equals);
  const std::string_view value = equals == std::string_view::npos ? std::string_view() : option.substr(equals + 1);
  if (equals == std::string_view::npos) {
    if (contains(kIgnored, name) || name.starts_with("x-") || name.starts_with("X-")) return {};
    if (name == "noagent") {
      o.no_agent = true;
    } else if (name == "allow_other") {
      o.allow_other = true;
    } else if (contains(kForLibfuse, name)) {
      o.for_libfuse.emplace_back(name);
    } else if (name != "default_permissions") {  // always so
      return fail(EINVAL, fmt::format("option \"{}\" is not known; stp-fuse --help lists them", name));
    }
    return {};
  }
  if (name.starts_with("x-") || name.starts_with("X-") || name == "comment") return {};
  if (name == "agent") {
    o.agent = value;
  } else if (name == "talk") {
    if (value != "owner" && value != "group" && value != "all") return wrong(name, value, "owner, group or all");
    o.talk = value == "owner" ? MountOptions::Talk::kOwner : value == "group" ? MountOptions::Talk::kGroup : MountOptions::Talk::kAll;
  } else if (contains(kForLibfuseWithValue, name)) {
    o.for_libfuse.emplace_back(option);
  } else {
    const auto taken = take_number(name, value, o);
    if (!taken) return std::unexpected(taken.error());
    if (!*taken) return fail(EINVAL, fmt::format("option \"{}\" is not known; stp-fuse --help lists them", name));
  }
  return {};
}

}  // namespace

Result<void> parse_mount_options(std::string_view text, MountOptions& options) {
  while (!text.empty()) {
    const std::size_t comma = text.find(',');
    const std::string_view option = text.substr(0, comma);
    text.remove_prefix(comma == std::string_view::npos ? text.size() : comma + 1);
    if (option.empty()) continue;
    if (auto taken = take_one(option, options); !taken) return taken;
  }
  return {};
}

bool others_allowed(std::string_view conf) {
  while (!conf.empty()) {
    const std::size_t end = conf.find('\n');
    std::string_view line = conf.substr(0, end);
    conf.remove_prefix(end == std::string_view::npos ? conf.size() : end + 1);
    while (!line.empty() && (line.back() == ' ' || line.back() == '\t' || line.back() == '\r')) line.remove_suffix(1);
    while (!line.empty() && (line.front() == ' ' || line.front() == '\t')) line.remove_prefix(1);
    if (line == "user_allow_other") return true;
  }
  return false;
}

}  // namespace stp::view
