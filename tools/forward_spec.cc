#include "tools/forward_spec.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <sys/un.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <optional>

#include "stp/names.h"

namespace stp::forward {
namespace {

constexpr std::size_t kLongestName = 253;  // of a host in the DNS
constexpr std::string_view kListenForm = "[ADDR:]PORT";

std::string_view form_of(Direction direction) {
  switch (direction) {
    case Direction::kLocal: return "[ADDR:]PORT:HOST:PORT or /PATH:HOST:PORT";
    case Direction::kRemote: return "PORT:ADDR:PORT or PORT:/PATH";
    case Direction::kDynamic: return kListenForm;
  }
  return "";
}

std::optional<std::uint16_t> port_from(std::string_view text) {
  unsigned value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value == 0 || value > 65535) return std::nullopt;
  return static_cast<std::uint16_t>(value);
}

bool is_numeric(int family, const std::string& text) {
  unsigned char address[sizeof(in6_addr)];
  return ::inet_pton(family, text.c_str(), address) == 1;
}

std::unexpected<Error> bad(std::string reason) { return fail(EINVAL, std::move(reason)); }

Result<std::uint16_t> port_or_words(std::string_view text) {
  if (const auto port = port_from(text)) return *port;
  return bad(fmt::format("\"{}\" is not a port: 1 to 65535", text));
}

Result<KernelAddress> unix_socket(std::string_view text) {
  if (text.size() < 2) return bad("the path of the Unix socket is missing");
  if (text.size() >= sizeof(sockaddr_un::sun_path))
    return bad(fmt::format("the path of a Unix socket has at most {} bytes, this one {}", sizeof(sockaddr_un::sun_path) - 1, text.size()));
  return KernelAddress{.path = std::string(text), .host = {}, .port = 0};
}

// "[::1]:80" or "host:80" -> ("::1" or "host", "80"). The rest of the text, if there is no colon, is the port.
struct Split {
  std::string host;
  bool has_host = false, in_brackets = false;
  std::string_view port;
};

Result<Split> split_address(std::string_view text) {
  Split out;
  if (text.starts_with('[')) {
    const auto close = text.find("]:");
    if (close == text.npos) return bad("an IPv6 address is written as [ADDR]:PORT");
    out = {.host = std::string(text.substr(1, close - 1)), .has_host = true, .in_brackets = true, .port = text.substr(close + 2)};
    const std::string address = out.host.substr(0, out.host.find('%'));  // without the interface
    if (!is_numeric(AF_INET6, address)) return bad(fmt::format("\"{}\" is not an IPv6 address", out.host));
    return out;
  }
  const auto colon = text.rfind(':');
  if (colon == text.npos) return Split{.host = {}, .port = text};
  out = {.host = std::string(text.substr(0, colon)), .has_host = true, .port = text.substr(colon + 1)};
  if (out.host.contains(':')) return bad(fmt::format("\"{}\" has too many colons; an IPv6 address is written in brackets", text));
  return out;
}

Result<KernelAddress> parse_listener(std::string_view text) {
  auto split = split_address(text);
  if (!split) return std::unexpected(split.error());
  const auto port = port_or_words(split->port);
  if (!port) return std::unexpected(port.error());
  if (!split->has_host || split->host == "localhost") return KernelAddress{.path = {}, .host = "127.0.0.1", .port = *port};
  if (split->host == "*") split->host.clear();
  if (!split->in_brackets && !split->host.empty() && !is_numeric(AF_INET, split->host))
    return bad(fmt::format("\"{}\" is not an address to listen on: a numeric one, localhost, or * for all", split->host));
  return KernelAddress{.path = {}, .host = std::move(split->host), .port = *port};
}

bool is_name_byte(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '.' || c == '_';
}

Result<KernelAddress> parse_destination(std::string_view text) {
  if (text.starts_with('/')) return unix_socket(text);
  auto split = split_address(text);
  if (!split) return std::unexpected(split.error());
  const auto port = port_or_words(split->port);
  if (!port) return std::unexpected(port.error());
  if (!split->has_host) return bad("where to connect to is missing");
  const bool named = !split->host.empty() && split->host.size() <= kLongestName && std::ranges::all_of(split->host, is_name_byte);
  if (!split->in_brackets && !named) return bad(fmt::format("\"{}\" is neither a name nor an address to connect to", split->host));
  return KernelAddress{.path = {}, .host = std::move(split->host), .port = *port};
}

Result<ForwardSpec> parse_local(std::string_view text) {
  const auto port_at = text.rfind(':');
  const auto host_at = port_at == text.npos || port_at == 0 ? text.npos : text.rfind(':', port_at - 1);
  if (host_at == text.npos) return bad("the STP host and its port are missing");
  const auto port = port_or_words(text.substr(port_at + 1));
  if (!port) return std::unexpected(port.error());
  const std::string host = fold_name(text.substr(host_at + 1, port_at - host_at - 1));
  if (!valid_stp_host(host)) return bad(fmt::format("\"{}\" is not an STP host: HOST or HOST.STG, of a-z, 0-9 and -", host));
  const std::string_view here = text.substr(0, host_at);
  auto from = here.starts_with('/') ? unix_socket(here) : parse_listener(here);
  if (!from) return std::unexpected(from.error());
  return ForwardSpec{.direction = Direction::kLocal, .kernel = std::move(*from), .stp = {.host = host, .port = *port}};
}

Result<ForwardSpec> parse_remote(std::string_view text) {
  const auto colon = text.find(':');
  if (colon == text.npos) return bad("where to connect to is missing");
  const auto port = port_or_words(text.substr(0, colon));
  if (!port) return std::unexpected(port.error());
  auto to = parse_destination(text.substr(colon + 1));
  if (!to) return std::unexpected(to.error());
  return ForwardSpec{.direction = Direction::kRemote, .kernel = std::move(*to), .stp = {.host = {}, .port = *port}};
}

Result<ForwardSpec> parse_any(Direction direction, std::string_view text) {
  // Also for the lists that show it, a line each.
  if (std::ranges::any_of(text, [](unsigned char c) { return c < 0x20 || c == 0x7f; })) return bad("it has control bytes");
  if (direction == Direction::kLocal) return parse_local(text);
  if (direction == Direction::kRemote) return parse_remote(text);
  auto from = parse_listener(text);
  if (!from) return std::unexpected(from.error());
  return ForwardSpec{.direction = Direction::kDynamic, .kernel = std::move(*from), .stp = {}};
}

}  // namespace

