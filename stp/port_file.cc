#include "stp/port_file.h"

#include <algorithm>

namespace stp {

PortFile::PortFile(Core& core)
    : core_(core), ports_(kPorts), behind_(core, [this](std::uint32_t i, std::uint64_t s, Bytes b) { return encode(i, s, b); }) {}

void PortFile::set(std::uint16_t port, PortState state, std::uint32_t scb) {
  ports_[port] = {state, scb};
  behind_.mark(port / core_.geometry().ports_a_block());
}

std::uint16_t PortFile::find_free() {
  constexpr std::uint32_t kRange = kLastFree - kFirstFree + 1;
  if (next_ == 0) next_ = static_cast<std::uint16_t>(kFirstFree + core_.random.below(kRange));
  for (std::uint32_t i = 0; i < kRange; ++i) {
    const std::uint16_t port = next_;
    next_ = port == kLastFree ? kFirstFree : static_cast<std::uint16_t>(port + 1);
    if (!taken(port)) return port;
  }
  return 0;
}

void PortFile::mark_all() {
  for (std::uint32_t port = 0; port < kPorts; ++port)
    if (ports_[port].state != PortState::kFree) behind_.mark(port / core_.geometry().ports_a_block());
}

std::uint64_t PortFile::encode(std::uint32_t index, std::uint64_t sequence, Bytes block) const {
  PortBlock out{.owner = core_.self, .sequence = sequence, .index = index, .ports = {}};
  const std::size_t first = static_cast<std::size_t>(index) * core_.geometry().ports_a_block();
  const std::size_t last = std::min<std::size_t>(kPorts, first + core_.geometry().ports_a_block());
  for (std::size_t port = first; port < last; ++port) out.ports.push_back(ports_[port]);
  encode_port_block(block, out, core_.uuid(), core_.geometry());
  return core_.geometry().port_block(core_.self.slot, index);
}

}  // namespace stp
