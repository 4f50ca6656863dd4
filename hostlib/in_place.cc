#include "hostlib/in_place.h"

#include <cerrno>
#include <utility>

#include "hostlib/call.h"

namespace stp {

using host::Call;

namespace {

// Twice: acknowledgements, or bytes, may be there at the second look.
template <class Move>
ssize_t move_in_place(Call& call, Move move) {
  SocketError& later = call.socket().told_later;
  if (later.code != 0) return call.fail(std::exchange(later, SocketError{}));
  const Nanos now = call.sockets().wants_time() ? boottime_now() : 0;
  for (bool looked = false;; looked = true) {
    const SocketResult<std::size_t> moved = move(now);
    if (moved) return static_cast<ssize_t>(*moved);
    if (moved.error().code == EOPNOTSUPP) return call.fail_quietly(EOPNOTSUPP);
    if (moved.error().code != EAGAIN || looked) return call.fail(moved.error());
    call.waiting().step(now);
  }
}

}  // namespace

ssize_t send_in_place(int s, std::size_t most, const std::function<std::size_t(std::span<std::byte>)>& fill) {
  Call call("send to", s, Call::Check::kData);
  if (!call.good()) return -1;
  return move_in_place(call, [&](Nanos now) {
    auto sent = call.sockets().send_in_place(call.socket().id, most, fill);
    if (sent && *sent > 0) call.waiting().step(now);
    return sent;
  });
}

ssize_t receive_in_place(int s, std::size_t most, const std::function<std::size_t(std::span<const std::byte>)>& take) {
  Call call("receive from", s, Call::Check::kData);
  if (!call.good()) return -1;
  bool tried = false;
  return move_in_place(call, [&](Nanos now) -> SocketResult<std::size_t> {
    if (tried) return no(EAGAIN);
    auto got = call.sockets().receive_in_place(call.socket().id, most, [&](ConstBytes there) {
      tried = true;
      return take(there);
    });
    if (got && *got > 0) call.waiting().step_soon(now, *got);
    return got;
  });
}

}  // namespace stp
