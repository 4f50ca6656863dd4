// What the tests of the C API share: a storage of their own, sockets that close themselves, connected pairs.
//
// The executable runs once for each kind of storage: STP_TEST_MEDIUM says mapped (on a tmpfs) or direct (on a file in
// STP_TEST_DIR). The test process is the host "alpha"; other hosts are further processes of this executable (peer_process.h).
#pragma once

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/types.h>

#include <cerrno>
#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "hostlib/stp.h"

namespace stp::test {

#if defined(__SANITIZE_ADDRESS__)
inline constexpr bool kSanitized = true;
#elif defined(__has_feature)
inline constexpr bool kSanitized = __has_feature(address_sanitizer);
#else
inline constexpr bool kSanitized = false;
#endif

inline constexpr const char* kMyHost = "alpha";

// Made by main() before the first test; its path is in STP_STG.
int make_storage(const char* timing = "fast");  // 0, 77 (skip: said why), or 1; "fast" is made patient (tests/patient_timing.h)
void remove_storage();
const std::string& storage_path();

// STP_TEST_AGENT_CONFIG is put into the configuration of the agents.
// With STP_TEST_STPD (path of stpd) hosts are served by agents: this one ("mine") or every one ("all"), as STP_TEST_AGENT says. The agent's
// socket; started when first asked for, stopped by remove_storage(). "none" for a host that embeds.
std::string agent_of(const std::string& host);
inline constexpr std::size_t kMemoryOfAUserMib = 128;  // what these agents allow; sockets given away they hold for 4 s
bool served_by_agent();
bool all_served_by_agents();
bool shares_rings();  // two sockets of the test have memory in common, by their agent
void stop_agents();
pid_t agent_pid(const std::string& host);
// SIGSTOP, and when it returns every thread stands still: until the thread that took the signal has run, the others go on.
bool halt_agent(const std::string& host);
void kill_agent(const std::string& host);  // SIGKILL; the next agent_of() starts another on the same socket

class Owned {
 public:
  Owned() = default;
  explicit Owned(int s) : s_(s) {}
  Owned(Owned&& other) noexcept : s_(std::exchange(other.s_, -1)) {}
  Owned& operator=(Owned&& other) noexcept {
    std::swap(s_, other.s_);
    return *this;
  }
  ~Owned() { (void)close(); }
  int get() const { return s_; }
  operator int() const { return s_; }  // NOLINT: as handy as the number itself
  int release() { return std::exchange(s_, -1); }
  int close() { return s_ >= 0 ? STPclose(std::exchange(s_, -1)) : 0; }

 private:
  int s_ = -1;
};

sockaddr_stp address_of(std::string_view host, std::uint16_t port);
inline const sockaddr* raw(const sockaddr_stp& address) { return reinterpret_cast<const sockaddr*>(&address); }
inline sockaddr* raw(sockaddr_stp& address) { return reinterpret_cast<sockaddr*>(&address); }

Owned open_socket(int flags = 0);
std::uint16_t port_of(int s);
// Listens on a free port.
Owned listening_socket(int backlog = 16);
int connect_to(int s, std::string_view host, std::uint16_t port);

struct Pair {
  Owned client, server;
};
// Two ends of a connection of this host with itself.
Pair connected_pair();

// Bytes that differ everywhere, so that loss, repetition and exchange show.
std::vector<std::byte> pattern(std::size_t size, std::uint64_t seed = 1);
bool send_all(int s, const std::vector<std::byte>& data);
// Sends to a peer that does not read, until nothing has gone in for 300 ms: send() says EAGAIN too while what it took is on its way still.
std::size_t fill(int s);
std::vector<std::byte> receive_exactly(int s, std::size_t size);
// Until EOF. An error ends it too; it is in errno, which is 0 at EOF.
std::vector<std::byte> receive_to_end(int s);

// Sends so many bytes, and gets the same back from an echoing peer.
bool echoes(int s, std::size_t size = 1000);

// Asks again and again until it is true, for so long at the most.
template <class Done>
bool within(std::chrono::milliseconds span, Done done) {
  for (const auto end = std::chrono::steady_clock::now() + span; std::chrono::steady_clock::now() < end; ::poll(nullptr, 0, 5))
    if (done()) return true;
  return done();
}

#define EXPECT_FAILS(call, code)           \
  do {                                     \
    errno = 0;                             \
    EXPECT_EQ((call), -1) << #call;        \
    EXPECT_EQ(errno, code) << STPstrerror(-1); \
  } while (0)

}  // namespace stp::test
