#include "fuse/view.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "stp/medium.h"

namespace stp::view {
namespace {

std::unexpected<Error> no_such_host(std::string_view name) { return fail(ENOENT, fmt::format("no host \"{}\"", name)); }

// Every slot that somebody holds, or left, or that is damaged. A name that another slot has already is told apart by the slot;
// ':' is in no host's name.
std::vector<std::string> directory_names(const std::vector<HostReport>& hosts) {
  std::vector<std::string> names;
  std::set<std::string> taken;
  for (const HostReport& host : hosts) {
    if (host.state == HostState::kFree) {
      names.emplace_back();
    } else if (!host.lease.name.empty() && taken.insert(host.lease.name).second) {
      names.push_back(host.lease.name);
    } else {
      names.push_back(fmt::format("slot:{}", host.slot));
    }
  }
  return names;
}

DecodedGate decode(ConstBytes block, const Superblock& s, Slot receiver, Slot sender) { return decode_gate(block, s.uuid, s.geometry, receiver, sender); }

// All gates between slots that somebody holds, by receiver and sender.
Result<std::map<std::pair<Slot, Slot>, DecodedGate>> read_gates(BlockSource& blocks, const std::vector<Slot>& held) {
  const Superblock& s = blocks.superblock();
  const Geometry& g = s.geometry;
  std::map<std::pair<Slot, Slot>, DecodedGate> gates;
  if (held.empty()) return gates;
  const Slot used = held.back() + 1;
  const AlignedBuffer row(static_cast<std::size_t>(used) * g.block_size);
  for (const Slot receiver : held) {
    const Bytes bytes = row.span().first(static_cast<std::size_t>(used) * g.block_size);
    if (auto read = blocks.read(g.gate(receiver, 0), bytes); !read) return std::unexpected(read.error());
    for (const Slot sender : held) {
      if (sender == receiver) continue;
      const Bytes block = bytes.subspan(static_cast<std::size_t>(sender) * g.block_size, g.block_size);
      DecodedGate gate = decode(block, s, receiver, sender);
      // Its writer may have been in the middle of it.
      const bool again = gate.fault != BlockFault::kNone && gate.fault != BlockFault::kEmpty;
      if (again && blocks.read(g.gate(receiver, sender), block)) gate = decode(block, s, receiver, sender);
      gates[{receiver, sender}] = gate;
    }
  }
  return gates;
}

Result<std::vector<Conduit>> look_at_conduits(const Group& group) {
  std::vector<Slot> held;
  for (const HostReport& host : group.hosts)
    if (host.held() && host.state != HostState::kUnreadable) held.push_back(host.slot);
  auto gates = read_gates(*group.blocks, held);
  if (!gates) return std::unexpected(gates.error());
  std::vector<Conduit> conduits;
  std::set<std::string> taken;
  for (const Slot from : held)
    for (const Slot to : held) {
      if (from == to) continue;
      Conduit conduit{.name = fmt::format("{}-{}", group.names[from], group.names[to]), .from = from, .to = to,
                      .gate = (*gates)[{to, from}], .back = (*gates)[{from, to}]};
      // "a-b" to "c" and "a" to "b-c".
      if (!taken.insert(conduit.name).second) conduit.name = fmt::format("slot:{}-slot:{}", from, to);
      conduits.push_back(std::move(conduit));
    }
  return conduits;
}

Result<Faults> look_for_faults(BlockSource& blocks, const WatchClock& clock) {
  Faults faults;
  CheckRequest request;
  request.descriptions_only = true;
  request.clock = clock;
  request.report = [&](const Finding& finding) { faults.findings.push_back(finding); };
  auto sum = check_storage(blocks, request);
  if (!sum) return std::unexpected(sum.error());
  faults.sum = *sum;
  return faults;
}

}  // namespace

const HostReport* Group::find(std::string_view name) const {
  const auto it = std::ranges::find(names, name);
  return it == names.end() || name.empty() ? nullptr : &hosts[static_cast<std::size_t>(it - names.begin())];
}

View::View(std::unique_ptr<Source> source, Settings settings) : source_(std::move(source)), settings_(std::move(settings)) {}

Result<Group> View::look_at_group() {
  auto blocks = source_->blocks();
  if (!blocks) return std::unexpected(blocks.error());
  const Uuid& uuid = (*blocks)->superblock().uuid;
  if (watch_ == nullptr || watched_ != uuid) watch_ = std::make_unique<HostWatch>(settings_.clock);
  watched_ = uuid;
  auto hosts = watch_->look(**blocks);
  if (!hosts) return std::unexpected(hosts.error());
  auto agent = source_->agent();
  if (!agent) return std::unexpected(agent.error());
  std::vector<std::string> names = directory_names(*hosts);
  return Group{.blocks = *blocks, .hosts = std::move(*hosts), .names = std::move(names), .agent = std::move(*agent)};
}

Result<View::GroupPtr> View::group(Patience patience) {
  return group_.get(patience, settings_.fresh, settings_.deadline, [this] { return look_at_group(); });
}

std::shared_ptr<View::Tables> View::tables_of(Slot slot) {
  std::lock_guard lock(mutex_);
  auto& tables = tables_[slot];
  if (tables == nullptr) tables = std::make_shared<Tables>();
  return tables;
}

template <class Row, class List>
Result<std::shared_ptr<const Listing<Row>>> View::table(Kept<Listing<Row>> Tables::*kept, std::string_view host, Patience patience, const List& list) {
  const auto group = this->group(patience);
  if (!group) return std::unexpected(group.error());
  const HostReport* const report = (*group)->find(host);
  if (report == nullptr) return no_such_host(host);
  const auto tables = tables_of(report->slot);
  return ((*tables).*kept).get(patience, settings_.fresh, settings_.deadline, [&]() -> Result<Listing<Row>> {
    if (report->state == HostState::kUnreadable) return Listing<Row>{};  // whose tables these are is not known
    return list(*(*group)->blocks, {*report}, ListFilter{.host = {}, .dead_too = true});
  });
}

Result<std::shared_ptr<const Listing<SocketRow>>> View::sockets(std::string_view host, Patience patience) {
  return table<SocketRow>(&Tables::sockets, host, patience, list_sockets);
}

Result<std::shared_ptr<const Listing<PortRow>>> View::ports(std::string_view host, Patience patience) {
  return table<PortRow>(&Tables::ports, host, patience, list_ports);
}

Result<std::shared_ptr<const std::vector<Conduit>>> View::conduits(Patience patience) {
  const auto group = this->group(patience);
  if (!group) return std::unexpected(group.error());
  return conduits_.get(patience, settings_.fresh, settings_.deadline, [&] { return look_at_conduits(**group); });
}

Result<std::shared_ptr<const Faults>> View::faults(Patience patience) {
  return faults_.get(patience, settings_.faults_fresh, settings_.deadline, [&]() -> Result<Faults> {
    const auto blocks = source_->blocks();
    if (!blocks) return std::unexpected(blocks.error());
    return look_for_faults(**blocks, settings_.clock);
  });
}

void View::forget() {
  group_.forget();
  conduits_.forget();
  faults_.forget();
  std::lock_guard lock(mutex_);
  tables_.clear();
}

}  // namespace stp::view
