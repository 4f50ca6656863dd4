// Small things that the parts of the agent's side of `stp run` do with sockets.
#pragma once

#include <cstdint>
#include <string_view>

#include "hostlib/run_address.h"
#include "hostlib/stp.h"

namespace stp {

inline constexpr int kConversationBuffer = 1 << 20;  // of a conversation, each way

std::uint32_t random_number();
void set_send_buffer(int fd, int bytes);
bool bind_to(int fd, const run::SocketName& name);
// No descriptor is taken from a program where the kernel lets one say so (SO_PASSRIGHTS, Linux 6.16): to close the last reference to
// somebody's can take as long as they like.
void refuse_descriptors(int fd);
sockaddr_stp stp_address(std::string_view host, std::uint16_t port);

}  // namespace stp