bool valid_stp_host(std::string_view name) {
  const auto dot = name.find('.');
  return valid_instance_name(name.substr(0, dot)) && (dot == name.npos || valid_stg_name(name.substr(dot + 1)));
}

Result<ForwardSpec> parse_forward_spec(Direction direction, std::string_view text) {
  auto spec = parse_any(direction, text);
  if (spec) return spec;
  return bad(fmt::format("{} {}: {}; expected {}", option_of(direction), text, spec.error().text, form_of(direction)));
}

std::string_view option_of(Direction direction) {
  return direction == Direction::kLocal ? "-L" : direction == Direction::kRemote ? "-R" : "-D";
}

std::string to_string(const KernelAddress& address) {
  if (!address.path.empty()) return address.path;
  const std::string_view host = address.host.empty() ? "*" : std::string_view(address.host);
  return host.contains(':') ? fmt::format("[{}]:{}", host, address.port) : fmt::format("{}:{}", host, address.port);
}

std::string to_string(const StpAddress& address) { return fmt::format("{}:{}", address.host, address.port); }

std::string to_string(const ForwardSpec& spec) {
  switch (spec.direction) {
    case Direction::kLocal: return fmt::format("-L {}:{}", to_string(spec.kernel), to_string(spec.stp));
    case Direction::kRemote: return fmt::format("-R {}:{}", spec.stp.port, to_string(spec.kernel));
    case Direction::kDynamic: break;
  }
  return fmt::format("-D {}", to_string(spec.kernel));
}

}  // namespace stp::forward
