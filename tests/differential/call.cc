#include "tests/differential/call.h"

#include <sys/socket.h>

#include <fmt/format.h>

#include <array>

namespace stp::differential {
namespace {

constexpr std::array kNames = {"socket", "bind", "listen", "connect", "accept", "send", "recv", "writev", "readv", "shutdown", "close", "getsockname",
                               "getpeername", "getsockopt", "setsockopt", "fcntl", "ioctl", "select", "poll", "fill"};

class Maker {
 public:
  explicit Maker(std::uint64_t seed) : random_(seed) {}

  std::vector<Call> make() {
    const int conversations = one_in(8) ? 0 : one_in(4) ? 2 : 1;
    for (int i = 0; i < conversations; ++i) begin_conversation(i);
    for (int left = 4 + below(24); left > 0; --left) add_any();
    return std::move(calls_);
  }

 private:
  int below(int n) { return static_cast<int>(random_() % static_cast<unsigned>(n)); }
  bool one_in(int n) { return below(n) == 0; }
  template <std::size_t N>
  int one_of(const std::array<int, N>& choices) {
    return choices[static_cast<std::size_t>(below(static_cast<int>(N)))];
  }
  void add(Op op, int slot, int a = 0, int b = 0) { calls_.push_back({op, slot, a, b, static_cast<std::uint32_t>(random_())}); }
  Fault fault() { return one_in(12) ? static_cast<Fault>(1 + below(6)) : Fault::kNone; }
  int fault_number() { return static_cast<int>(fault()); }
  int slot() { return one_in(40) ? kNegative + below(3) : below(used_ + 1) % kSlots; }

  // The listener, the client and the accepted socket stand in three slots that follow each other.
  void begin_conversation(int number) {
    const int listener = used_, port = number;
    add(Op::kSocket, 0, one_in(6) ? 1 : 0);
    add(Op::kBind, listener, port);
    if (one_in(8)) add(Op::kSetOption, listener, below(7), below(4));
    add(Op::kListen, listener, one_of(std::array{16, 16, 1000, -1, 0, 1, 2}));
    add(Op::kSocket, 0, one_in(6) ? 1 : 0);
    if (one_in(6)) add(Op::kBind, listener + 1, 3 - number);
    add(Op::kConnect, listener + 1, port);
    if (one_in(10)) add_any();
    add(Op::kAccept, listener, 0, below(3));
    used_ = std::min(used_ + 3, kSlots - 1);
  }

  void add_any() {
    const int what = below(100);
    if (what < 24) return add(Op::kSend, slot(), one_of(std::array{0, 1, 10, 1000, 1000, 5000, 20000}), one_in(20) ? 3 : below(3));
    if (what < 46) return add(Op::kRecv, slot(), one_of(std::array{0, 1, 10, 1000, 5000, 5000, 100000, 100000}), one_in(25) ? 6 : below(6));
    if (what < 49) return add(Op::kWritev, slot(), below(8));
    if (what < 52) return add(Op::kReadv, slot(), below(8));
    if (what < 60) return add(Op::kShutdown, slot(), one_in(12) ? 7 : below(3));
    if (what < 66) return add(Op::kClose, slot());
    add_rare();
  }

  void add_rare() {
    switch (below(13)) {
      case 0: return add_socket();
      case 1: return add(Op::kBind, slot(), below(12) % 6, fault_number());
      case 2: return add(Op::kListen, slot(), one_of(std::array{16, 1000, -1, 1}));
      case 3: return add(Op::kConnect, slot(), one_in(12) ? kNoPort : below(3), std::min(fault_number(), static_cast<int>(Fault::kTooLong)));
      case 4: return add(Op::kAccept, slot(), one_in(12) ? 3 : below(3), below(5));
      case 5: return add(Op::kSockname, slot(), fault_number());
      case 6: return add(Op::kPeername, slot(), fault_number());
      case 7: return add(Op::kGetOption, slot(), below(9), one_in(4) ? 1 + below(4) : 0);
      case 8: return add(Op::kSetOption, slot(), below(7), one_in(4) ? 4 + below(4) : below(4));
      case 9: return add(Op::kFcntl, slot(), below(7));
      case 10: return add(Op::kIoctl, slot(), below(8));
      case 11: return add(one_in(2) ? Op::kSelect : Op::kPoll, 0, below(6));
      default: return one_in(6) ? add(Op::kFill, slot()) : one_in(2) ? add_socket() : add_client();
    }
  }

  void add_client() {
    add(Op::kSocket, 0, below(2));
    add(Op::kConnect, used_, below(2));
    used_ = std::min(used_ + 1, kSlots - 1);
  }

  void add_socket() {
    add(Op::kSocket, 0, one_in(6) ? 2 + below(5) : below(2));
    used_ = std::min(used_ + 1, kSlots - 1);
  }

  std::mt19937_64 random_;
  std::vector<Call> calls_;
  int used_ = 0;
};

}  // namespace

std::string to_string(const Call& call) {
  return fmt::format("{}(slot {}, {}, {})", kNames[static_cast<std::size_t>(call.op)], call.slot, call.a, call.b);
}

std::vector<Call> make_sequence(std::uint64_t seed) { return Maker(seed).make(); }

}  // namespace stp::differential
