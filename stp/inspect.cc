#include "stp/inspect.h"

#include <fmt/format.h>

#include <algorithm>

#include "stp/medium.h"
#include "stp/names.h"

namespace stp {
namespace {

bool wanted(const HostReport& host, const ListFilter& filter) {
  const bool there = host.state == HostState::kAlive || (filter.dead_too && (host.state == HostState::kDead || host.state == HostState::kSilent));
  return there && (filter.host.empty() || host.lease.name == filter.host || base_name(host.lease.name) == filter.host);
}

// Calls take(block bytes, index) for `count` blocks from `first`, read in large pieces.
template <class Take>
Result<void> read_region(BlockSource& storage, std::uint64_t first, std::uint32_t count, const Take& take) {
  const std::size_t size = storage.superblock().geometry.block_size;
  const std::uint32_t piece = static_cast<std::uint32_t>(kMaxRequestBytes / size);
  const AlignedBuffer buffer(kMaxRequestBytes);
  for (std::uint32_t at = 0; at < count; at += piece) {
    const std::uint32_t n = std::min(piece, count - at);
    if (auto ok = storage.read(first + at, buffer.span().first(n * size)); !ok) return ok;
    for (std::uint32_t i = 0; i < n; ++i) take(buffer.span().subspan(i * size, size), at + i);
  }
  return {};
}

// A host that is alive may be writing the block just now: a second look. Fills `block`.
bool reread(BlockSource& storage, std::uint64_t place, Bytes block) { return storage.read(place, block).has_value(); }

void warn_of_faults(std::vector<std::string>& warnings, const HostReport& host, const char* what, unsigned faults) {
  if (faults > 0)
    warnings.push_back(fmt::format("{} block{} of the {} of {} did not check; `stp check` says more", faults, faults == 1 ? "" : "s", what, host.title()));
}

}  // namespace

std::string_view to_string(PortState state) {
  switch (state) {
    case PortState::kFree: return "FREE";
    case PortState::kBound: return "BOUND";
    case PortState::kListening: return "LISTEN";
  }
  return "?";
}

Result<Listing<SocketRow>> list_sockets(BlockSource& storage, const std::vector<HostReport>& hosts, const ListFilter& filter) {
  const Superblock& s = storage.superblock();
  const Geometry& g = s.geometry;
  Listing<SocketRow> list;
  for (const HostReport& host : hosts) {
    if (!wanted(host, filter)) continue;
    unsigned faults = 0;
    const auto take = [&](Bytes block, std::uint32_t index) {
      DecodedScbBlock decoded = decode_scb_block(block, s.uuid, g, host.slot, index);
      if (decoded.fault != BlockFault::kNone && decoded.fault != BlockFault::kEmpty && reread(storage, g.scb_block(host.slot, index), block))
        decoded = decode_scb_block(block, s.uuid, g, host.slot, index);
      if (decoded.fault != BlockFault::kNone) {
        faults += decoded.fault != BlockFault::kEmpty;
        return;
      }
      if (decoded.block.owner != host.lease.owner) return;
      for (Scb& scb : decoded.block.scbs)
        if (scb.state != ScbState::kFree) list.rows.push_back({host.slot, host.lease.name, host.state, std::move(scb)});
    };
    if (auto ok = read_region(storage, g.scb_block(host.slot, 0), g.scb_blocks, take); !ok) return std::unexpected(ok.error());
    warn_of_faults(list.warnings, host, "socket table", faults);
  }
  return list;
}

Result<Listing<PortRow>> list_ports(BlockSource& storage, const std::vector<HostReport>& hosts, const ListFilter& filter) {
  const Superblock& s = storage.superblock();
  const Geometry& g = s.geometry;
  Listing<PortRow> list;
  for (const HostReport& host : hosts) {
    if (!wanted(host, filter)) continue;
    unsigned faults = 0;
    const auto take = [&](Bytes block, std::uint32_t index) {
      DecodedPortBlock decoded = decode_port_block(block, s.uuid, g, host.slot, index);
      if (decoded.fault != BlockFault::kNone && decoded.fault != BlockFault::kEmpty && reread(storage, g.port_block(host.slot, index), block))
        decoded = decode_port_block(block, s.uuid, g, host.slot, index);
      if (decoded.fault != BlockFault::kNone) {
        faults += decoded.fault != BlockFault::kEmpty;
        return;
      }
      if (decoded.block.owner != host.lease.owner) return;
      const std::uint32_t first = index * g.ports_a_block();
      for (std::uint32_t i = 0; i < decoded.block.ports.size() && first + i < kPorts; ++i) {
        const PortEntry& entry = decoded.block.ports[i];
        if (entry.state != PortState::kFree)
          list.rows.push_back({host.slot, host.lease.name, host.state, static_cast<std::uint16_t>(first + i), entry.state, entry.scb});
      }
    };
    if (auto ok = read_region(storage, g.port_block(host.slot, 0), g.port_blocks, take); !ok) return std::unexpected(ok.error());
    warn_of_faults(list.warnings, host, "port file", faults);
  }
  return list;
}

}  // namespace stp
