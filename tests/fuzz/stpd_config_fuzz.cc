// The configuration file of stpd.
#include "tools/stpd_config.h"

#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/fuzz/target.h"

namespace stp::fuzz {

void run(ConstBytes bytes) {
  const int fd = ::memfd_create("stpd.toml", MFD_CLOEXEC);
  require(fd >= 0 && ::write(fd, bytes.data(), bytes.size()) == static_cast<ssize_t>(bytes.size()), "there is room for a small file");
  StpdConfig config;
  config.host = "before";
  const auto read = read_stpd_config(fmt::format("/proc/self/fd/{}", fd), config);
  (void)::close(fd);
  if (!read) {
    require(!read.error().text.empty() && config.host == "before" && config.stgs.empty(), "a file that is refused changes nothing, and is told why");
    return;
  }
  require(!config.host.empty() && !config.agent.empty() && !config.mode.empty(), "what must be there is there");
  require(config.ring_kib >= 4 && config.ring_kib <= 65536 && config.most_sockets > 0 && config.most_memory_mib > 0 && config.given_for_s > 0, "numbers are in their bounds");
  require(config.run_network.prefix >= 8 && config.run_network.prefix <= run::kLongestPrefix, "the network is one that is wanted");
}

}  // namespace stp::fuzz
