// sockaddr_stp <-> stp::Address. What a program hands in is checked: lengths, family, names that are not terminated.
#pragma once

#include <expected>
#include <string_view>

#include "hostlib/stp.h"
#include "stp/names.h"

namespace stp::host {

// EINVAL (too short, a name that is no name), EAFNOSUPPORT, EFAULT (null). A length that ends within stp_stg is
// taken as an empty STG name.
std::expected<Address, int> address_from(const struct sockaddr* address, socklen_t length);

struct sockaddr_stp sockaddr_from(const Address& address);

// As getsockname does: copies what fits into *length bytes and says the true size. 0, or EFAULT / EINVAL.
int store_address(const Address& from, struct sockaddr* address, socklen_t* length);

}  // namespace stp::host
