#include "stp/names.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <charconv>

namespace stp {
namespace {

bool is_name_char(char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-'; }

bool valid_name(std::string_view name, std::size_t longest) {
  return !name.empty() && name.size() <= longest && std::ranges::all_of(name, is_name_char);
}

template <class T>
bool parse_number(std::string_view text, T& out) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
  return error == std::errc{} && end == text.data() + text.size() && !text.empty();
}

}  // namespace

bool valid_host_name(std::string_view name) { return valid_name(name, kMaxHostName); }
bool valid_stg_name(std::string_view name) { return valid_name(name, kMaxStgName); }

bool valid_instance_name(std::string_view name) {
  if (name.size() > kMaxHostName) return false;
  const auto mark = name.find('~');
  if (mark == std::string_view::npos) return valid_host_name(name);
  unsigned number = 0;
  return valid_host_name(name.substr(0, mark)) && name[mark + 1 < name.size() ? mark + 1 : mark] != '0' &&
         parse_number(name.substr(mark + 1), number) && number >= 2 && number < 1000;
}

std::string fold_name(std::string_view name) {
  std::string out(name);
  for (char& c : out)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return out;
}

std::string_view base_name(std::string_view instance) { return instance.substr(0, instance.find('~')); }

std::string instance_name(std::string_view base, unsigned number) {
  return number <= 1 ? std::string(base) : fmt::format("{}~{}", base, number);
}

Result<Address> parse_address(std::string_view text) {
  const auto colon = text.rfind(':');
  if (colon == std::string_view::npos) return fail(EINVAL, fmt::format("\"{}\" is not an address: write HOST:PORT or HOST.STG:PORT", text));
  Address a;
  const std::string name = fold_name(text.substr(0, colon));
  const auto dot = name.find('.');
  a.host = name.substr(0, dot);
  if (dot != std::string::npos) a.stg = name.substr(dot + 1);
  if (!a.host.empty() && !valid_instance_name(a.host)) return fail(EINVAL, fmt::format("\"{}\" is not a host name: a-z, 0-9 and -, at most 63", a.host));
  if (dot != std::string::npos && !valid_stg_name(a.stg)) return fail(EINVAL, fmt::format("\"{}\" is not an STG name: a-z, 0-9 and -, at most 31", a.stg));
  if (!parse_number(text.substr(colon + 1), a.port)) return fail(EINVAL, fmt::format("\"{}\" is not a port: 1 to 65535", text.substr(colon + 1)));
  return a;
}

std::string to_string(const Address& a) {
  return a.stg.empty() ? fmt::format("{}:{}", a.host, a.port) : fmt::format("{}.{}:{}", a.host, a.stg, a.port);
}

}  // namespace stp
