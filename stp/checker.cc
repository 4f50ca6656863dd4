#include "stp/checker.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <optional>

#include "stp/gate.h"
#include "stp/medium.h"
#include "stp/packet.h"
#include "stp/port_block.h"
#include "stp/scb.h"

namespace stp {
namespace {

// What the decoder of one kind of block makes of it.
struct Judged {
  BlockFault fault = BlockFault::kNone;
  Identity writer;
  std::string detail;  // a block that checks, with content that can not be
};

// A run of blocks of one kind and one writer.
struct Region {
  const char* name;
  std::uint64_t first;
  std::uint64_t count;
  Slot slot;                                                       // writer; kNoSlot: told by writer_of
  std::function<Judged(ConstBytes block, std::uint64_t index)> judge;
  std::string advice;
};

// Each byte is the next one, and the first is 0.
bool all_zero(ConstBytes block) { return block.front() == std::byte{0} && std::memcmp(block.data(), block.data() + 1, block.size() - 1) == 0; }

class Checker {
 public:
  Checker(BlockSource& storage, const CheckRequest& request) : storage_(storage), request_(request), s_(storage.superblock()), g_(s_.geometry) {}
  Result<CheckSummary> run();

 private:
  void check_superblocks();
  void check_leases();
  void check_names();
  void check_gates();
  void check_area(Slot slot);
  void check_region(const Region& region);
  void check_block(const Region& region, std::uint64_t index, Bytes block);
  void classify(const Region& region, std::uint64_t place, const Judged& judged, ConstBytes block);
  void check_life(const Region& region, std::uint64_t place, const Judged& judged);
  void check_tables(Slot slot);
  Judged judge_scbs(Slot slot, ConstBytes block, std::uint64_t index);
  Judged judge_ports(Slot slot, ConstBytes block, std::uint64_t index);
  Judged judge_packet(Slot sender, Slot receiver, ConstBytes block, std::uint64_t index) const;

  void find(Finding finding) {
    (finding.severity == Finding::Severity::kFault ? sum_.faults : sum_.warnings)++;
    if (request_.report) request_.report(finding);
  }
  const HostReport& host(Slot slot) const { return hosts_[slot]; }
  bool concerns(Slot slot) const { return !request_.descriptions_only || host(slot).held(); }
  bool alive(Slot slot) const { return host(slot).state == HostState::kAlive; }
  std::string fix_table(Slot slot) const {
    return alive(slot) ? fmt::format("restart the programs of {}: they write it anew", host(slot).title())
                       : std::string("it is written anew when a host joins in this slot");
  }

