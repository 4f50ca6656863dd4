// Two live engines, alpha and beta, and a hostile host in their group, whose blocks are the input's: exactly addressed, with good checksums,
// at first in keeping with the protocol, and then not. Programs of alpha and beta talk with it, listen for it, and close in the middle.
//
// What must hold: nobody crashes or spins; what alpha and beta say to each other arrives, unaltered and whole; whoever receives bytes of the
// hostile host has them from a conversation with it; and when it is gone, everything that had to do with it ends.
#include <map>

#include "tests/fuzz/target.h"
#include "tests/sim/hostile_writer.h"
#include "tests/unit/two_hosts.h"

namespace stp::fuzz {
namespace {

using sim::HostileWriter;
using stp::test::Host;

constexpr Slot kRogue = 2;
constexpr std::uint16_t kPort = 100;        // and three more: HostileWriter asks for them
constexpr std::uint16_t kWitnessPort = 700;
constexpr Nanos kTick = 50 * kMicrosecond;
constexpr Nanos kPatience = 60 * kSecond;   // of the group's own clock, when the rogue is gone
constexpr std::size_t kMostSteps = 3000;    // of an input

Superblock small_group() {
  Superblock s = stp::test::small_superblock();
  s.geometry.extents = 4;
  s.geometry.total_blocks = bytes_needed(s.geometry) / s.geometry.block_size;
  s.geometry = derive_geometry(s.geometry).value();
  return s;
}

// The disk, wiped where the input before wrote.
class Paper {
 public:
  explicit Paper(const Geometry& g) : disk(g) {}
  void wipe() {
    for (const std::uint64_t block : written_) std::memset(disk.at(block), 0, disk.block_size);
    written_.clear();
  }
  int note(const IoRequest& r) {
    require(r.blocks > 0 && r.block + r.blocks <= disk.bytes.size() / disk.block_size, "nobody reads or writes beside the storage");
    for (std::uint32_t i = 0; r.op == IoRequest::Op::kWrite && i < r.blocks; ++i) written_.push_back(r.block + i);
    return 0;
  }
  void put(std::uint64_t block, ConstBytes bytes) {
    std::ranges::copy(bytes, disk.at(block));
    written_.push_back(block);
  }
  test::Disk disk;

 private:
  std::vector<std::uint64_t> written_;
};

class InputDecisions final : public sim::Decisions {
 public:
  explicit InputDecisions(Input& input) : input_(input) {}
  std::uint64_t below(std::uint64_t bound) override { return input_.below(bound); }
  std::uint64_t near(std::uint64_t sensible) override { return input_.near(sensible); }

 private:
  Input& input_;
};

std::byte witness_byte(std::uint64_t at) { return static_cast<std::byte>((at * 7 + at / 251) & 0x7f); }

// The rogue says HostileWriter::kMark, but for a few bytes where a packet is bent.
bool like_witness(ConstBytes bytes) {
  std::size_t alike = 0;
  for (std::size_t i = 0; i + 1 < bytes.size(); ++i) {
    alike = ((std::to_integer<unsigned>(bytes[i + 1]) - std::to_integer<unsigned>(bytes[i])) & 0xff & ~0x80u) == 7 ? alike + 1 : 0;
    if (alike >= 24) return true;
  }
  return false;
}

// One direction of the conversation between alpha and beta.
struct Witness {
  Host* from = nullptr;
  Host* to = nullptr;
  SocketId sender = 0, receiver = 0;
  std::uint64_t wanted = 0, sent = 0, received = 0;
  bool ended = false;

