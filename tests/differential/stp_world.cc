// STP's side.
#include <arpa/inet.h>

#include <cstring>

#include "hostlib/stp.h"
#include "tests/differential/world.h"

namespace stp::differential {
namespace {

constexpr Api kStpApi = {
    .name = "STP",
    .domain = AF_STP,
    .socket = STPsocket,
    .bind = STPbind,
    .listen = STPlisten,
    .connect = STPconnect,
    .accept4 = STPaccept4,
    .send = STPsend,
    .recv = STPrecv,
    .writev = STPwritev,
    .readv = STPreadv,
    .shutdown = STPshutdown,
    .close = STPclose,
    .getsockname = STPgetsockname,
    .getpeername = STPgetpeername,
    .getsockopt = STPgetsockopt,
    .setsockopt = STPsetsockopt,
    .fcntl = [](int s, int command, int argument) { return STPfcntl(s, command, argument); },
    .ioctl = [](int s, unsigned long request, void* argument) { return STPioctl(s, request, static_cast<int*>(argument)); },
    .select = STPselect,
    .poll = STPpoll,
};

class StpWorld final : public World {
 public:
  explicit StpWorld(int first_port) : World(kStpApi, first_port) {}

 private:
  Written write_address(int port, bool mine) const override {
    sockaddr_stp address = {};
    address.stp_family = AF_STP;
    address.stp_port = htons(static_cast<std::uint16_t>(port));
    if (!mine) std::strcpy(address.stp_system, "omega");
    Written written{.address = {}, .length = sizeof address};
    std::memcpy(&written.address, &address, sizeof address);
    return written;
  }
};

}  // namespace

std::unique_ptr<World> make_stp_world(unsigned number) { return std::make_unique<StpWorld>(20000 + static_cast<int>(number % 1500) * 8); }

}  // namespace stp::differential
