// many_sockets AGENT COUNT: a program with so many bound sockets of an agent, until it is killed. Says "ready" when it has them.
#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>

#include "hostlib/agent_link.h"

int main(int argc, char** argv) {
  using namespace stp::host;
  if (argc != 3) return 2;
  auto link = AgentLink::connect({.agent_path = argv[1], .stg_path = {}, .host = {}});
  if (!link) {
    fmt::print(stderr, "many_sockets: {}\n", link.error().text);
    return 1;
  }
  for (int i = 0; i < std::atoi(argv[2]); ++i) {
    AgentCall call;
    call.what = AgentRequest::kOpen;
    const auto opened = (*link)->ask(call);  // the shadow is not used, and its descriptor not kept
    call.what = AgentRequest::kBind;
    if (opened) call.socket = opened->answer.socket;
    if (!opened || !(*link)->ask(call)) {
      fmt::print(stderr, "many_sockets: no socket {}\n", i);
      return 1;
    }
  }
  fmt::print("ready\n");
  std::fflush(stdout);
  (void)::pause();
  return 0;
}
