// What may be written to a conversation's ctl file: one command a write, its words apart by blanks, with or without a newline.
#pragma once

#include <chrono>
#include <cstdint>
#include <string_view>
#include <variant>

#include "hostlib/stp_address.h"
#include "stp/error.h"

namespace stp::view {

struct ConnectCommand {
  StpAddress to;  // connect HOST PORT, connect HOST!PORT
};
struct AnnounceCommand {
  std::uint16_t port = 0;  // announce PORT, announce *!PORT; 0 or nothing: a free one
};
struct HangUpCommand {};    // hangup
struct ShutDownCommand {};  // shutdown: no more will be written
struct TimeoutCommand {
  std::chrono::milliseconds span{0};  // timeout SECONDS, with decimals; 0: none
};
using CtlCommand = std::variant<ConnectCommand, AnnounceCommand, HangUpCommand, ShutDownCommand, TimeoutCommand>;

// EINVAL, and the words say what was expected.
Result<CtlCommand> parse_ctl(std::string_view text);

}  // namespace stp::view
