// Another program of this host that takes sockets which are given to it, and does as it is told: the role "taker".
#pragma once

#include <sstream>
#include <string>

#include "tests/api/fixture.h"
#include "tests/api/peer_process.h"

namespace stp::test {

inline std::string to_hex(const stp_clientid& id) {
  static const char digits[] = "0123456789abcdef";
  std::string text;
  for (const auto* at = reinterpret_cast<const unsigned char*>(&id); at != reinterpret_cast<const unsigned char*>(&id + 1); ++at) {
    text += digits[*at >> 4];
    text += digits[*at & 15];
  }
  return text;
}

inline stp_clientid from_hex(const std::string& text) {
  stp_clientid id = {};
  for (std::size_t i = 0; i < sizeof id && 2 * i + 1 < text.size(); ++i)
    reinterpret_cast<unsigned char*>(&id)[i] = static_cast<unsigned char>(std::stoul(text.substr(2 * i, 2), nullptr, 16));
  return id;
}

inline stp_clientid my_id() {
  stp_clientid id = {};
  EXPECT_EQ(STPgetclientid(&id), 0) << STPstrerror(-1);
  return id;
}

// Another program of this host that takes what it is given: see the role "taker".
struct Taker {
  PeerProcess process{kMyHost, "taker"};
  stp_clientid id = from_hex(process.read_line());
  std::string take(int givers_number) {
    process.tell("take " + to_hex(my_id()) + ' ' + std::to_string(givers_number));
    return process.read_line();
  }
};

#define NEEDS_AGENT() \
  if (!served_by_agent()) GTEST_SKIP() << "embedded: there is no agent to hold a socket"

}  // namespace stp::test
