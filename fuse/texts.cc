#include "fuse/texts.h"

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <ctime>
#include <iterator>
#include <nlohmann/json.hpp>

#include "stp/size_text.h"

namespace stp::view {
namespace {

using nlohmann::ordered_json;

class Lines {
 public:
  template <class T>
  Lines& add(std::string_view key, const T& value) {
    fmt::format_to(std::back_inserter(out_), "{} {}\n", key, value);
    return *this;
  }
  std::string take() { return std::move(out_); }

 private:
  std::string out_;
};

std::string time_text(std::uint64_t ms) {
  if (ms == 0) return "-";
  const auto seconds = static_cast<std::time_t>(ms / 1000);
  std::tm tm = {};
  if (::gmtime_r(&seconds, &tm) == nullptr) return fmt::format("{} ms", ms);
  return fmt::format("{:%Y-%m-%dT%H:%M:%S}.{:03}Z", tm, ms % 1000);
}

std::string seconds_text(Nanos nanos) { return fmt::format("{:.3f}", static_cast<double>(nanos) / 1e9); }

struct Count {
  unsigned alive = 0, dead = 0, silent = 0, joining = 0, left = 0, unreadable = 0;
};

Count count_of(const std::vector<HostReport>& hosts) {
  Count count;
  for (const HostReport& host : hosts) {
    switch (host.state) {
      case HostState::kFree: break;
      case HostState::kLeft: ++count.left; break;
      case HostState::kJoining: ++count.joining; break;
      case HostState::kAlive: ++count.alive; break;
      case HostState::kSilent: ++count.silent; break;
      case HostState::kDead: ++count.dead; break;
      case HostState::kUnreadable: ++count.unreadable; break;
    }
  }
  return count;
}

std::string health_of(const Group& group, const Count& count) {
  std::vector<std::string> ills;
  if (count.unreadable > 0) ills.push_back(fmt::format("{} unreadable lease{}", count.unreadable, count.unreadable == 1 ? "" : "s"));
  if (count.dead > 0) ills.push_back(fmt::format("{} dead", count.dead));
  if (count.silent > 0) ills.push_back(fmt::format("{} silent", count.silent));
  for (const HostReport& host : group.hosts)
    if (!host.does_not_see.empty()) ills.push_back(fmt::format("{} does not see everybody", host.title()));
  return ills.empty() ? "good" : fmt::format("{}", fmt::join(ills, ", "));
}

std::vector<std::string> titles(const Group& group, const std::vector<Slot>& slots) {
  std::vector<std::string> out;
  for (const Slot slot : slots) out.push_back(group.names[slot].empty() ? fmt::format("slot:{}", slot) : group.names[slot]);
  return out;
}

std::string list_text(const std::vector<std::string>& words) { return words.empty() ? "-" : fmt::format("{}", fmt::join(words, ",")); }

std::string_view member_state(MemberState state) {
  switch (state) {
    case MemberState::kJoining: return "joining";
    case MemberState::kMember: return "member";
    case MemberState::kFenced: return "fenced";
    case MemberState::kLeaving: return "leaving";
    case MemberState::kLeft: return "left";
    case MemberState::kStopped: return "stopped";
  }
  return "?";
}

bool agent_serves(const Group& group, Slot slot) { return group.agent && slot < group.names.size() && group.names[slot] == group.agent->host; }

}  // namespace

std::string geometry_text(const Superblock& s) {
  const Geometry& g = s.geometry;
  return Lines()
      .add("stg", s.stg)
      .add("uuid", to_string(s.uuid))
      .add("medium", to_string(s.medium))
      .add("block_size", g.block_size)
      .add("slots", g.hosts)
      .add("sockets", g.sockets)
      .add("ring_blocks", g.ring_blocks)
      .add("extents", g.extents)
      .add("total_bytes", g.total_bytes())
      .take();
}

std::string group_text(const Group& group, const Source& source) {
  const Superblock& s = group.superblock();
  const Count count = count_of(group.hosts);
  Lines lines;
  lines.add("stg", s.stg).add("uuid", to_string(s.uuid)).add("source", source.title()).add("medium", to_string(s.medium));
  lines.add("slots", s.geometry.hosts).add("alive", count.alive).add("dead", count.dead).add("silent", count.silent);
  lines.add("joining", count.joining).add("left", count.left).add("unreadable", count.unreadable).add("health", health_of(group, count));
  if (!group.agent) return lines.take();
  const host::AgentCounters& a = group.agent->stats.agent;
  const EngineCounters& e = group.agent->stats.engine;
  lines.add("host", group.agent->host).add("host_state", member_state(group.agent->view.self.state));
  if (!group.agent->view.self.why.empty()) lines.add("host_trouble", group.agent->view.self.why);
  lines.add("programs", a.programs).add("sockets", a.sockets).add("connects", a.connects).add("local_connects", a.local_connects).add("accepts", a.accepts);
  lines.add("bytes_sent", a.bytes_sent).add("bytes_received", a.bytes_received);
  return lines.add("reads", e.reads).add("writes", e.writes).add("io_errors", e.io_errors).add("protocol_faults", e.protocol_faults).take();
}

std::string group_json(const Group& group, const Source& source) {
  const Superblock& s = group.superblock();
  ordered_json json{{"version", 1}, {"stg", s.stg}, {"uuid", to_string(s.uuid)}, {"source", source.title()}, {"medium", to_string(s.medium)}};
  json["slots"] = s.geometry.hosts;
  json["health"] = health_of(group, count_of(group.hosts));
  json["hosts"] = ordered_json::array();
  for (const HostReport& host : group.hosts) {
    if (group.names[host.slot].empty()) continue;
    ordered_json row{{"name", host.lease.name}, {"slot", host.slot}, {"state", to_string(host.state)}};
    if (host.fault != BlockFault::kNone)
      row["fault"] = to_string(host.fault);
    else
      row["incarnation"] = host.lease.owner.incarnation;
    json["hosts"].push_back(std::move(row));
  }
  if (group.agent) {
    const host::AgentCounters& a = group.agent->stats.agent;
    json["agent"] = {{"host", group.agent->host}, {"state", member_state(group.agent->view.self.state)}, {"programs", a.programs}, {"sockets", a.sockets},
                     {"bytes_sent", a.bytes_sent}, {"bytes_received", a.bytes_received}};
  }
  // The path of a storage is in whatever code its owner likes.
  return json.dump(2, ' ', false, ordered_json::error_handler_t::replace) + "\n";
}

std::string superblock_text(const Group& group) {
  const Superblock& s = group.superblock();
  const Timing& t = s.timing;
  Lines lines;
  lines.add("formatted", time_text(s.formatted_ms)).add("beat_ms", t.beat_ms).add("beat_io_ms", t.beat_io_ms).add("stall_ms", t.stall_ms);
  lines.add("check_ms", t.check_ms).add("late_ms", t.late_ms).add("claim_ms", t.claim_ms).add("observe_ms", t.observe_ms).add("observe_io_ms", t.observe_io_ms);
  lines.add("fence_ms", t.fence_ms).add("dead_ms", t.dead_ms).add("join_ms", t.join_ms).add("rho_thousandths", t.rho_thousandths);
  return geometry_text(s) + lines.add("detection_ms", t.detection_ms()).take();
}

std::string layout_text(const Geometry& g) {
  std::string out = fmt::format("{:<16} {:>6} {:>14} {:>14} {:>16}\n", "REGION", "SLOT", "FIRST BLOCK", "BLOCKS", "BYTES");
  const auto row = [&](std::string_view name, std::string_view slot, std::uint64_t first, std::uint64_t blocks) {
    fmt::format_to(std::back_inserter(out), "{:<16} {:>6} {:>14} {:>14} {:>16}\n", name, slot, first, blocks, blocks * g.block_size);
  };
  row("superblock", "-", 0, 1);
  row("leases", "-", g.lease_first, g.hosts);
  row("gates", "-", g.gate_first, std::uint64_t{g.hosts} * g.hosts);
  for (Slot slot = 0; slot < g.hosts; ++slot) {
    const std::string number = fmt::format("{}", slot);
    row("socket-table", number, g.scb_block(slot, 0), g.scb_blocks);
    row("port-file", number, g.port_block(slot, 0), g.port_blocks);
    row("rings", number, g.ring(slot, 0), std::uint64_t{g.hosts} * g.ring_blocks);
    row("cache-region", number, g.extent(slot, 0), std::uint64_t{g.extents} * g.extent_blocks);
  }
  row("superblock-copy", "-", g.superblock_copy(), 1);
  return out;
}

std::string faults_text(const Faults& faults) {
  std::string out;
  for (const Finding& f : faults.findings)
    fmt::format_to(std::back_inserter(out), "{}: block {}, {}{}: {}\n", to_string(f.severity), f.block, f.region, f.host.empty() ? "" : " of " + f.host, f.what);
  return out;
}

std::string host_text(const Group& group, const HostReport& host, const std::vector<std::string>& faults) {
  Lines lines;
  lines.add("name", host.lease.name.empty() ? "-" : host.lease.name).add("slot", host.slot).add("state", to_string(host.state));
  if (host.fault != BlockFault::kNone) return lines.add("fault", fmt::format("lease: {}; stp evict slot:{} frees it", to_string(host.fault), host.slot)).take();
  if (host.held()) {
    lines.add("beat", host.lease.beat).add("since_beat_s", host.beat_seen || host.state == HostState::kSilent ? seconds_text(host.beat_age) : "-");
    lines.add("sees", list_text(titles(group, host.sees))).add("does_not_see", list_text(titles(group, host.does_not_see)));
    lines.add("called_dead", list_text(titles(group, host.refuses)));
  }
  for (const std::string& fault : faults) lines.add("fault", fault);
  return lines.take();
}

std::string lease_text(const Group& group, const HostReport& host) {
  const Lease& l = host.lease;
  if (host.fault != BlockFault::kNone) return Lines().add("fault", to_string(host.fault)).add("block", group.superblock().geometry.lease(host.slot)).take();
  Lines lines;
  lines.add("state", to_string(l.state)).add("incarnation", l.owner.incarnation).add("nonce", fmt::format("{:016x}", l.owner.nonce)).add("beat", l.beat);
  lines.add("beat_ms", l.beat_ms).add("pid", l.pid).add("boot_id", to_string(l.boot_id)).add("device", l.device).add("inode", l.inode);
  lines.add("lowest_version", l.lowest_version).add("highest_version", l.highest_version).add("features", fmt::format("{:#x}", l.features));
  for (std::size_t slot = 0; slot < l.seen.size(); ++slot) {
    const Seen& seen = l.seen[slot];
    if (seen.incarnation == 0) continue;
    lines.add("seen", fmt::format("{} incarnation {}{}{}", titles(group, {static_cast<Slot>(slot)}).front(), seen.incarnation,
                                  (seen.flags & Seen::kAlive) != 0 ? " alive" : "", (seen.flags & Seen::kRefused) != 0 ? " refused" : ""));
  }
  return lines.take();
}

std::string local_text(const SocketRow& row) {
  return row.scb.local_port == 0 ? fmt::format("{}:*\n", row.host) : fmt::format("{}:{}\n", row.host, row.scb.local_port);
}

std::string remote_text(const SocketRow& row) {
  const Scb& s = row.scb;
  if (s.peer_slot == kNoSlot && s.peer_name.empty()) return "*:*\n";
  return fmt::format("{}:{}\n", s.peer_name.empty() ? fmt::format("slot:{}", s.peer_slot) : s.peer_name, s.peer_port);
}

std::string socket_text(const SocketRow& row) {
  const Scb& s = row.scb;
  // A host that is gone did not close its sockets.
  const bool there = row.host_state == HostState::kAlive;
  Lines lines;
  lines.add("state", there ? std::string(to_string(s.state)) : fmt::format("{} ({})", to_string(s.state), to_string(row.host_state)));
  lines.add("scb", s.index).add("initiator", s.initiator ? "yes" : "no").add("session", s.session).add("sent_bytes", s.sent).add("received_bytes", s.received);
  if (s.pid != 0) lines.add("pid", s.pid);
  return lines.add("made", time_text(s.made_ms)).take();
}

std::string port_text(const PortRow& row) { return Lines().add("state", to_string(row.state)).add("scb", row.scb).take(); }

std::string conduit_text(const Group& group, const Conduit& c) {
  const Lease& from = group.hosts[c.from].lease;
  const Lease& to = group.hosts[c.to].lease;
  const auto current = [&](const Gate& gate, const Lease& writer, const Lease& reader) { return gate.sender == writer.owner && gate.receiver == reader.owner; };
  const bool open = c.gate.fault == BlockFault::kNone && current(c.gate.gate, from, to);
  const bool answered = c.back.fault == BlockFault::kNone && current(c.back.gate, to, from);
  Lines lines;
  lines.add("from", group.names[c.from]).add("to", group.names[c.to]);
  const auto fault = [&](const char* whose, const DecodedGate& gate, Slot receiver, Slot sender) {
    if (gate.fault != BlockFault::kNone && gate.fault != BlockFault::kEmpty)
      lines.add("fault", fmt::format("{} gate: {} (block {})", whose, to_string(gate.fault), group.superblock().geometry.gate(receiver, sender)));
  };
  fault("sender's", c.gate, c.to, c.from);
  fault("receiver's", c.back, c.from, c.to);
  if (!open) return lines.add("state", c.gate.fault == BlockFault::kNone ? "of an earlier life" : c.gate.fault == BlockFault::kEmpty ? "never used" : "unreadable").take();
  const Gate& gate = c.gate.gate;
  const std::uint64_t acked = answered ? c.back.gate.ack : 0;
  lines.add("state", gate.refused_incarnation == to.owner.incarnation && gate.refused_nonce == to.owner.nonce ? "refused" : "open");
  lines.add("sent", gate.head).add("acked", acked).add("lag", gate.head > acked ? gate.head - acked : 0);
  lines.add("ring", group.superblock().geometry.ring_blocks).add("gate_writes", gate.sequence).add("polling", (gate.flags & Gate::kPolling) != 0 ? "yes" : "no");
  if (agent_serves(group, c.from)) {
    const EngineCounters& e = group.agent->stats.engine;
    lines.add("host_packets_sent", e.packets_sent).add("host_packets_rewritten", e.packets_rewritten).add("host_extents_sent", e.extents_sent);
    lines.add("host_extents_renewed", e.extents_renewed);
  }
  if (agent_serves(group, c.to)) {
    const EngineCounters& e = group.agent->stats.engine;
    lines.add("host_packets_taken", e.packets_taken).add("host_extents_taken", e.extents_taken).add("host_damaged_packets", e.damaged_packets);
  }
  return lines.take();
}

}  // namespace stp::view
