// The tree and its texts over a storage in memory: no mount, no libfuse.
#include "fuse/tree.h"

#include <fmt/format.h>

#include <sys/wait.h>
#include <unistd.h>

#include <map>
#include <thread>

#include "fuse/inode_table.h"
#include "fuse/options.h"
#include "fuse/workers.h"
#include "stp/system.h"
#include "tests/fuse/hanging_source.h"
#include "tests/fuse/memory_source.h"
#include "tests/unit/scratch_storage.h"

namespace stp::view {
namespace {

using test::MemorySource;

struct Tree : ::testing::Test {
  std::shared_ptr<stp::testing::MemoryStorage> storage = std::make_shared<stp::testing::MemoryStorage>();
  stp::testing::ManualClock clock;
  MemorySource* source = nullptr;
  std::shared_ptr<View> view;
  NodePtr root;
  const Geometry& g = storage->geometry();

  Tree() {
    auto made = std::make_unique<MemorySource>(storage);
    source = made.get();
    view = std::make_shared<View>(std::move(made), View::Settings{.fresh = 0, .faults_fresh = 0, .clock = clock.clock()});
    root = make_tree(view, {.net = nullptr,
                            .port_data = [](const std::string&, std::uint16_t) -> NodePtr { return std::make_shared<Nothing>(); },
                            .events = nullptr});
  }
  class Nothing final : public StreamNode {
    void open(std::shared_ptr<OpenRequest> request, int) override { request->error(ENOSYS); }
  };

  void join(Slot slot, const char* name, bool alive = true) {
    storage->put_lease(storage->host(slot, name, 7, true));
    if (alive)
      storage->fake_locks.held.insert(slot);
    else
      storage->fake_locks.held.erase(slot);
  }
  Identity identity(Slot slot) { return storage->lease(slot).owner; }
  void put_sockets(Slot slot, const std::vector<Scb>& scbs) { test::put_sockets(*storage, slot, scbs); }