  void work(Nanos now, std::vector<std::byte>& buffer) {
    if (sender == 0 || receiver == 0) return;
    while (sent < wanted) {
      const std::size_t n = std::min<std::size_t>(buffer.size(), wanted - sent);
      for (std::size_t i = 0; i < n; ++i) buffer[i] = witness_byte(sent + i);
      const auto taken = from->engine->send(sender, ConstBytes(buffer).first(n), now);
      if (!taken) return require(taken.error().code == EAGAIN, "the conversation of others goes on");
      sent += *taken;
    }
    for (;;) {
      const auto got = to->engine->receive(receiver, buffer, false, now);
      if (!got) return require(got.error().code == EAGAIN, "the conversation of others is not broken");
      if (*got == 0) {
        ended = true;
        return;
      }
      for (std::size_t i = 0; i < *got; ++i) require(buffer[i] == witness_byte(received + i), "what others say arrives unaltered");
      received += *got;
    }
  }
};

class Group {
 public:
  Group(Input& input, Paper& paper, const Superblock& superblock)
      : input_(input),
        paper_(paper),
        superblock_(superblock),
        alpha_(paper.disk, superblock, 0, "alpha", 4u << 20),
        beta_(paper.disk, superblock, 1, "beta", 4u << 20),
        decisions_(input),
        writer_(superblock, decisions_, [this](std::uint64_t block) { return ConstBytes(paper_.disk.at(block), paper_.disk.block_size); }),
        block_(superblock.geometry.block_size),
        buffer_(16 * 1024) {
    for (Host* host : hosts()) {
      host->medium.fault = [this](const IoRequest& r) { return paper_.note(r); };
      host->engine->set_poll_max(kMillisecond);  // less to step through
    }
    come_as(1);
  }

  void run() {
    begin();
    for (std::size_t i = 0; i < kMostSteps && !input_.empty(); ++i) step();
    end();
  }

 private:
  struct Held {
    Host* host;
    SocketId id;
    bool listener = false;
  };
  std::array<Host*, 2> hosts() { return {&alpha_, &beta_}; }
  Host& some_host() { return input_.flag() ? beta_ : alpha_; }

  // -- Who is there

  void come_as(std::uint64_t life) {
    rogue_ = {.slot = kRogue, .incarnation = 100 + life, .nonce = 7000 + life};
    writer_.begin_life(rogue_);
    rogue_state_ = PeerState::kAlive;
    for (Host* host : hosts()) post(*host, MemberState::kMember);
  }
  void post(Host& host, MemberState state) {
    Host& other = &host == &alpha_ ? beta_ : alpha_;
    MembershipBoard::View view;
    view.self = {.state = state, .identity = host.identity, .name = host.name, .reason = Reason::kNone, .why = {}, .error_code = 0};
    view.peers.resize(superblock_.geometry.hosts);
    view.peers[other.identity.slot] = {.state = PeerState::kAlive, .identity = other.identity, .name = other.name, .sees_me = true};
    view.peers[kRogue] = {.state = rogue_state_, .identity = rogue_, .name = "rogue", .sees_me = true};
    view.slots_in_use = 3;
    host.board.post(std::move(view));
    host.board.post_lease(kNever);
  }
  // Whom somebody refuses comes back with a new life: that is the rule for everybody, and ends the conversation of the others, too.
  void look_after_lives() {
    for (Host* host : hosts()) {
      if (host->board.rebirth_wanted() != host->identity.incarnation) continue;
      excused_ = true;
      post(*host, MemberState::kFenced);
      for (int i = 0; i < 1000 && host->board.quiesced_incarnation() != host->identity.incarnation; ++i) tick();
      require(host->board.quiesced_incarnation() == host->identity.incarnation, "a life that is over comes to rest");
      host->identity.incarnation += 1000;
      host->identity.nonce += 1000;
      for (Host* each : hosts()) post(*each, MemberState::kMember);
    }
  }

