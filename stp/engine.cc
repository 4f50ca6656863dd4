#include "stp/engine.h"

#include <algorithm>
#include <cerrno>

#include "stp/conduit.h"
#include "stp/core.h"
#include "stp/gate_row.h"
#include "stp/sockets.h"

namespace stp {
namespace {

unsigned instance_number(std::string_view name) {
  const auto mark = name.find('~');
  unsigned number = 1;
  if (mark != std::string_view::npos) {
    number = 0;
    for (const char c : name.substr(mark + 1)) number = number * 10 + static_cast<unsigned>(c - '0');
  }
  return number;
}

}  // namespace

class Engine::Impl final : public ConduitOwner, public Peers {
 public:
  Impl(const EngineConfig& config, Medium& medium, MembershipBoard& board, Random& random, EngineEvents& events)
      : core(config, medium, random),
        sockets(core, *this, events),
        board_(board),
        gate_row_(core, [this](Slot sender, const Gate& gate) { on_gate(sender, gate); }),
        conduits_(core.geometry().hosts),
        given_up_(core.geometry().hosts),
        refused_me_(core.geometry().hosts),
        left_since_(core.geometry().hosts, kNever) {
    view_.peers.resize(core.geometry().hosts);
  }

  ~Impl() override { core.computing.clear(); }  // its streams go before what they point to

  Nanos step(Nanos now);
  bool drained() const;
  bool expects_soon() const;
  SocketError not_a_member() const;
  bool member() const { return alive_; }
  void shut_down() {
    shutting_down_ = true;
    for (auto& conduit : conduits_)
      if (conduit && conduit->open()) conduit->take_leave();
    sockets.abort_all();
  }
  bool shutting_down() const { return shutting_down_; }
  EngineCounters counters() const;

  // ConduitOwner
  void on_message(Slot peer, const Message& message) override { sockets.on_message(peer, message); }
  void on_acked(Slot peer, std::uint64_t sequence) override { sockets.on_acked(peer, sequence); }
  void on_peer_fault(Slot peer, Reason reason) override { faults_.emplace_back(peer, reason); }
  bool has_messages(Slot peer) const override { return sockets.has_messages(peer); }
  bool has_urgent_messages(Slot peer) const override { return sockets.has_urgent_messages(peer); }
  void fill(Slot peer, PacketBuilder& packet, std::uint64_t sequence) override { sockets.fill(peer, packet, sequence); }

  // Peers
  bool reachable(Slot peer) const override { return conduits_[peer] && conduits_[peer]->open(); }
  const Identity& identity(Slot peer) const override { return conduits_[peer]->peer(); }
  const std::string& name(Slot peer) const override { return peer == core.self.slot ? view_.self.name : view_.peers[peer].name; }
  void answer(Slot peer, SessionId session, MessageBody body) override {
    if (reachable(peer)) conduits_[peer]->answer(session, std::move(body));
  }
  void acknowledge_within(Slot peer, Nanos span) override {
    if (reachable(peer)) conduits_[peer]->acknowledge_by(core.now + span);
  }
  void await_ack(Slot peer, std::uint64_t sequence) override {
    if (reachable(peer)) conduits_[peer]->await_ack(sequence);
  }
  void warm(Slot peer) override {
    if (reachable(peer)) conduits_[peer]->warm();
  }
  SocketResult<std::vector<Slot>> find_host(const std::string& host) const override;
  const std::string& my_name() const override { return view_.self.name; }

  Core core;
  Sockets sockets;

 private:
  void read_board();
  void begin_life();
  void end_life(Reason reason);
  void update_peer(Slot slot);
  void end_conduit(Slot slot, Reason reason);
  bool heard_out(Slot slot);
  void on_gate(Slot sender, const Gate& gate);
  void take_faults();
  void repeat_refusals();
  void work();
  bool compute_one();  // false: nothing to compute
  Nanos next_deadline() const;

