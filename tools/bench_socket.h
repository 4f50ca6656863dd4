// An STP socket as the bench uses it: blocking, whole messages, errors in words. And what the two hosts say to each other.
#pragma once

#include <cstdint>
#include <utility>

#include "stp/error.h"
#include "stp/names.h"

namespace stp::tools {

enum class BenchJob : std::uint32_t {
  kSink = 1,   // takes all until EOF, then answers how many bytes that were (8 bytes)
  kEcho = 2,   // sends 64 bytes back
  kPool = 4,   // like kSink, many sockets in one thread
  kHold = 5,   // is kept, and nothing is done with it
  kStamp = 3,  // answers each byte with the CLOCK_BOOTTIME at which it came (8 bytes): both hosts are on one machine
};
inline constexpr std::uint32_t kSpinAsItIs = 0xffffffff;
inline constexpr std::uint32_t kSpinDefault = 200;  // of STP_OPT_SPIN_US

// The first bytes of each connection.
struct BenchHello {
  BenchJob job{};
  std::uint32_t spin_us = kSpinAsItIs;
  std::uint32_t send_bytes = 0;  // of each send of a stream
};

std::int64_t boottime_ns();

class BenchSocket {
 public:
  static Result<BenchSocket> make();
  explicit BenchSocket(int s) : s_(s) {}
  BenchSocket(BenchSocket&& other) noexcept : s_(std::exchange(other.s_, -1)) {}
  BenchSocket(const BenchSocket&) = delete;
  BenchSocket& operator=(const BenchSocket&) = delete;
  BenchSocket& operator=(BenchSocket&&) = delete;
  ~BenchSocket();

  Result<void> connect(const Address& peer);
  Result<Address> listen();  // on a free port, which is in the address
  Result<BenchSocket> accept();
  Result<void> send(const void* data, std::size_t size);     // all of it
  Result<void> receive(void* into, std::size_t size);        // all of it; EOF is an error
  Result<std::size_t> receive_some(void* into, std::size_t size);  // 0 is EOF
  Result<void> end_sending();
  // As much as goes without waiting; 0: nothing.
  Result<std::size_t> send_some(const void* data, std::size_t size);
  int number() const { return s_; }
  void set_spin(std::uint32_t spin_us);  // of the whole process; kSpinAsItIs: nothing

 private:
  int s_;
};

}  // namespace stp::tools
