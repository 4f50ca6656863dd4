#include "hostlib/address.h"

#include <arpa/inet.h>
#include <limits.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <optional>

namespace stp::host {
namespace {

static_assert(offsetof(struct sockaddr_stp, stp_family) == offsetof(struct sockaddr, sa_family));
static_assert(sizeof(struct sockaddr_stp) == 100 && sizeof(struct sockaddr_stp) <= sizeof(struct sockaddr_storage));

std::optional<std::string> name_in(const char* field, std::size_t width) {
  const void* end = std::memchr(field, 0, width);
  if (end == nullptr) return std::nullopt;
  return fold_name(std::string_view(field, static_cast<std::size_t>(static_cast<const char*>(end) - field)));
}

template <std::size_t N>
void store_name(char (&field)[N], std::string_view name) {
  std::memcpy(field, name.data(), std::min(name.size(), N - 1));
}

}  // namespace

std::expected<Address, int> address_from(const struct sockaddr* address, socklen_t length) {
  if (length > sizeof(struct sockaddr_storage)) return std::unexpected(EINVAL);
  if (address == nullptr && length != 0) return std::unexpected(EFAULT);
  if (length < offsetof(struct sockaddr_stp, stp_stg)) return std::unexpected(EINVAL);
  struct sockaddr_stp given = {};
  std::memcpy(&given, address, std::min<std::size_t>(length, sizeof given));
  if (given.stp_family != AF_STP) return std::unexpected(EAFNOSUPPORT);
  const auto host = name_in(given.stp_system, sizeof given.stp_system);
  const auto stg = name_in(given.stp_stg, sizeof given.stp_stg);
  if (!host || !stg) return std::unexpected(EINVAL);
  if (!host->empty() && !valid_instance_name(*host)) return std::unexpected(EINVAL);
  if (!stg->empty() && !valid_stg_name(*stg)) return std::unexpected(EINVAL);
  return Address{.host = *host, .stg = *stg, .port = ntohs(given.stp_port)};
}

struct sockaddr_stp sockaddr_from(const Address& address) {
  struct sockaddr_stp out = {};
  out.stp_family = AF_STP;
  out.stp_port = htons(address.port);
  store_name(out.stp_system, address.host);
  store_name(out.stp_stg, address.stg);
  return out;
}

int store_address(const Address& from, struct sockaddr* address, socklen_t* length) {
  if (length == nullptr) return EFAULT;
  if (*length > INT_MAX) return EINVAL;
  if (address == nullptr && *length != 0) return EFAULT;
  const struct sockaddr_stp whole = sockaddr_from(from);
  if (*length != 0) std::memcpy(address, &whole, std::min<std::size_t>(*length, sizeof whole));
  *length = sizeof whole;
  return 0;
}

}  // namespace stp::host
