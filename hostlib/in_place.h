// STPsend and STPrecv without a buffer in between: the bytes come from, or go to, where the socket has them, in memory that is shared with the agent. For what
// carries bytes between an STP socket and another one, of which each copy is a third of the work. Internal to this tree.
//
// As with MSG_DONTWAIT | MSG_NOSIGNAL: how many bytes, or -1 with errno. EOPNOTSUPP: the socket has no place that could be shown (the engine is in this
// process); use STPsend and STPrecv. `fill` and `take` are called at most once, under the library's lock: they must not wait, nor make STP calls.
//
// Any thread.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <functional>
#include <span>

namespace stp {

// `fill` puts up to `most` bytes into the room and says how many; if none, nothing is sent (0).
ssize_t send_in_place(int s, std::size_t most, const std::function<std::size_t(std::span<std::byte> room)>& fill);
// `take` says how many it took of what is there, up to `most`; none: EAGAIN. 0 is the end of what comes.
ssize_t receive_in_place(int s, std::size_t most, const std::function<std::size_t(std::span<const std::byte> there)>& take);

}  // namespace stp
