// The differences from the kernel's sockets that are meant to be, by name. hostlib/DIFFERENCES.md says the reasons, and
// tests/differences_document.py sees to it that the two lists are the same.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace stp::differential {

enum class Excuse : std::size_t {
  kNotASocket, kSendUnconnected, kConnectListener, kShutdownUnconnected, kNegativeLinger, kEmptyReceive, kAfterTheEnd, kUnreadAtClose, kResetAfterEnd, kEndOfReading,
  kPortZero, kBacklog, kSelfConnect, kLostByFault, kCloseTells, kNoEndAfterError, kPortsFree, kPortKept, kToldAtOnce, kInheritedLate,
  // Under `stp run` alone.
  kConnectsAtOnce, kShowsFailed, kHangsUp, kShutReading, kSendFailed, kFailedStays, kSendAfterReset, kShowsNoReset
};

inline constexpr std::array<std::string_view, 28> kExcuses = {
    "not-a-socket", "send-unconnected", "connect-listener", "shutdown-unconnected", "negative-linger", "empty-receive", "after-the-end",
    "unread-at-close", "reset-after-end", "end-of-reading", "port-zero", "backlog", "self-connect", "lost-by-fault", "close-tells", "no-end-after-error", "ports-free", "port-kept", "told-at-once",
    "inherited-late",
    "connects-at-once", "shows-failed", "hangs-up", "shut-reading", "send-failed", "failed-stays", "send-after-reset", "shows-no-reset"};

using Uses = std::array<std::uint64_t, kExcuses.size()>;

}  // namespace stp::differential
