// Connects to an STP port without waiting, in an EventLoop's thread.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "hostlib/event_loop.h"
#include "hostlib/stp_address.h"
#include "hostlib/stp_socket.h"
#include "stp/error.h"

namespace stp {

// The last failure of an STP call of this thread in the library's words, or the errno's.
std::string stp_words(int socket, int error);

class StpDial : public std::enable_shared_from_this<StpDial> {
 public:
  using Done = std::function<void(Result<StpSocket>)>;  // errno and words; never called from within start()

  // A host that seems not to be there is tried again for a moment: leases are read once in a while only, and whoever starts a server and
  // connects to it does not want to know. Given up when it is dropped.
  static std::shared_ptr<StpDial> start(EventLoop& loop, StpAddress to, Done done);
  ~StpDial();
  StpDial(const StpDial&) = delete;
  StpDial& operator=(const StpDial&) = delete;

 private:
  StpDial(EventLoop& loop, StpAddress to, Done done);
  void try_once();
  void look();
  void failed(int error);
  void end(Result<StpSocket> result);
  void drop_socket();

  EventLoop& loop_;
  const StpAddress to_;
  Done done_;
  const EventLoop::Clock::time_point until_;
  StpSocket socket_;
  int watched_ = -1;
};

}  // namespace stp
