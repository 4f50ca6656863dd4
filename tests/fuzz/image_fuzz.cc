// A whole storage, some blocks of which a hostile host wrote: checked, listed, evicted from, and shown as a tree of files. The blocks that the
// input bends are sealed again, so that it is their meaning that has to be seen through.
#include <fmt/format.h>

#include <map>

#include "fuse/tree.h"
#include "stp/checker.h"
#include "stp/evict.h"
#include "stp/inspect.h"
#include "stp/packet.h"
#include "tests/fuse/memory_source.h"
#include "tests/fuzz/sealing.h"

namespace stp::fuzz {
namespace {

using stp::testing::ManualClock;
using stp::testing::MemoryStorage;
using Storage = std::shared_ptr<MemoryStorage>;

// alpha lives, beta died, gamma left; slot 3 was never used. alpha and beta talk.
Storage make_storage() {
  auto storage = std::make_shared<MemoryStorage>();
  const Geometry& g = storage->geometry();
  const Uuid uuid = golden::uuid();
  storage->put_lease(storage->host(0, "alpha", 7, true));
  storage->put_lease(storage->host(1, "beta", 9, true));
  storage->put_lease(MemoryStorage::free_lease(2, 4, "gamma"));
  storage->fake_locks.held.insert(0);
  for (Slot slot : {0u, 1u}) {
    view::test::put_sockets(*storage, slot,
                            {{.state = ScbState::kListening, .local_port = 80, .index = 0, .pid = 5, .peer_name = {}},
                             {.state = ScbState::kEstablished, .initiator = slot == 0, .local_port = 40000, .peer_port = 80, .index = 33, .pid = 5, .session = 1, .sent = 10, .received = 20,
                              .peer_slot = 1 - slot, .peer_incarnation = 9, .made_ms = 1, .peer_name = slot == 0 ? "beta" : "alpha"}});
    const Identity me = storage->lease(slot).owner, other = storage->lease(1 - slot).owner;
    // Those that have a port; thousands of entries that are free would be most of the work with each input.
    for (const auto& [port, entry] : {std::pair(80u, PortEntry{PortState::kListening, 0}), std::pair(40000u, PortEntry{PortState::kBound, 33})}) {
      PortBlock ports{.owner = me, .sequence = 1, .index = port / g.ports_a_block(), .ports = std::vector<PortEntry>(g.ports_a_block())};
      ports.ports[port % g.ports_a_block()] = entry;
      storage->put_ports(ports);
    }
    encode_gate(storage->block(g.gate(1 - slot, slot)), Gate{.sender = me, .receiver = other, .sequence = 3, .head = 2, .ack = 2, .ack_seen = 2}, uuid, g);
    for (std::uint64_t sequence = 1; sequence <= 2; ++sequence) {
      PacketBuilder packet(storage->block(g.packet(slot, 1 - slot, sequence)));
      packet.append({1, slot == 0}, DataMessage{.offset = 0, .bytes = std::as_bytes(std::span(golden::kGreeting))});
      packet.seal(me, other, sequence, 0, uuid, g);
    }
  }
  return storage;
}

// A block that somebody reads, what it is, and whose.
struct Place {
  std::uint64_t block = 0;
  std::uint64_t magic = 0;
  Slot writer = kNoSlot;
};

Place some_place(Input& input, const Geometry& g) {
  const Slot writer = static_cast<Slot>(input.below(g.hosts));
  const Slot other = static_cast<Slot>(input.below(g.hosts));
  switch (input.below(8)) {
    case 0: return {input.flag() ? 0 : g.superblock_copy(), kSuperblockMagic, kNoSlot};
    case 1: return {g.gate(other, writer), kGateMagic, writer};
    case 2: return {g.scb_block(writer, static_cast<std::uint32_t>(input.below(g.scb_blocks))), kScbMagic, writer};
    case 3: return {g.port_block(writer, static_cast<std::uint32_t>(input.below(g.port_blocks))), kPortMagic, writer};
    case 4: return {g.ring(writer, other) + input.below(g.ring_blocks), kPacketMagic, writer};
    default: return {g.lease(writer), kLeaseMagic, writer};
  }
}

// Calls visit(path, node) for everything in the tree.
template <class Visit>
void walk(const view::NodePtr& node, const std::string& path, unsigned depth, const Visit& visit) {
  require(depth < 8, "the tree is no deeper than it is meant to be");
  visit(path, *node);
  if (node->kind() != view::Node::Kind::kDirectory) return;
  auto& directory = static_cast<view::Directory&>(*node);
  const auto entries = directory.list(view::Patience::kMayWait);
  if (!entries) return;
  std::map<std::string, int> names;
  for (const auto& entry : *entries) {
    require(!entry.name.empty() && entry.name != "." && entry.name != ".." && entry.name.find_first_of(std::string_view("/\0\n", 3)) == std::string::npos,
            "a name in the tree is one of a file");
    require(names[entry.name]++ == 0, "a name is in a directory once");
    require(directory.lookup(entry.name, view::Patience::kMayWait).has_value(), "what is listed is found");
    walk(entry.node, path + "/" + entry.name, depth + 1, visit);
  }
}

void look_at_tree(const Storage& storage, ManualClock& clock) {
  class Nothing final : public view::StreamNode {
    void open(std::shared_ptr<view::OpenRequest> request, int) override { request->error(ENOSYS); }
  };
  const auto seen = std::make_shared<view::View>(std::make_unique<view::test::MemorySource>(storage),
                                                 view::View::Settings{.fresh = kSecond, .faults_fresh = kSecond, .clock = clock.clock()});
  const auto root = view::make_tree(seen, {.net = nullptr, .port_data = [](const std::string&, std::uint16_t) -> view::NodePtr { return std::make_shared<Nothing>(); },
                                           .events = nullptr});
  // A host that lies can fill its tables: not all of the same is to be read.
  std::size_t texts = 0;
  walk(root, "", 0, [&](const std::string&, view::Node& node) {
    if (node.kind() != view::Node::Kind::kText || ++texts > 200) return;
    const auto text = static_cast<view::TextFile&>(node).text(view::Patience::kMayWait);
    if (!text) return;
    // Foreign names among it: nothing that a terminal would act upon.
    require(std::ranges::none_of(*text, [](unsigned char c) { return (c < 0x20 && c != '\n' && c != '\t') || c == 0x7f; }), "a text is text");
  });
}

void check(MemoryStorage& storage, ManualClock& clock, bool descriptions_only) {
  std::uint64_t warnings = 0, faults = 0;
  const CheckRequest request{.descriptions_only = descriptions_only,
                             .clock = clock.clock(),
                             .report =
                                 [&](const Finding& finding) {
                                   (finding.severity == Finding::Severity::kFault ? faults : warnings)++;
                                   require(!finding.region.empty() && !finding.what.empty() && !finding.advice.empty(), "a finding says what it is and what to do");
                                   require(finding.block < storage.geometry().total_blocks, "and where");
                                 },
                             .progress = [](std::uint64_t done, std::uint64_t total) { require(done <= total, "no more than all is done"); }};
  const auto sum = check_storage(storage, request);
  require(sum && sum->warnings == warnings && sum->faults == faults, "what is found is counted");
}

void list(MemoryStorage& storage, ManualClock& clock) {
  const auto hosts = observe_hosts(storage, clock.clock());
  require(hosts && hosts->size() == storage.geometry().hosts, "a report for each slot");
  for (const HostReport& host : *hosts) require(!host.title().empty() && !to_string(host.state).empty(), "a host has a title");
  const auto sockets = list_sockets(storage, *hosts, {.host = {}, .dead_too = true});
  require(sockets && sockets->rows.size() <= std::size_t{storage.geometry().hosts} * storage.geometry().sockets, "no more sockets than there can be");
  const auto ports = list_ports(storage, *hosts, {.host = {}, .dead_too = true});
  require(ports && ports->rows.size() <= std::size_t{storage.geometry().hosts} * kPorts, "no more ports than there can be");
}

void evict(MemoryStorage& storage, ManualClock& clock, Slot slot) {
  struct Fixed final : Random {
    std::uint64_t next() override { return ++value; }
    std::uint64_t value = 0;
  } random;
  const auto before = decode_lease(storage.block(storage.geometry().lease(slot)), golden::uuid(), storage.geometry(), slot);
  const auto evicted = evict_host(storage, random, {.host = fmt::format("slot:{}", slot), .clock = clock.clock(), .progress = {}});
  if (!evicted) return require(!evicted.error().text.empty(), "who does not evict says why");
  require(!storage.fake_locks.held.contains(slot), "who lives is not evicted");
  const Lease freed = storage.lease(slot);
  require(freed.state == LeaseState::kFree && freed.owner.incarnation == evicted->incarnation, "the slot is free");
  require(before.fault != BlockFault::kNone || freed.owner.incarnation > before.lease.owner.incarnation, "and its incarnations only grow");
}

}  // namespace

void run(ConstBytes bytes) {
  static const Storage storage = make_storage();
  static bool first = true;
  const Geometry& g = storage->geometry();
  if (first) {
    first = false;
    ManualClock clock;
    const auto sum = check_storage(*storage, {.clock = clock.clock(), .report = {}, .progress = {}});
    require(sum && sum->faults == 0 && sum->warnings == 0, "the storage is a good one before it is bent");
  }
  Input input(bytes);
  std::map<std::uint64_t, std::vector<std::byte>> before;
  const auto keep = [&](std::uint64_t place) {
    const Bytes block = storage->block(place);
    before.try_emplace(place, block.begin(), block.end());
  };
  for (std::uint64_t n = 1 + input.below(6); n > 0 && !input.empty(); --n) {
    const Place place = some_place(input, g);
    const std::uint8_t how = input.u8();
    keep(place.block);
    const Bytes block = storage->block(place.block);
    // What was there, or a block of another place.
    if ((how & 7) == 7) std::ranges::copy(storage->block(some_place(input, g).block), block.begin());
    input.patch(block);
    if ((how & 24) == 8) seal_again(block);
    if ((how & 16) != 0) seal_again(block, place.magic, golden::uuid(), place.block, place.writer);
  }
  ManualClock clock;
  storage->writes = 0;
  const std::uint64_t what = input.below(6);
  if (what == 5) {
    const Slot slot = static_cast<Slot>(input.below(g.hosts));
    keep(g.lease(slot));
    evict(*storage, clock, slot);
  } else {
    if (what < 2) check(*storage, clock, what == 1);
    if (what == 2) list(*storage, clock);
    if (what > 2) look_at_tree(storage, clock);
    require(storage->writes == 0, "who looks writes nothing");
  }
  for (const auto& [place, content] : before) std::ranges::copy(content, storage->block(place).begin());
}

}  // namespace stp::fuzz