  void tick() {
    now_ += kTick;
    for (Host* host : hosts()) {
      const std::uint64_t before = host->engine->counters().reads + host->engine->counters().writes;
      const Nanos next = host->engine->step(now_);
      const bool did = host->engine->counters().reads + host->engine->counters().writes != before;
      std::uint32_t& spins = spins_[host];
      spins = next <= now_ && !did ? spins + 1 : 0;
      require(spins < 1000, "nobody asks to be called at once, again and again, and does nothing");
    }
  }
  // In a few steps, however long it is.
  void pass(Nanos span) {
    const Nanos step = std::max<Nanos>(span / 16, std::min(span, 4 * kTick));
    for (const Nanos end = now_ + span; now_ < end;) {
      now_ += step - kTick;
      tick();
    }
  }

  // -- What honest programs do

  void begin() {
    pass(2 * kMillisecond);
    for (Host* host : hosts()) {
      for (std::uint16_t i = 0; i < 4; ++i) listen(*host, static_cast<std::uint16_t>(kPort + i));
    }
    const SocketId listener = listen(beta_, kWitnessPort);
    const auto client = alpha_.engine->open(now_);
    require(client.has_value(), "there are sockets");
    (void)alpha_.engine->connect(*client, {.host = "beta", .stg = {}, .port = kWitnessPort}, false, now_);
    SocketId server = 0;
    for (int i = 0; i < 2000 && server == 0; ++i) {
      pass(4 * kTick);
      if (const auto accepted = beta_.engine->accept(listener, now_)) server = *accepted;
    }
    require(server != 0, "alpha and beta talk before the rogue begins");
    for (int i = 0; i < 2000 && (alpha_.engine->ready(*client).value_or(0) & Ready::kConnect) == 0; ++i) pass(4 * kTick);
    there_ = {.from = &alpha_, .to = &beta_, .sender = *client, .receiver = server};
    back_ = {.from = &beta_, .to = &alpha_, .sender = server, .receiver = *client};
  }
  SocketId listen(Host& host, std::uint16_t port) {
    const auto id = host.engine->open(now_);
    require(id && host.engine->bind(*id, port) && host.engine->listen(*id, 4), "a port can be listened on");
    held_.push_back({&host, *id, true});
    return *id;
  }

  void step() {
    switch (input_.below(24)) {
      case 0: return pass(static_cast<Nanos>(1 + input_.below(64)) * kMillisecond);
      case 1: return connect();
      case 2: return accept();
      case 3:
      case 4: return receive();
      case 5: return send();
      case 6: return shut();
      case 7: return close();
      case 8:
        there_.wanted += input_.below(64) * 1024;
        back_.wanted += input_.below(8) * 500;
        return talk();
      case 9:
        if (input_.below(8) == 7) come_as(++lives_);
        return;
      case 10: {
        // Its lease is not beaten for a while.
        if (input_.below(8) != 7) return;
        rogue_state_ = rogue_state_ == PeerState::kAlive ? PeerState::kDead : PeerState::kAlive;
        for (Host* host : hosts()) post(*host, MemberState::kMember);
        return;
      }
      case 11:
      case 12:
      case 13: return pass(static_cast<Nanos>(1 + input_.below(16)) * kTick);
      default: {
        const Host& victim = some_host();
        paper_.put(writer_.next_block(block_, victim.identity), block_);
        tick();
        look_after_lives();
        return talk();
      }
    }
  }
  void talk() {
    if (excused_) return;
    there_.work(now_, buffer_);
    back_.work(now_, buffer_);
  }
  void connect() {
    Host& host = some_host();
    const auto id = host.engine->open(now_);
    if (!id) return;
    held_.push_back({&host, *id});
    (void)host.engine->connect(*id, {.host = "rogue", .stg = {}, .port = static_cast<std::uint16_t>(1 + input_.below(200))}, input_.flag(), now_);
  }
  Held* some_held() { return held_.empty() ? nullptr : &held_[input_.below(held_.size())]; }
  void accept() {
    Held* const held = some_held();
    if (held == nullptr) return;
    Host* const host = held->host;
    const auto id = host->engine->accept(held->id, now_);
    if (!id) return;
    const auto info = host->engine->info(*id);
    require(info && info->peer.host == "rogue", "whoever comes comes under its own name");
    held_.push_back({host, *id});
  }
  void receive() {
    Held* const held = some_held();
    if (held == nullptr) return;
    const auto got = held->host->engine->receive(held->id, Bytes(buffer_).first(1 + input_.below(buffer_.size())), input_.flag(), now_);
    if (!got) return;
    require(!like_witness(ConstBytes(buffer_).first(*got)), "nobody gets what others say to each other");
  }
  void send() {
    Held* const held = some_held();
    if (held == nullptr) return;
    std::ranges::fill(buffer_, std::byte{0x11});
    (void)held->host->engine->send(held->id, ConstBytes(buffer_).first(1 + input_.below(buffer_.size())), now_);
  }
  void shut() {
    Held* const held = some_held();
    if (held != nullptr) (void)held->host->engine->shut(held->id, input_.flag(), input_.flag(), now_);
  }
  void close() {
    Held* const held = some_held();
    if (held == nullptr) return;
    held->host->engine->close(held->id, input_.flag(), now_);
    held_.erase(held_.begin() + (held - held_.data()));
  }