  MembershipBoard& board_;
  MembershipBoard::View view_;
  GateRow gate_row_;
  std::vector<std::unique_ptr<Conduit>> conduits_;
  std::vector<Identity> given_up_;    // by slot: the incarnation that I will not talk to again
  std::vector<Identity> refused_me_;  // by slot: the incarnation that will not talk to this life of mine
  std::vector<Nanos> left_since_;     // by slot: since when its lease says that it left, while its last words are taken; else kNever
  std::vector<std::pair<Slot, Reason>> faults_;
  bool alive_ = false;      // this incarnation is a member
  bool quiesced_ = true;
  bool shutting_down_ = false;
  Identity ended_;          // the last life that is over
  Nanos next_refusals_ = 0;
};

// -- Who is there

void Engine::Impl::read_board() {
  if (board_.version() == view_.version) return;
  view_ = board_.view();
  view_.peers.resize(core.geometry().hosts);
  const Self& self = view_.self;
  if (alive_ && (self.state != MemberState::kMember || self.identity != core.self)) end_life(self.reason);
  if (!alive_ && quiesced_ && self.state == MemberState::kMember && self.identity != ended_) begin_life();
  // A life that ended before I ever saw it as a member: nothing of it is in flight.
  const bool ending = self.state == MemberState::kFenced || self.state == MemberState::kLeaving;
  if (!alive_ && quiesced_ && ending && self.identity != ended_) {
    ended_ = self.identity;
    board_.note_quiesced(ended_.incarnation);
  }
  if (!alive_) return;
  for (Slot slot = 0; slot < conduits_.size(); ++slot) update_peer(slot);
}

void Engine::Impl::begin_life() {
  core.self = view_.self.identity;
  alive_ = true;
  std::ranges::fill(refused_me_, Identity{});
  std::ranges::fill(left_since_, kNever);
  gate_row_.look_now();
  sockets.begin_life();
}

void Engine::Impl::end_life(Reason reason) {
  alive_ = false;
  quiesced_ = false;
  ended_ = core.self;
  core.may_write = false;
  for (auto& conduit : conduits_)
    if (conduit) conduit->end();
  sockets.end_life(reason == Reason::kNone ? Reason::kFenced : reason);
}

void Engine::Impl::update_peer(Slot slot) {
  const bool myself = slot == core.self.slot;
  const Peer& peer = view_.peers[slot];
  const bool wanted = myself ? given_up_[slot] != core.self : (peer.state == PeerState::kAlive && peer.identity != given_up_[slot] && peer.identity != refused_me_[slot]);
  const Identity& identity = myself ? core.self : peer.identity;
  auto& conduit = conduits_[slot];
  const bool left = peer.state == PeerState::kLeft && !myself;
  if (conduit && conduit->open() && left && conduit->peer() == identity && !heard_out(slot)) return;
  if (conduit && conduit->open() && (!wanted || conduit->peer() != identity))
    end_conduit(slot, peer.state == PeerState::kLeft ? Reason::kHostLeft : Reason::kHostDead);
  if (!wanted) return;
  if (!conduit) conduit = std::make_unique<Conduit>(core, slot, *this);
  if (conduit->open() || !conduit->quiet()) return;
  conduit->start(core.self, identity);
  sockets.on_peer_up(slot);
}

void Engine::Impl::end_conduit(Slot slot, Reason reason) {
  const Identity peer = conduits_[slot]->peer();
  conduits_[slot]->end();
  left_since_[slot] = kNever;
  if (reason == Reason::kRefused) {
    refused_me_[slot] = peer;  // its verdict, on this life of mine; my next one makes another pair
  } else {
    given_up_[slot] = peer;
    if (reason != Reason::kHostLeft) conduits_[slot]->refuse(peer);
  }
  sockets.on_peer_down(slot, reason);
}

void Engine::Impl::on_gate(Slot sender, const Gate& gate) {
  if (!alive_) return;
  auto& conduit = conduits_[sender];
  const Peer& peer = view_.peers[sender];
  const bool refused = !planted(Plant::kIgnoreRefusal) && gate.refused_incarnation == core.self.incarnation && gate.refused_nonce == core.self.nonce;
  if (refused && sender != core.self.slot && gate.sender == peer.identity && peer.state == PeerState::kAlive) {
    board_.want_rebirth(core.self.incarnation);
    if (conduit && conduit->open()) end_conduit(sender, Reason::kRefused);
    return;
  }
  const bool known = conduit && conduit->open() && (gate.sender == conduit->peer() || planted(Plant::kAnyGate));
  if (!known) {
    // Somebody writes there whom I do not know (yet): have the leases read. An old gate makes no stir.
    const bool past = gate.sender.incarnation < peer.identity.incarnation || (gate.sender == peer.identity && peer.state != PeerState::kUnknown);
    if (gate.receiver == core.self && gate.sender != given_up_[sender] && !past) board_.nudge();
    return;
  }
  conduit->on_gate(gate);
}

// A refusing gate may be undone by an older write, and a new life of mine writes under another identity: as long as the
// one whom I gave up lives on, it is told again.
void Engine::Impl::repeat_refusals() {
  constexpr Nanos kPeriod = kSecond;
  if (core.now < next_refusals_) return;
  next_refusals_ = core.now + kPeriod;
  for (Slot slot = 0; slot < conduits_.size(); ++slot) {
    const Peer& peer = view_.peers[slot];
    if (conduits_[slot] && !conduits_[slot]->open() && peer.state == PeerState::kAlive && peer.identity == given_up_[slot])
      conduits_[slot]->refuse(given_up_[slot]);
  }
}

void Engine::Impl::take_faults() {
  for (const auto& [slot, reason] : std::exchange(faults_, {}))
    if (conduits_[slot] && conduits_[slot]->open()) end_conduit(slot, reason);
}

SocketResult<std::vector<Slot>> Engine::Impl::find_host(const std::string& host) const {
  const auto none = [](int code, Reason reason) { return std::unexpected(SocketError{code, reason}); };
  if (!alive_) return std::unexpected(not_a_member());
  const std::string wanted = host.empty() ? std::string(base_name(view_.self.name)) : host;
  const bool any_instance = wanted.find('~') == std::string::npos;
  std::vector<Slot> found;
  SocketError error{EHOSTUNREACH, Reason::kUnknownHost};
  for (Slot slot = 0; slot < conduits_.size(); ++slot) {
    const std::string& its_name = name(slot);
    if (its_name.empty() || (any_instance ? base_name(its_name) : std::string_view(its_name)) != wanted) continue;
    const Peer& peer = view_.peers[slot];
    if (slot != core.self.slot && peer.one_way) {
      if (error.code != EHOSTDOWN) error = {EHOSTUNREACH, Reason::kOneWay};
    } else if (reachable(slot) && (slot == core.self.slot || peer.state != PeerState::kLeft)) {
      found.push_back(slot);
    } else if (slot != core.self.slot && peer.state != PeerState::kUnknown) {
      error = {EHOSTDOWN, peer.state == PeerState::kLeft ? Reason::kHostLeft : Reason::kHostDead};
    }
  }
  if (found.empty()) return none(error.code, error.reason);
  std::ranges::sort(found, {}, [this](Slot slot) { return instance_number(name(slot)); });
  return found;
}

SocketError Engine::Impl::not_a_member() const {
  const Reason reason = view_.self.reason == Reason::kNone ? Reason::kNotJoined : view_.self.reason;
  return {view_.self.state == MemberState::kStopped && view_.self.error_code != 0 ? view_.self.error_code : ENETDOWN, reason};
}

// Who left in good order had written all that it had to say before its lease said so: that is taken first. True once it is, or will not be.
bool Engine::Impl::heard_out(Slot slot) {
  constexpr Nanos kLongest = kSecond;
  Nanos& since = left_since_[slot];
  if (since == kNever) {
    since = core.now;
    gate_row_.look_now();
  }
  const bool all = conduits_[slot]->heard_out(since) && gate_row_.looked_since(slot, since);
  return all || core.now - since > kLongest;
}

// -- Work

void Engine::Impl::work() {
  const bool streaming = sockets.streaming();
  bool eager = false;
  Slot slots = view_.slots_in_use;
  for (Slot slot = 0; slot < conduits_.size(); ++slot) {
    auto& conduit = conduits_[slot];
    if (!conduit) continue;
    const bool leaves = left_since_[slot] != kNever;
    if (leaves) slots = std::max<Slot>(slots, slot + 1);  // it may be free already
    if (leaves || (!conduit->open() && conduit->quiet())) update_peer(slot);
    conduit->work(streaming);
    eager |= conduit->wants_gate() || leaves || (shutting_down_ && conduit->open() && !conduit->all_acked());
    const Nanos bound = 2 * static_cast<Nanos>(core.superblock().timing.detection_ms()) * kMillisecond;
    if (conduit->open() && conduit->stuck_for() > bound) on_peer_fault(slot, Reason::kStuck);
  }
  take_faults();
  repeat_refusals();
  sockets.work();
  gate_row_.poll(slots, eager);
}

bool Engine::Impl::compute_one() {
  if (core.computing.empty()) return false;
  const auto compute = std::move(core.computing.front());
  core.computing.pop_front();
  compute();
  return true;
}

Nanos Engine::Impl::step(Nanos now) {
  constexpr int kMostRounds = 64;
  core.now = now;
  const auto activity = [this] { return core.io.reads + core.io.writes; };
  const std::uint64_t before = activity();
  bool reaped = false;
  for (int round = 0; round < kMostRounds; ++round) {
    core.may_write = core.may_write && board_.lease_good(now);  // completions submit, too
    const std::size_t completions = core.io.reap();
    reaped |= completions > 0;
    take_faults();
    read_board();
    core.may_write = alive_ && board_.lease_good(now);
    core.timers.run(now);
    if (alive_) work();
    core.io.flush();
    if (round + 1 < kMostRounds && compute_one()) continue;  // what it brings is offered in the next round
    // A second look: some media complete at once.
    if (completions == 0 && round > 0) break;
  }
  if (!alive_ && !quiesced_ && core.io.in_flight() == 0) {
    quiesced_ = true;
    board_.note_quiesced(ended_.incarnation);
    view_.version = 0;  // a new life may already be on the board
  }
  board_.note_progress();
  if (!core.computing.empty()) return now;
  const Nanos deadline = next_deadline();
  // Nothing was done and something claims to be due: it waits for what is in flight. Never a busy loop.
  const bool idle = !reaped && activity() == before;
  if (deadline > now || !idle) return std::max(deadline, now);
  return now + 500 * kMicrosecond;
}

Nanos Engine::Impl::next_deadline() const {
  constexpr Nanos kBoardPeriod = 20 * kMillisecond;
  Nanos at = std::min(core.timers.next_deadline(), core.now + kBoardPeriod);
  if (!alive_) return at;
  const bool streaming = sockets.streaming();
  at = std::min(at, gate_row_.next_deadline());
  for (const auto& conduit : conduits_)
    if (conduit) at = std::min(at, conduit->next_deadline(streaming));
  at = std::min(at, sockets.next_deadline());
  if (!core.may_write) at = std::max(at, core.now + 2 * kMillisecond);
  return at;
}

bool Engine::Impl::drained() const {
  if (!alive_) return core.io.in_flight() == 0;
  // Nobody is there to write a lost packet again afterwards.
  const auto said_all = [this](const auto& conduit) { return !conduit || !conduit->open() || (conduit->all_sent() && (!shutting_down_ || conduit->all_acked())); };
  const bool said = std::ranges::all_of(conduits_, said_all);
  return said && sockets.drained() && core.io.writes_in_flight() == 0;
}

bool Engine::Impl::expects_soon() const {
  // The processor is wanted by those who copy and hash what the extents in flight bring.
  if (!alive_ || sockets.extents_in_flight()) return false;
  return std::ranges::any_of(conduits_, [](const auto& conduit) { return conduit && conduit->open() && conduit->expects_soon(); });
}

EngineCounters Engine::Impl::counters() const {
  EngineCounters out = core.counters;
  out.reads = core.io.reads;
  out.writes = core.io.writes;
  out.read_bytes = core.io.read_bytes;
  out.write_bytes = core.io.write_bytes;
  out.io_errors = core.io.errors;
  out.extents_held = sockets.extents_held();
  out.send_memory_bytes = sockets.send_memory_bytes();
  out.receive_memory_bytes = sockets.receive_memory_bytes();
  return out;
}

// -- The public face

Engine::Engine(const EngineConfig& config, Medium& medium, MembershipBoard& board, Random& random, EngineEvents& events)
    : impl_(std::make_unique<Impl>(config, medium, board, random, events)) {}
Engine::~Engine() = default;

Nanos Engine::step(Nanos now) { return impl_->step(now); }
bool Engine::drained() const { return impl_->drained(); }
void Engine::shut_down(Nanos now) {
  impl_->core.now = now;
  impl_->shut_down();
}
bool Engine::expects_soon(Nanos now) const {
  impl_->core.now = now;
  return impl_->expects_soon();
}

SocketResult<SocketId> Engine::open(Nanos now) {
  impl_->core.now = now;
  if (!impl_->member() || impl_->shutting_down()) return std::unexpected(impl_->not_a_member());
  return impl_->sockets.open();
}
SocketResult<std::uint16_t> Engine::bind(SocketId socket, std::uint16_t port) { return impl_->sockets.bind(socket, port); }
SocketResult<void> Engine::listen(SocketId socket, std::uint32_t backlog) { return impl_->sockets.listen(socket, backlog); }
SocketResult<SocketId> Engine::accept(SocketId listener, Nanos now) {
  impl_->core.now = now;
  return impl_->sockets.accept(listener);
}
SocketResult<void> Engine::connect(SocketId socket, const Address& peer, bool wait_for_accept, Nanos now) {
  impl_->core.now = now;
  return impl_->sockets.connect(socket, peer, wait_for_accept);
}
SocketResult<std::size_t> Engine::send(SocketId socket, ConstBytes data, Nanos now) {
  impl_->core.now = now;
  return impl_->sockets.send(socket, data);
}
SocketResult<std::size_t> Engine::send_lent(SocketId socket, ConstBytes data, const Loan& loan, Nanos now) {
  impl_->core.now = now;
  return impl_->sockets.send(socket, data, &loan);
}
bool Engine::waits_in_line(SocketId socket) { return impl_->sockets.waits_in_line(socket); }

std::uint64_t Engine::lent(SocketId socket) const { return impl_->sockets.lent(socket); }
void Engine::land_in(SocketId socket, std::shared_ptr<Landing> landing) { impl_->sockets.land_in(socket, std::move(landing)); }
SocketResult<std::size_t> Engine::receive(SocketId socket, Bytes into, bool peek, Nanos now) {
  impl_->core.now = now;
  return impl_->sockets.receive(socket, into, peek);
}
SocketResult<void> Engine::shut(SocketId socket, bool read, bool write, Nanos now) {
  impl_->core.now = now;
  return impl_->sockets.shut(socket, read, write);
}
void Engine::close(SocketId socket, bool abort, Nanos now) {
  impl_->core.now = now;
  impl_->sockets.close(socket, abort);
}
void Engine::stop_reading(SocketId socket, bool left_unread, Nanos now) {
  impl_->core.now = now;
  impl_->sockets.stop_reading(socket, left_unread);
}
bool Engine::closing(SocketId socket) const { return impl_->sockets.closing(socket); }
SocketResult<SocketInfo> Engine::info(SocketId socket) const { return impl_->sockets.info(socket); }
bool Engine::connect_ended(SocketId socket) const { return impl_->sockets.connect_ended(socket); }
Address Engine::peer(SocketId socket) const { return impl_->sockets.peer(socket); }
SocketResult<std::uint32_t> Engine::ready(SocketId socket) { return impl_->sockets.ready(socket); }
SocketError Engine::take_error(SocketId socket) { return impl_->sockets.take_error(socket); }
void Engine::renew(SocketId socket) { impl_->sockets.renew(socket); }
void Engine::set_send_buffer(SocketId socket, std::uint32_t bytes) { impl_->sockets.set_send_buffer(socket, bytes); }
void Engine::set_receive_window(SocketId socket, std::uint32_t bytes) { impl_->sockets.set_receive_window(socket, bytes); }
void Engine::set_inline_max(std::uint32_t bytes) {
  impl_->core.config.inline_max_bytes = std::clamp<std::uint32_t>(bytes, kMinBlockSize, 64 * 1024);
}
void Engine::set_poll_max(Nanos period) { impl_->core.config.poll_max = std::clamp(period, kMillisecond, kSecond); }
SocketResult<SocketId> Engine::open_to_show(Nanos now) {
  impl_->core.now = now;
  if (!impl_->member() || impl_->shutting_down()) return std::unexpected(impl_->not_a_member());
  return impl_->sockets.open_to_show();
}
void Engine::show(SocketId socket, const LocalConversation& conversation) { impl_->sockets.show(socket, conversation); }
EngineCounters Engine::counters() const { return impl_->counters(); }

}  // namespace stp
