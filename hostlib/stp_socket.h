// Owns an STP socket. Dropped, it is reset: a conversation that nobody carried to its end must not look like one that ended.
#pragma once

#include <sys/socket.h>

#include <utility>

#include "hostlib/stp.h"

namespace stp {

class StpSocket {
 public:
  StpSocket() = default;
  explicit StpSocket(int socket) : socket_(socket) {}
  StpSocket(StpSocket&& other) noexcept : socket_(other.release()) {}
  StpSocket& operator=(StpSocket&& other) noexcept {
    if (this != &other) reset(other.release());
    return *this;
  }
  ~StpSocket() { reset(); }

  int get() const { return socket_; }
  explicit operator bool() const { return socket_ >= 0; }
  int release() { return std::exchange(socket_, -1); }
  void reset(int socket = -1) {
    const int old = std::exchange(socket_, socket);
    if (old < 0) return;
    const linger at_once = {.l_onoff = 1, .l_linger = 0};
    (void)STPsetsockopt(old, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    (void)STPclose(old);
  }

 private:
  int socket_ = -1;
};

}  // namespace stp