  // -- The end: the rogue is gone, and is seen to be

  template <class Condition>
  bool within(Nanos span, Condition condition) {
    for (const Nanos end = now_ + span; now_ < end; pass(5 * kMillisecond)) {
      look_after_lives();
      if (condition()) return true;
    }
    return condition();
  }
  void end() {
    rogue_state_ = PeerState::kDead;
    for (Host* host : hosts()) post(*host, MemberState::kMember);
    pass(100 * kMillisecond);
    look_after_lives();
    pass(100 * kMillisecond);
    for (const Held& held : held_) {
      if (const auto info = held.host->engine->info(held.id); info && !held.listener)
        require(info->state != ScbState::kEstablished && info->state != ScbState::kConnecting, "no conversation outlasts its peer");
    }
    if (!excused_) {
      there_.wanted += 100'000;
      back_.wanted += 1000;
      const bool whole = within(kPatience, [this] {
        talk();
        return excused_ || (there_.received == there_.wanted && back_.received == back_.wanted);
      });
      require(whole, "what others say arrives whole");
    }
    if (!excused_) {
      (void)alpha_.engine->shut(there_.sender, false, true, now_);
      (void)beta_.engine->shut(back_.sender, false, true, now_);
      require(within(kPatience, [this] {
                talk();
                return excused_ || (there_.ended && back_.ended);
              }),
              "the conversation of others comes to its end");
    }
    for (const Held& held : held_) held.host->engine->close(held.id, false, now_);
    for (const Witness& w : {there_, back_}) w.from->engine->close(w.sender, false, now_);
    require(within(kPatience, [this] { return alpha_.engine->drained() && beta_.engine->drained(); }), "everything ends");
    // As many sockets as there were: nothing of the rogue is held for ever.
    for (Host* host : hosts()) {
      std::vector<SocketId> ids;
      while (const auto id = host->engine->open(now_)) ids.push_back(*id);
      require(ids.size() == superblock_.geometry.sockets, "every socket comes back");
    }
  }

  Input& input_;
  Paper& paper_;
  const Superblock& superblock_;
  Host alpha_, beta_;
  InputDecisions decisions_;
  HostileWriter writer_;
  std::vector<std::byte> block_, buffer_;
  Identity rogue_;
  PeerState rogue_state_ = PeerState::kAlive;
  std::uint64_t lives_ = 1;
  Nanos now_ = kSecond;
  std::map<Host*, std::uint32_t> spins_;
  std::vector<Held> held_;
  Witness there_, back_;
  bool excused_ = false;
};

}  // namespace

void run(ConstBytes bytes) {
  static const Superblock superblock = small_group();
  static Paper paper(superblock.geometry);
  paper.wipe();
  Input input(bytes);
  Group(input, paper, superblock).run();
}

}  // namespace stp::fuzz
