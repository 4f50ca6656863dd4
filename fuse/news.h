// What happened in the group between one look at the view and the next, in words: a line each, without a newline.
//
//   host up NAME incarnation N, host silent NAME, host dead NAME, host left NAME, host joining NAME, host gone NAME (its slot is free)
//   socket opened NAME SCB STATE LOCAL REMOTE             socket closed NAME SCB STATE LOCAL REMOTE
//   port opened NAME PORT           port closed NAME PORT
//   fault found NAME: WORDS         fault gone NAME: WORDS
//   source lost: WORDS              source back
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "fuse/view.h"

namespace stp::view {

// One thread.
class NewsWatch {
 public:
  explicit NewsWatch(View& view) : view_(view) {}
  // The first look finds nothing: what is there is no news. Blocking.
  std::vector<std::string> look();

 private:
  struct Socket {
    std::uint64_t made_ms = 0, session = 0;
    std::string local, remote;
  };
  struct Host {
    HostState state = HostState::kFree;
    std::uint64_t incarnation = 0;
    std::map<std::uint32_t, Socket> sockets;
    std::set<std::uint16_t> ports;
    std::set<std::string> faults;
  };
  using Hosts = std::map<std::string, Host>;
  Result<Hosts> look_at_all();
  View& view_;
  bool begun_ = false;
  bool lost_ = false;
  Hosts hosts_;
};

}  // namespace stp::view