  BlockSource& storage_;
  const CheckRequest& request_;
  const Superblock& s_;
  const Geometry& g_;
  CheckSummary sum_;
  std::vector<HostReport> hosts_;
  std::map<std::uint32_t, Scb> scbs_;               // of the slot being checked, under its lease's incarnation
  std::map<std::uint16_t, PortEntry> ports_;        // the same
  std::uint64_t total_ = 0;
};

void Checker::check_superblocks() {
  const AlignedBuffer buffer(g_.block_size);
  std::optional<Superblock> good[2];
  const std::uint64_t places[] = {0, g_.superblock_copy()};
  for (int i = 0; i < 2; ++i) {
    ++sum_.blocks;
    std::string fault;
    const auto read = storage_.read(places[i], buffer.span().first(g_.block_size));
    if (!read) fault = read.error().text;
    if (read) {
      auto decoded = decode_superblock(buffer.span());
      const bool here = decoded && open_any_block(buffer.span(), kSuperblockMagic).header.place == places[i];
      if (here) good[i] = *decoded;
      else fault = decoded ? std::string(to_string(BlockFault::kPlace)) : decoded.error().text;
      if (fault.starts_with("superblock: ")) fault.erase(0, 12);
    }
    if (!good[i])
      find({.block = places[i], .region = "superblock", .host = {}, .what = fmt::format("{}{}", fault, i == 1 ? " (the copy in the last block)" : ""),
            .advice = fmt::format("stp repair {} restores it from the other one", storage_.path())});
  }
  if (good[0] && good[1] && *good[0] != *good[1])
    find({.block = places[1], .region = "superblock", .host = {}, .what = fmt::format("the copy is good but says something else (UUID {}, the first one {})",
                                                                         to_string(good[1]->uuid), to_string(good[0]->uuid)),
          .advice = fmt::format("stp repair {} --from first, or --from copy", storage_.path())});
}

void Checker::check_leases() {
  const AlignedBuffer buffer(g_.block_size);
  for (const HostReport& h : hosts_) {
    ++sum_.blocks;
    const std::uint64_t place = g_.lease(h.slot);
    if (h.fault != BlockFault::kNone) {
      find({.block = place, .region = "lease", .slot = h.slot, .host = h.title(), .what = std::string(to_string(h.fault)),
            .advice = fmt::format("stop the host that used the slot, if there was one, then: stp evict slot:{}", h.slot)});
      continue;
    }
    if (!h.held()) continue;
    // The list of what the host sees has a checksum of its own, and may tear off.
    bool whole = false;
    for (int reading = 0; reading < kReadings && !whole; ++reading) {
      if (reading > 0) request_.clock.sleep(kBetweenReadings);
      if (!storage_.read(place, buffer.span().first(g_.block_size))) break;
      const DecodedLease lease = decode_lease(buffer.span().first(g_.block_size), s_.uuid, g_, h.slot);
      whole = lease.fault == BlockFault::kNone && (!lease.lease.seen.empty() || load_le<std::uint32_t>(buffer.data() + 516) == 0);
    }
    if (!whole)
      find({.severity = alive(h.slot) ? Finding::Severity::kFault : Finding::Severity::kWarning, .block = place, .region = "lease", .slot = h.slot,
            .host = h.title(), .what = "the list of what this host sees does not match its checksum (damaged or torn)",
            .advice = "it is written anew with the host's next beat"});
  }
}

// One name, one slot.
void Checker::check_names() {
  for (const HostReport& a : hosts_)
    for (const HostReport& b : hosts_) {
      if (b.slot <= a.slot || a.fault != BlockFault::kNone || b.fault != BlockFault::kNone || a.lease.name.empty() || a.lease.name != b.lease.name)
        continue;
      const bool both_own = a.lease.state == LeaseState::kOwned && b.lease.state == LeaseState::kOwned;
      find({.severity = both_own ? Finding::Severity::kFault : Finding::Severity::kWarning, .block = g_.lease(b.slot), .region = "lease", .slot = b.slot,
            .host = b.title(), .what = fmt::format("slots {} and {} both carry the name \"{}\" ({} and {})", a.slot, b.slot, a.lease.name,
                                                   to_string(a.state), to_string(b.state)),
            .advice = fmt::format("find out which one is not in use, then: stp evict slot:{} or slot:{}", a.slot, b.slot)});
    }
}

void Checker::check_gates() {
  for (Slot receiver = 0; receiver < g_.hosts; ++receiver)
    for (Slot sender = 0; sender < g_.hosts; ++sender) {
      if (!concerns(receiver) || !concerns(sender)) continue;
      const Region gate{.name = "gate", .first = g_.gate(receiver, sender), .count = 1, .slot = sender,
                        .judge =
                            [&, receiver, sender](ConstBytes block, std::uint64_t) {
                              const DecodedGate d = decode_gate(block, s_.uuid, g_, receiver, sender);
                              return Judged{.fault = d.fault, .writer = d.gate.sender, .detail = {}};
                            },
                        .advice = fmt::format("{} (it is the gate from {} to {})", fix_table(sender), host(sender).title(), host(receiver).title())};
      check_region(gate);
    }
}

Judged Checker::judge_scbs(Slot slot, ConstBytes block, std::uint64_t index) {
  const DecodedScbBlock d = decode_scb_block(block, s_.uuid, g_, slot, static_cast<std::uint32_t>(index));
  if (d.fault == BlockFault::kNone && d.block.owner == host(slot).lease.owner)
    for (const Scb& scb : d.block.scbs)
      if (scb.state != ScbState::kFree) scbs_[scb.index] = scb;
  return {.fault = d.fault, .writer = d.block.owner, .detail = {}};
}

Judged Checker::judge_ports(Slot slot, ConstBytes block, std::uint64_t index) {
  const DecodedPortBlock d = decode_port_block(block, s_.uuid, g_, slot, static_cast<std::uint32_t>(index));
  if (d.fault == BlockFault::kNone && d.block.owner == host(slot).lease.owner)
    for (std::size_t i = 0; i < d.block.ports.size(); ++i)
      if (d.block.ports[i].state != PortState::kFree) ports_[static_cast<std::uint16_t>(index * g_.ports_a_block() + i)] = d.block.ports[i];
  return {.fault = d.fault, .writer = d.block.owner, .detail = {}};
}

Judged Checker::judge_packet(Slot sender, Slot receiver, ConstBytes block, std::uint64_t index) const {
  const OpenedPacket packet = open_packet(block, s_.uuid, g_, sender, receiver, index + 1);
  Judged judged{.fault = packet.fault, .writer = packet.writer, .detail = {}};
  if (packet.fault != BlockFault::kNone) return judged;
  if (packet.sequence == 0 || (packet.sequence - 1) % g_.ring_blocks != index)
    judged.detail = fmt::format("packet {} does not belong in place {} of the ring", packet.sequence, index);
  MessageReader reader(packet);
  while (reader.next()) {
  }
  if (reader.malformed()) judged.detail = fmt::format("packet {} holds a message with an impossible length", packet.sequence);
  return judged;
}

void Checker::check_area(Slot slot) {
  scbs_.clear();
  ports_.clear();
  const std::string advice = fix_table(slot);
  const Region table{.name = "socket table", .first = g_.scb_block(slot, 0), .count = g_.scb_blocks, .slot = slot,
                     .judge = [&, slot](ConstBytes b, std::uint64_t i) { return judge_scbs(slot, b, i); }, .advice = advice};
  check_region(table);
  const Region ports{.name = "port file", .first = g_.port_block(slot, 0), .count = g_.port_blocks, .slot = slot,
                     .judge = [&, slot](ConstBytes b, std::uint64_t i) { return judge_ports(slot, b, i); }, .advice = advice};
  check_region(ports);
  check_tables(slot);
  if (request_.descriptions_only) return;
  for (Slot receiver = 0; receiver < g_.hosts; ++receiver) {
    const Region ring{.name = "ring", .first = g_.ring(slot, receiver), .count = g_.ring_blocks, .slot = slot,
                      .judge = [&, slot, receiver](ConstBytes b, std::uint64_t i) { return judge_packet(slot, receiver, b, i); },
                      .advice = fmt::format("{} (it is the ring from {} to {})", advice, host(slot).title(), host(receiver).title())};
    check_region(ring);
  }
}

// A living host writes its tables behind, one block after the other: only what a dead one left can be held against it.
void Checker::check_tables(Slot slot) {
  const HostReport& h = host(slot);
  if (h.state != HostState::kDead && h.state != HostState::kSilent) return;
  for (const auto& [port, entry] : ports_) {
    const auto scb = scbs_.find(entry.scb);
    const bool agrees = scb != scbs_.end() && (entry.state != PortState::kListening || (scb->second.state == ScbState::kListening && scb->second.local_port == port));
    if (agrees) continue;
    find({.severity = Finding::Severity::kWarning, .block = g_.port_block(slot, port / g_.ports_a_block()), .region = "port file", .slot = slot, .host = h.title(),
          .what = fmt::format("port {} is {} by SCB {}, which the socket table does not confirm", port,
                              entry.state == PortState::kListening ? "listened on" : "bound", entry.scb),
          .advice = "the host died while it was writing its tables; they are written anew when it comes back"});
  }
}

void Checker::check_region(const Region& region) {
  const std::uint64_t piece = kMaxRequestBytes / g_.block_size;
  const AlignedBuffer buffer(kMaxRequestBytes);
  for (std::uint64_t at = 0; at < region.count; at += piece) {
    const std::uint64_t n = std::min(piece, region.count - at);
    const Bytes bytes = buffer.span().first(static_cast<std::size_t>(n * g_.block_size));
    const bool read = storage_.read(region.first + at, bytes).has_value();
    for (std::uint64_t i = 0; i < n; ++i) {
      const Bytes block = bytes.subspan(static_cast<std::size_t>(i * g_.block_size), g_.block_size);
      ++sum_.blocks;
      // A piece that can not be read holds one bad block, or more: each alone then.
      const auto alone = read ? Result<void>{} : storage_.read(region.first + at + i, block);
      if (alone)
        check_block(region, at + i, block);
      else
        find({.block = region.first + at + i, .region = region.name, .slot = region.slot, .host = host(region.slot).title(), .what = alone.error().text,
              .advice = "the disk or the path to it fails: look at the kernel's log"});
    }
    if (request_.progress) request_.progress(sum_.blocks * g_.block_size, total_);
  }
}

void Checker::check_block(const Region& region, std::uint64_t index, Bytes block) {
  const std::uint64_t place = region.first + index;
  Judged judged;
  for (int reading = 0; reading < kReadings; ++reading) {
    if (reading > 0) {
      // Torn for good needs no patience where nobody writes.
      if (host(region.slot).state != HostState::kAlive && host(region.slot).state != HostState::kJoining) break;
      request_.clock.sleep(kBetweenReadings);
      if (!storage_.read(place, block)) break;
    }
    if (all_zero(block)) {
      ++sum_.empty;
      return;
    }
    judged = region.judge(block, index);
    if (judged.fault == BlockFault::kNone && judged.detail.empty()) {
      check_life(region, place, judged);
      return;
    }
  }
  classify(region, place, judged, block);
}

// A good block: of which life of its host?
void Checker::check_life(const Region& region, std::uint64_t place, const Judged& judged) {
  const auto newer = [&] {
    const HostReport& h = host(region.slot);
    return h.fault == BlockFault::kNone && judged.writer.incarnation >= h.lease.owner.incarnation && judged.writer != h.lease.owner;
  };
  if (newer()) {
    // The host may have come back since the leases were read.
    if (auto leases = read_leases(storage_, request_.clock)) {
      hosts_[region.slot].lease = (*leases)[region.slot].lease;
      hosts_[region.slot].fault = (*leases)[region.slot].fault;
    }
  }
  const HostReport& h = host(region.slot);
  if (newer()) {
    find({.block = place, .region = region.name, .slot = region.slot, .host = h.title(),
          .what = fmt::format("written by incarnation {} (nonce {:016x}), and the lease says {} (nonce {:016x}): a copied or rolled-back host, or a lease "
                              "that was lost", judged.writer.incarnation, judged.writer.nonce, h.lease.owner.incarnation, h.lease.owner.nonce),
          .advice = region.advice});
    return;
  }
  if (h.fault == BlockFault::kNone && judged.writer != h.lease.owner) ++sum_.stale;
}

void Checker::classify(const Region& region, std::uint64_t place, const Judged& judged, ConstBytes block) {
  const HostReport& h = host(region.slot);
  Finding f{.block = place, .region = region.name, .slot = region.slot, .host = h.title(),
            .what = judged.detail.empty() ? std::string(to_string(judged.fault)) : judged.detail, .advice = region.advice};
  if (judged.fault == BlockFault::kEmpty) f.what = "its beginning was never written, and what follows was (torn)";
  const bool torn = judged.fault == BlockFault::kChecksum || judged.fault == BlockFault::kEmpty;
  const std::uint64_t claimed = load_le<std::uint64_t>(block.data() + 48);
  const bool earlier = h.fault == BlockFault::kNone && claimed < h.lease.owner.incarnation;
  if (torn && (!alive(region.slot) || earlier)) {
    f.severity = Finding::Severity::kWarning;
    f.what += ": torn by a crash, most likely";
  }
  find(f);
}

Result<CheckSummary> Checker::run() {
  total_ = (2 + g_.hosts + static_cast<std::uint64_t>(g_.hosts) * g_.hosts +
            g_.hosts * (g_.scb_blocks + g_.port_blocks + static_cast<std::uint64_t>(g_.hosts) * g_.ring_blocks)) *
           g_.block_size;
  auto hosts = observe_hosts(storage_, request_.clock);
  if (!hosts) return std::unexpected(hosts.error());
  hosts_ = std::move(*hosts);
  check_superblocks();
  check_leases();
  check_names();
  check_gates();
  for (Slot slot = 0; slot < g_.hosts; ++slot)
    if (concerns(slot)) check_area(slot);
  return sum_;
}

}  // namespace

std::string_view to_string(Finding::Severity severity) { return severity == Finding::Severity::kFault ? "fault" : "warning"; }

Result<CheckSummary> check_storage(BlockSource& storage, const CheckRequest& request) { return Checker(storage, request).run(); }

}  // namespace stp
