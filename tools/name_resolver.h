// Turns names into addresses in threads of its own: the C library's resolver waits, and an EventLoop's thread must not.
#pragma once

#include <sys/socket.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "hostlib/event_loop.h"
#include "stp/error.h"

namespace stp::forward {

struct SocketAddress {
  sockaddr_storage storage = {};
  socklen_t length = 0;
  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
};

SocketAddress unix_address(const std::string& path);

// The addresses of a numeric host, without waiting; an error for a name. `host` empty: every address of the machine.
Result<std::vector<SocketAddress>> numeric_addresses(const std::string& host, std::uint16_t port, bool to_listen);

class NameResolver {
 public:
  using Done = std::function<void(Result<std::vector<SocketAddress>>)>;

  explicit NameResolver(EventLoop& loop);
  // Does not wait for a name server that does not answer: such a thread is left to itself, and its answer thrown away.
  ~NameResolver();
  NameResolver(const NameResolver&) = delete;
  NameResolver& operator=(const NameResolver&) = delete;

  // `done` is called in the loop's thread, later.
  void resolve(const std::string& host, std::uint16_t port, Done done);

 private:
  struct Shared;
  std::shared_ptr<Shared> shared_;
};

}  // namespace stp::forward