  // The node at a path, or the error; everything may wait.
  Result<NodePtr> at(std::string_view path) {
    NodePtr node = root;
    while (!path.empty()) {
      const std::size_t slash = path.find('/');
      const auto found = static_cast<Directory&>(*node).lookup(path.substr(0, slash), Patience::kMayWait);
      if (!found) return found;
      node = *found;
      path.remove_prefix(slash == std::string_view::npos ? path.size() : slash + 1);
    }
    return node;
  }
  std::string read(std::string_view path) {
    const auto node = at(path);
    if (!node) return fmt::format("error {}", node.error().code);
    const auto text = static_cast<TextFile&>(**node).text(Patience::kMayWait);
    return text ? *text : fmt::format("error {}", text.error().code);
  }
  std::vector<std::string> list(std::string_view path) {
    const auto node = at(path);
    if (!node) return {fmt::format("error {}", node.error().code)};
    const auto entries = static_cast<Directory&>(**node).list(Patience::kMayWait);
    if (!entries) return {fmt::format("error {}", entries.error().code)};
    std::vector<std::string> names;
    for (const auto& entry : *entries) names.push_back(entry.name);
    return names;
  }
  bool has_line(std::string_view path, std::string_view line) { return ("\n" + read(path)).find(fmt::format("\n{}\n", line)) != std::string::npos; }
  // Reads everything there is. False: something that was listed could not be read.
  bool walk(const NodePtr& node) {
    if (node->kind() == Node::Kind::kText) return static_cast<TextFile&>(*node).text(Patience::kMayWait).has_value();
    if (node->kind() == Node::Kind::kStream) return true;
    const auto entries = static_cast<Directory&>(*node).list(Patience::kMayWait);
    if (!entries) return false;
    for (const auto& entry : *entries) {
      if (!walk(entry.node)) return false;
      const auto looked_up = static_cast<Directory&>(*node).lookup(entry.name, Patience::kMayWait);
      if (!looked_up || (*looked_up)->kind() != entry.node->kind()) return false;
    }
    return true;
  }
};

TEST_F(Tree, AnEmptyGroupHasItsNames) {
  EXPECT_EQ(list(""), (std::vector<std::string>{"ctl", "status", "status.json", "hosts", "conduits", "storage"}));
  EXPECT_EQ(list("hosts"), std::vector<std::string>{});
  EXPECT_EQ(list("storage"), (std::vector<std::string>{"superblock", "layout", "faults"}));
  EXPECT_TRUE(has_line("ctl", "stg golden"));
  EXPECT_TRUE(has_line("status", "alive 0"));
  EXPECT_EQ(read("storage/faults"), "");
  EXPECT_EQ(read("nothing"), "error 2");
  EXPECT_EQ(read("hosts/alpha/status"), "error 2");
}

TEST_F(Tree, ShowsHostsInAllStates) {
  join(0, "alpha");
  join(1, "beta", false);
  storage->put_lease(stp::testing::MemoryStorage::free_lease(2, 5, "gamma"));
  storage->block(g.lease(3))[200] ^= std::byte{1};
  EXPECT_EQ(list("hosts"), (std::vector<std::string>{"alpha", "beta", "gamma", "slot:3"}));
  EXPECT_TRUE(has_line("hosts/alpha/status", "state alive"));
  EXPECT_TRUE(has_line("hosts/beta/status", "state dead"));
  EXPECT_TRUE(has_line("hosts/gamma/status", "state left"));
  EXPECT_TRUE(has_line("hosts/slot:3/status", "state unreadable"));
  EXPECT_NE(read("hosts/slot:3/status").find("fault lease: "), std::string::npos);
  EXPECT_EQ(read("hosts/alpha/incarnation"), "7\n");
  EXPECT_EQ(read("hosts/slot:3/incarnation"), "-\n");
  EXPECT_TRUE(has_line("hosts/alpha/lease", "state OWNED"));
  EXPECT_TRUE(has_line("status", "health 1 unreadable lease, 1 dead, alpha does not see everybody") || has_line("status", "health 1 unreadable lease, 1 dead"))
      << read("status");
  EXPECT_TRUE(walk(root));
}

TEST_F(Tree, OneNameInTwoSlotsIsTwoDirectories) {
  join(0, "alpha");
  join(1, "alpha", false);
  EXPECT_EQ(list("hosts"), (std::vector<std::string>{"alpha", "slot:1"}));
  EXPECT_TRUE(has_line("hosts/alpha/status", "state alive"));
  EXPECT_TRUE(has_line("hosts/slot:1/status", "state dead"));
}

TEST_F(Tree, ShowsSocketsAndPorts) {
  join(0, "alpha");
  put_sockets(0, {{.state = ScbState::kListening, .local_port = 80, .index = 3, .peer_name = {}},
                  {.state = ScbState::kEstablished, .initiator = true, .local_port = 5000, .peer_port = 22, .index = 40, .sent = 12, .peer_slot = 2, .peer_name = "gamma"}});
  PortBlock ports{.owner = identity(0), .sequence = 1, .index = 0, .ports = std::vector<PortEntry>(g.ports_a_block())};
  ports.ports[80] = {.state = PortState::kListening, .scb = 3};
  storage->put_ports(ports);
  EXPECT_EQ(list("hosts/alpha/sockets"), (std::vector<std::string>{"3", "40"}));
  EXPECT_EQ(list("hosts/alpha/sockets/40"), (std::vector<std::string>{"status", "local", "remote"}));
  EXPECT_TRUE(has_line("hosts/alpha/sockets/3/status", "state LISTEN"));
  EXPECT_EQ(read("hosts/alpha/sockets/3/local"), "alpha:80\n");
  EXPECT_EQ(read("hosts/alpha/sockets/3/remote"), "*:*\n");
  EXPECT_EQ(read("hosts/alpha/sockets/40/remote"), "gamma:22\n");
  EXPECT_TRUE(has_line("hosts/alpha/sockets/40/status", "sent_bytes 12"));
  for (const char* name : {"03", "4", "x", "-3", "+3", "3 ", "99999999999"}) EXPECT_EQ(read(fmt::format("hosts/alpha/sockets/{}", name)), "error 2") << name;
  EXPECT_EQ(list("hosts/alpha/ports"), std::vector<std::string>{"80"});
  EXPECT_TRUE(has_line("hosts/alpha/ports/80/status", "scb 3"));
  EXPECT_EQ(list("hosts/alpha/ports/80"), (std::vector<std::string>{"status", "service", "data"}));
  EXPECT_TRUE(walk(root));
  // Nobody listens: who walks over the tree is not to be refused.
  ports.ports[80].state = PortState::kBound;
  storage->put_ports(ports);
  EXPECT_EQ(list("hosts/alpha/ports/80"), (std::vector<std::string>{"status", "service"}));
  EXPECT_FALSE(at("hosts/alpha/ports/80/data"));
  // One that is closed while its directory is known.
  const NodePtr file = *at("hosts/alpha/sockets/3/status");
  put_sockets(0, {});
  EXPECT_EQ(static_cast<TextFile&>(*file).text(Patience::kMayWait).error().code, ENOENT);
  EXPECT_EQ(list("hosts/alpha/sockets"), std::vector<std::string>{});
}

TEST_F(Tree, ADeadHostsSocketsAreShownAsSuch) {
  join(0, "alpha", false);
  put_sockets(0, {{.state = ScbState::kEstablished, .index = 3, .peer_name = {}}});
  EXPECT_TRUE(has_line("hosts/alpha/sockets/3/status", "state ESTAB (dead)"));
}

TEST_F(Tree, ConduitsShowWhatIsUnderway) {
  join(0, "alpha");
  join(1, "beta");
  const auto put = [&](Slot from, Slot to, std::uint64_t head, std::uint64_t ack) {
    encode_gate(storage->block(g.gate(to, from)), {.sender = identity(from), .receiver = identity(to), .sequence = 1, .head = head, .ack = ack}, golden::uuid(), g);
  };
  EXPECT_EQ(list("conduits"), (std::vector<std::string>{"alpha-beta", "beta-alpha"}));
  EXPECT_TRUE(has_line("conduits/alpha-beta/status", "state never used"));
  put(0, 1, 10, 2);
  put(1, 0, 5, 7);
  EXPECT_TRUE(has_line("conduits/alpha-beta/status", "sent 10"));
  EXPECT_TRUE(has_line("conduits/alpha-beta/status", "acked 7"));
  EXPECT_TRUE(has_line("conduits/alpha-beta/status", "lag 3"));
  EXPECT_TRUE(has_line("conduits/beta-alpha/status", "lag 3"));
  storage->block(g.gate(1, 0))[150] ^= std::byte{1};
  EXPECT_TRUE(has_line("conduits/alpha-beta/status", "state unreadable"));
  EXPECT_NE(read("conduits/alpha-beta/status").find("fault sender's gate: "), std::string::npos);
  put(0, 1, 10, 2);
  Lease again = storage->host(0, "alpha", 8, true);
  storage->put_lease(again);
  EXPECT_TRUE(has_line("conduits/alpha-beta/status", "state of an earlier life"));
}

TEST_F(Tree, DamageIsAFaultInTheFileConcerned) {
  join(0, "alpha");
  put_sockets(0, {});
  storage->block(g.scb_block(0, 1))[300] ^= std::byte{1};
  EXPECT_NE(read("hosts/alpha/status").find("fault 1 block of the socket table of alpha did not check"), std::string::npos);
  EXPECT_NE(read("storage/faults").find(fmt::format("fault: block {}, socket table of alpha: ", g.scb_block(0, 1))), std::string::npos) << read("storage/faults");
}

// Whatever lies there, everything can be walked.
TEST_F(Tree, GarbageEverywhereIsShownAndNeverCrashes) {
  std::mt19937_64 random(7);
  const auto below = [&](std::uint32_t end) { return static_cast<std::uint32_t>(random() % end); };
  for (int round = 0; round < 60; ++round) {
    join(0, "alpha");
    join(1, "beta", round % 2 == 0);
    put_sockets(0, {{.state = ScbState::kListening, .local_port = 80, .index = 3, .peer_name = {}}});
    for (int i = 0; i < 12; ++i) {
      const std::uint64_t place = i % 3 == 0   ? g.lease(below(g.hosts))
                                  : i % 3 == 1 ? g.gate(below(g.hosts), below(g.hosts))
                                               : g.scb_block(below(g.hosts), below(g.scb_blocks + g.port_blocks));
      const Bytes block = storage->block(place);
      const std::size_t many = round % 4 == 0 ? block.size() : 1 + random() % 16;
      for (std::size_t n = 0; n < many; ++n) block[random() % block.size()] = static_cast<std::byte>(random());
    }
    EXPECT_TRUE(walk(root)) << "round " << round;
  }
}

TEST_F(Tree, NothingIsReadByWhoMayNotWaitAndWhatWasReadServesAWhile) {
  join(0, "alpha");
  auto own = std::make_unique<MemorySource>(storage);
  auto kept = std::make_shared<View>(std::move(own), View::Settings{.fresh = 3600 * kSecond, .clock = clock.clock()});
  root = make_tree(kept, {});
  const int before = storage->reads;
  const NodePtr hosts = *static_cast<Directory&>(*root).lookup("hosts", Patience::kAtOnce);
  EXPECT_EQ(static_cast<Directory&>(*hosts).list(Patience::kAtOnce).error().code, EAGAIN);
  EXPECT_EQ(storage->reads, before);
  EXPECT_TRUE(static_cast<Directory&>(*hosts).list(Patience::kMayWait));
  EXPECT_TRUE(static_cast<Directory&>(*hosts).list(Patience::kAtOnce));
  const int after = storage->reads;
  EXPECT_GT(after, before);
  for (int i = 0; i < 10; ++i) EXPECT_TRUE(static_cast<Directory&>(*hosts).list(Patience::kMayWait));
  EXPECT_EQ(storage->reads, after);
  kept->forget();
  EXPECT_FALSE(static_cast<Directory&>(*hosts).list(Patience::kAtOnce));
}

TEST_F(Tree, AStorageThatCanNotBeReadAndAnAgentThatIsGoneAreErrorsAndHeal) {
  join(0, "alpha");
  storage->unreadable = g.lease(0);
  EXPECT_EQ(list("hosts"), std::vector<std::string>{"error 5"});
  storage->unreadable = UINT64_MAX;
  EXPECT_EQ(list("hosts"), std::vector<std::string>{"alpha"});
  source->gone = true;
  EXPECT_EQ(read("status"), fmt::format("error {}", ENOTCONN));
  source->gone = false;
  EXPECT_EQ(list("hosts"), std::vector<std::string>{"alpha"});
}

TEST_F(Tree, APathInAnyCodeIsShown) {
  join(0, "alpha");
  source->call("storage \"/x/bad\xff\"");
  EXPECT_NE(read("status.json").find("bad\xef\xbf\xbd"), std::string::npos) << read("status.json");
}

TEST(ALookThatHangs, IsWaitedForByNobodyElseOnceItHasTakenTooLong) {
  auto made = std::make_unique<test::HangingSource>();
  test::HangingSource& source = *made;
  constexpr Nanos kDeadline = 100 * kMillisecond;
  View view(std::move(made), View::Settings{.deadline = kDeadline});
  EXPECT_EQ(view.group(Patience::kAtOnce).error().code, EAGAIN);
  std::thread first([&] { EXPECT_EQ(view.group(Patience::kMayWait).error().code, EIO); });
  source.await_question();
  // Until then it may still answer in time.
  const auto slow = [&] { return view.group(Patience::kAtOnce).error().code == ETIMEDOUT; };
  const Nanos began = boottime_now();
  while (!slow()) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  EXPECT_GE(boottime_now() - began, kDeadline / 2);
  EXPECT_EQ(view.group(Patience::kMayWait).error().code, ETIMEDOUT);
  EXPECT_EQ(source.asked(), 1);
  source.answer();
  first.join();
  // It would only hang again.
  EXPECT_EQ(view.group(Patience::kMayWait).error().code, ETIMEDOUT);
  EXPECT_EQ(source.asked(), 1);
  // But not for ever.
  while (slow()) std::this_thread::sleep_for(std::chrono::milliseconds(10));
  EXPECT_EQ(view.group(Patience::kMayWait).error().code, EIO);
  EXPECT_EQ(source.asked(), 2);
}

// -- A storage without an agent

using stp::testing::ScratchStorage;

TEST(StorageSource, IsOpenedByWhoLooksAndAgainWhenItIsFormattedAnew) {
  const ScratchStorage scratch(MediumKind::kMapped);
  auto source = make_storage_source(scratch.path());
  ASSERT_TRUE(source) << source.error().text;
  // A daemon is the child of who opened it, and its mappings are not there.
  const pid_t child = ::fork();
  if (child == 0) {
    const auto blocks = (*source)->blocks();
    AlignedBuffer block(4096);
    const bool seen = blocks && (*blocks)->read(0, block.span()) && decode_superblock(block.span()) && (*blocks)->superblock().uuid == scratch.superblock().uuid;
    ::_exit(seen ? 0 : 1);
  }
  int status = -1;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  ASSERT_TRUE((*source)->blocks());
  Superblock other = scratch.superblock();
  other.uuid[3] ^= std::byte{1};
  stp::testing::write_superblocks(scratch.path(), other);
  const auto blocks = (*source)->blocks();
  ASSERT_TRUE(blocks) << blocks.error().text;
  EXPECT_EQ((*blocks)->superblock().uuid, other.uuid);
  const auto size = static_cast<std::uint64_t>(other.geometry.total_bytes());
  scratch.resize(0);
  EXPECT_FALSE((*source)->blocks());
  scratch.resize(size);
  stp::testing::write_superblocks(scratch.path(), other);
  EXPECT_TRUE((*source)->blocks());
  EXPECT_FALSE(make_storage_source(scratch.path() + "-none"));
}

// -- The numbers of nodes

TEST(Inodes, KeepTheirNodeAsLongAsTheKernelKnowsIt) {
  struct Leaf : TextFile {
    Result<std::string> text(Patience) override { return std::string(); }
  };
  struct Numbered : Leaf {
    explicit Numbered(std::uint64_t n) : n_(n) {}
    std::uint64_t identity() const override { return n_; }
    std::uint64_t n_;
  };
  InodeTable table(std::make_shared<Leaf>());
  const auto first = std::make_shared<Leaf>(), second = std::make_shared<Leaf>();
  const std::uint64_t number = table.number(InodeTable::kRoot, "a", *first);
  EXPECT_EQ(table.number(InodeTable::kRoot, "a", *second), number);
  EXPECT_NE(table.number(InodeTable::kRoot, "b", *second), number);
  EXPECT_NE(table.number(number, "a", *second), number);
  EXPECT_NE(table.number(InodeTable::kRoot, "a", Numbered(1)), table.number(InodeTable::kRoot, "a", Numbered(2)));
  EXPECT_EQ(table.find(number), nullptr);
  EXPECT_EQ(table.enter(number, first), first);
  EXPECT_EQ(table.enter(number, second), first) << "what is known stays";
  const auto text = std::make_shared<const std::string>("four");
  EXPECT_EQ(table.open_text(number), nullptr);
  EXPECT_EQ(table.open(number, text), text);
  EXPECT_EQ(table.open(number, std::make_shared<const std::string>("other")), text) << "one length a number";
  EXPECT_EQ(table.open_text(number), text);
  const std::uint64_t beside = table.fresh_number();
  EXPECT_NE(beside, table.fresh_number());
  EXPECT_EQ(table.enter(beside, second, number), second);
  EXPECT_EQ(table.shown(beside), number);
  EXPECT_EQ(table.shown(number), number);
  EXPECT_EQ(table.open_text(beside), nullptr);
  table.forget(beside, 1);
  table.forget(number, 1);
  EXPECT_EQ(table.find(number), first);
  table.forget(number, 5);
  EXPECT_EQ(table.find(number), nullptr);
  table.forget(number, 1);
  table.forget(InodeTable::kRoot, 100);
  EXPECT_EQ(table.size(), 1u);
}

// -- Waiting

TEST(WorkersTest, WhatHangsIsToldAndHoldsUpNobodyElsesDeadline) {
  Workers workers(50 * kMillisecond);
  ASSERT_TRUE(workers.start(2));
  std::mutex mutex;
  std::condition_variable changed;
  bool let_go = false;
  int late = 0, begun = 0, done = 0;
  for (int i = 0; i < 10; ++i)
    workers.run(
        [&] {
          std::unique_lock lock(mutex);
          ++begun;
          changed.wait(lock, [&] { return let_go; });
          ++done;
          changed.notify_all();
        },
        [&] {
          std::lock_guard lock(mutex);
          ++late;
          changed.notify_all();
        });
  std::unique_lock lock(mutex);
  EXPECT_TRUE(changed.wait_for(lock, std::chrono::seconds(10), [&] { return late == 10; }));
  EXPECT_EQ(begun, 2) << "those that came too late are not begun";
  let_go = true;
  changed.notify_all();
  EXPECT_TRUE(changed.wait_for(lock, std::chrono::seconds(10), [&] { return done == 2; }));
  lock.unlock();
  workers.run(
      [&] {
        std::lock_guard again(mutex);
        ++done;
        changed.notify_all();
      },
      [] {});
  lock.lock();
  EXPECT_TRUE(changed.wait_for(lock, std::chrono::seconds(10), [&] { return done == 3; }));
  lock.unlock();
  EXPECT_TRUE(workers.stop(10 * kSecond));
}

// -- Options

TEST(Options, AreTakenAsMountGivesThem) {
  MountOptions o;
  ASSERT_TRUE(parse_mount_options("rw,_netdev,nofail,x-systemd.automount,uid=12,gid=13,mode=0440,talk=group,deadline=7,fresh=20,agent=/a/b,allow_other,nosuid", o));
  EXPECT_EQ(o.uid, 12u);
  EXPECT_EQ(o.gid, 13u);
  EXPECT_EQ(o.mode, 0440u);
  EXPECT_EQ(o.talk_mode(), 0660u);
  EXPECT_EQ(o.deadline, 7 * kSecond);
  EXPECT_EQ(o.fresh, 20 * kMillisecond);
  EXPECT_EQ(o.agent, "/a/b");
  EXPECT_TRUE(o.allow_other);
  EXPECT_EQ(o.for_libfuse, (std::vector<std::string>{"rw", "nosuid"}));
  ASSERT_TRUE(parse_mount_options("umask=077,,noagent", o));
  EXPECT_EQ(o.mode, 0400u);
  EXPECT_TRUE(o.no_agent);
}

TEST(Options, ThatMeanNothingAreRefusedByName) {
  for (const char* bad : {"uid=x", "uid=", "uid=-1", "gid=99999999999", "mode=999", "talk=some", "deadline=0", "deadline=99999", "wrong", "wrong=1", "uid"}) {
    MountOptions o;
    const auto parsed = parse_mount_options(bad, o);
    ASSERT_FALSE(parsed) << bad;
    EXPECT_EQ(parsed.error().code, EINVAL);
    EXPECT_NE(parsed.error().text.find(std::string(bad).substr(0, 3)), std::string::npos) << parsed.error().text;
  }
}

TEST(Options, FuseConfSaysWhoMayMountForOthers) {
  EXPECT_FALSE(others_allowed(""));
  EXPECT_FALSE(others_allowed("#user_allow_other\n# user_allow_other\nmount_max = 3\n"));
  EXPECT_FALSE(others_allowed("user_allow_other_not\n"));
  EXPECT_TRUE(others_allowed("mount_max = 3\n  user_allow_other \n"));
  EXPECT_TRUE(others_allowed("user_allow_other"));
}

}  // namespace
}  // namespace stp::view
