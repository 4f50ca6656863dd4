// The socket tables and port files of all hosts, read from the disk without joining. A host writes its tables behind by up to a
// second, and only what carries the incarnation of its lease counts.
#pragma once

#include <string>
#include <vector>

#include "stp/lease_watch.h"
#include "stp/port_block.h"
#include "stp/scb.h"

namespace stp {

struct ListFilter {
  std::string host;         // only this one, instances included ("alpha": alpha and alpha~2); empty: all
  bool dead_too = false;    // also the last tables of hosts that are not alive
};

struct SocketRow {
  Slot slot = kNoSlot;
  std::string host;
  HostState host_state = HostState::kAlive;
  Scb scb;
};

struct PortRow {
  Slot slot = kNoSlot;
  std::string host;
  HostState host_state = HostState::kAlive;
  std::uint16_t port = 0;
  PortState state = PortState::kFree;
  std::uint32_t scb = 0;
};

template <class Row>
struct Listing {
  std::vector<Row> rows;              // by slot, then SCB or port
  std::vector<std::string> warnings;  // blocks that could not be read, in words
};

std::string_view to_string(PortState state);

Result<Listing<SocketRow>> list_sockets(BlockSource& storage, const std::vector<HostReport>& hosts, const ListFilter& filter);
Result<Listing<PortRow>> list_ports(BlockSource& storage, const std::vector<HostReport>& hosts, const ListFilter& filter);

}  // namespace stp
