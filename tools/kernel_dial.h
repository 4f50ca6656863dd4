// Connects to TCP or to a Unix socket of this machine without waiting, in an EventLoop's thread: looks the name up, and tries all
// its addresses in turn.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "hostlib/event_loop.h"
#include "hostlib/unique_fd.h"
#include "stp/error.h"
#include "tools/forward_spec.h"
#include "tools/name_resolver.h"

namespace stp::forward {

class KernelDial : public std::enable_shared_from_this<KernelDial> {
 public:
  using Done = std::function<void(Result<UniqueFd>)>;  // errno and words; never called from within start()

  // Given up when it is dropped.
  static std::shared_ptr<KernelDial> start(EventLoop& loop, NameResolver& resolver, KernelAddress to, Done done);
  ~KernelDial();
  KernelDial(const KernelDial&) = delete;
  KernelDial& operator=(const KernelDial&) = delete;

 private:
  KernelDial(EventLoop& loop, KernelAddress to, Done done);
  void begin(NameResolver& resolver);
  void try_next();
  void try_again_later();
  void watch_for_end();
  void look();
  void give_up_address(int error);
  void end(Result<UniqueFd> result);

  EventLoop& loop_;
  const KernelAddress to_;
  Done done_;
  const EventLoop::Clock::time_point began_;
  std::vector<SocketAddress> addresses_;
  std::size_t next_ = 0;
  UniqueFd fd_;
  int last_error_ = 0;
};

}  // namespace stp::forward
