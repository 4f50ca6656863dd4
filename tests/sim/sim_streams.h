// All streams of one simulated world, seen from above: what was sent on each, and what its other end got. Bytes are a function of
// stream, direction and offset, so that a byte that is lost, doubled, moved or of another stream is seen at once.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "stp/engine.h"
#include "tests/sim/sim_storage.h"

namespace stp::sim {

// Forth: from the one that connected. Back: to it.
struct Flow {
  std::uint64_t sent = 0;      // bytes that the sender's engine took
  bool ended = false;          // the sender shut or closed: `sent` is all there is
  bool cut = false;            // the sender aborted, or its process is gone: an error may come any time
  std::uint64_t received = 0;
  bool eof = false;
  bool lies = false;           // the sender changes bytes that it lent: each arrives as it was, or as its complement
  bool deaf = false;           // the receiver shut or closed its reading: what comes is dropped
  bool given_up = false;       // the receiver closed or aborted, without having shut its reading before
  std::uint64_t had = 0;       // what it had then, read or not
};

struct Stream {
  std::uint64_t id = 0;
  ProcessId from = 0, to = 0;  // to: 0 until accepted
  std::string from_name;  // of the host, when it connected
  SocketId from_socket = 0, to_socket = 0;
  Flow forth, back;
  Flow& flow(bool is_forth) { return is_forth ? forth : back; }
};

inline constexpr std::size_t kStreamHeader = 8;  // the first bytes forth: the stream's id

void fill_stream(std::uint64_t id, bool forth, std::uint64_t offset, Bytes out);
// Offset within `got` of the first byte that is not as sent; got.size() when all are.
std::size_t match_stream(std::uint64_t id, bool forth, std::uint64_t offset, ConstBytes got, bool lies = false);

class Streams {
 public:
  Stream& make(std::uint64_t id) {
    Stream& s = all_[id];
    s.id = id;
    return s;
  }
  Stream* find(std::uint64_t id) {
    auto at = all_.find(id);
    return at == all_.end() ? nullptr : &at->second;
  }
  std::map<std::uint64_t, Stream>& all() { return all_; }

 private:
  std::map<std::uint64_t, Stream> all_;
};

}  // namespace stp::sim
