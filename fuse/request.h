// A request of a program, as the nodes that flow see it: to be answered once, now or later, from any thread.
#pragma once

#include <sys/types.h>
#include <sys/uio.h>

#include <cerrno>
#include <functional>
#include <memory>
#include <span>

#include "stp/bytes.h"

namespace stp::view {

class OpenFile;

// Who asks. The kernel has checked the node's mode already.
struct Caller {
  uid_t uid = 0;
  gid_t gid = 0;
  pid_t pid = 0;
};

// Only the first answer counts. One that is never answered, and let go by everybody, is answered with EIO.
class Request {
 public:
  virtual ~Request() = default;
  Request(const Request&) = delete;
  Request& operator=(const Request&) = delete;

  virtual Caller caller() const = 0;
  virtual void error(int code) = 0;  // 0: done well, for what has no other answer
  virtual void data(std::span<const iovec> parts) = 0;
  virtual void written(std::size_t bytes) = 0;
  void data(ConstBytes bytes) {
    const iovec part{const_cast<std::byte*>(bytes.data()), bytes.size()};
    data(std::span(&part, 1));
  }
  // For a request that is going to wait: `interrupted` is called, once at most and from another thread, when the program that waits
  // is hit by a signal; it should answer soon, with EINTR or with what is there. False: that has happened already, `interrupted` is
  // not called. To be called without locks that `interrupted` takes.
  [[nodiscard]] virtual bool on_interrupt(std::function<void()> interrupted) = 0;

 protected:
  Request() = default;
};

class OpenRequest : public Request {
 public:
  // The file is open. False: the program has gone meanwhile, or it was answered before; the file has been released.
  virtual bool opened(std::shared_ptr<OpenFile> file) = 0;
};

// Somebody polls a file.
class Waker {
 public:
  virtual ~Waker() = default;
  Waker(const Waker&) = delete;
  Waker& operator=(const Waker&) = delete;
  // Something changed: have it polled again. Any thread, any time, within locks too; does not block. Once is enough.
  virtual void wake() = 0;

 protected:
  Waker() = default;
};

}  // namespace stp::view
