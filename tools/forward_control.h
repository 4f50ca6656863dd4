// Endpoints of `stp forward` added, removed and listed while it runs: lines over a Unix socket.
//   add -L SPEC, remove -R SPEC, list, list --json      each is answered by lines, and a last one: "ok", or "error: " and words
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "hostlib/event_loop.h"
#include "hostlib/unique_fd.h"
#include "stp/error.h"
#include "tools/forwarder.h"
#include "tools/kernel_listener.h"

namespace stp::forward {

// What one line is answered, the last line end included.
std::string control_answer(Forwarder& forwarder, std::string_view line);

class ForwardControl {
 public:
  // The loop and the forwarder must outlive it.
  static Result<std::unique_ptr<ForwardControl>> open(EventLoop& loop, const std::string& path, Forwarder& forwarder);
  ~ForwardControl();
  ForwardControl(const ForwardControl&) = delete;
  ForwardControl& operator=(const ForwardControl&) = delete;

 private:
  struct Talk {
    UniqueFd fd;
    std::string in, out;
    bool client_ended = false;
  };
  ForwardControl(EventLoop& loop, Forwarder& forwarder, KernelListener listener);
  void accept_some();
  void rest();
  void turn(std::uint64_t id);
  bool read_some(Talk& talk);
  void answer_lines(Talk& talk);
  bool write_some(Talk& talk);
  void drop(std::uint64_t id);

  EventLoop& loop_;
  Forwarder& forwarder_;
  KernelListener listener_;
  std::uint64_t next_id_ = 1;
  std::map<std::uint64_t, Talk> talks_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);  // for timers that outlive this
};

// The client's side: sends one line, and waits for the answer. Its lines without the last one, or the words of the error.
Result<std::string> ask_forwarder(const std::string& path, std::string_view line);

}  // namespace stp::forward
