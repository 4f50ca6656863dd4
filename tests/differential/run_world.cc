// STP's side under `stp run`: the kernel's own calls, of which the preloaded library answers some.
#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>

#include <cstring>

#include "tests/differential/world.h"

namespace stp::differential {
namespace {

// Of the host that this program runs on, as `stp run` has it.
in_addr_t own_address() {
  const hostent* const found = ::gethostbyname("alpha.stp");
  in_addr address = {};
  if (found != nullptr) std::memcpy(&address, found->h_addr_list[0], sizeof address);
  return address.s_addr;
}

class RunWorld final : public World {
 public:
  explicit RunWorld(int first_port) : World(kKernelApi, first_port) {}

 private:
  Written write_address(int port, bool mine) const override {
    static const in_addr_t own = own_address();
    return internet_address(mine ? own : own ^ htonl(1u << 12), port);  // the latter is of a storage system that there is not
  }
};

}  // namespace

std::unique_ptr<World> make_run_world(unsigned number) { return std::make_unique<RunWorld>(20000 + static_cast<int>(number % 1500) * 8); }

}  // namespace stp::differential
