// A SOCKS5 client at the door: its handshake on a socket, in an EventLoop's thread. It may take a while, but not for ever.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "hostlib/event_loop.h"
#include "hostlib/unique_fd.h"
#include "stp/error.h"
#include "tools/forward_spec.h"
#include "tools/socks5.h"

namespace stp::forward {

class Socks5Door : public std::enable_shared_from_this<Socks5Door> {
 public:
  // Where the client wants to go, or why it does not get there: then its socket is closed.
  using Asked = std::function<void(Result<StpAddress>)>;

  // Takes over a connected, non-blocking socket. `asked` is called once, never from within start().
  static std::shared_ptr<Socks5Door> start(EventLoop& loop, UniqueFd client, Asked asked);
  ~Socks5Door();
  Socks5Door(const Socks5Door&) = delete;
  Socks5Door& operator=(const Socks5Door&) = delete;

  // After `asked` gave a destination: says that it is connected, and hands the client over; or else that it is not.
  Result<UniqueFd> grant();
  // `gone` is called when the client has had time to read it.
  void refuse(SocksReply reply, std::function<void()> gone);

 private:
  Socks5Door(EventLoop& loop, UniqueFd client, Asked asked);
  bool watch();
  void look();
  void discard();
  void say_farewell(std::function<void()> gone);
  void over(Result<StpAddress> result);
  bool send_now(const std::string& bytes);

  EventLoop& loop_;
  UniqueFd client_;
  Asked asked_;
  Socks5Handshake handshake_;
  std::function<void()> gone_;  // set: nothing is said any more, and what comes is thrown away
  std::size_t discarded_ = 0;
};

}  // namespace stp::forward
