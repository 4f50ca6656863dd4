#include "tests/sim/workload.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "tests/sim/sim_checks.h"

namespace stp::sim {
namespace {

constexpr std::uint16_t kFirstPort = 100;
constexpr std::uint16_t kLazyPort = 103;  // accepts only when the end is near
constexpr std::uint16_t kProbePort = 7;
constexpr std::uint16_t kNobodysPort = 9999;
constexpr std::size_t kMaxConns = 16;
constexpr std::size_t kMaxChunk = 1 << 20;

// Scratch for one call; nothing of it lives longer.
Bytes scratch(std::size_t size) {
  static thread_local std::vector<std::byte> memory(kMaxChunk);
  return Bytes(memory).first(size);
}

}  // namespace

Workload::Workload(SimContext context, SimProcess& process) : context_(context), process_(process), random_(process.random().split()) {}

Stream* Workload::stream_of(const Conn& c) { return c.knows_stream ? context_.checks.streams().find(c.stream) : nullptr; }

void Workload::start() {
  if (context_.plan.scripted) return;
  context_.world.after(random_.between(0, kSecond), [this] { listen_everywhere(); });
  if (!process_.hostile()) next_connect();
}

void Workload::listen() { listen_everywhere(); }

void Workload::talk(const std::string& host) { connect({.host = host, .stg = "", .port = kFirstPort}, false); }

void Workload::process_gone() {
  gone_ = true;
  for (auto& [socket, c] : conns_) {
    Stream* s = stream_of(c);
    if (s == nullptr) continue;
    s->flow(i_connected(c)).cut = true;
    s->flow(!i_connected(c)).deaf = true;
  }
  conns_.clear();
  closing_.clear();
}

void Workload::listen_everywhere() {
  if (gone_ || (finishing_ && !process_.running())) return;
  context_.world.after(700 * kMillisecond, [this] { listen_everywhere(); });
  if (process_.frozen()) return;
  Engine& engine = *process_.engine();
  for (std::uint16_t port : {kProbePort, kFirstPort, static_cast<std::uint16_t>(kFirstPort + 1), static_cast<std::uint16_t>(kFirstPort + 2), kLazyPort}) {
    const bool there = std::ranges::any_of(conns_, [port](const auto& e) { return e.second.kind == Kind::kListener && e.second.stream == port; });
    if (there) continue;
    auto socket = engine.open(process_.local_now());
    if (!socket) continue;
    auto bound = engine.bind(*socket, port);
    const auto listening = bound ? engine.listen(*socket, port == kProbePort ? 32 : static_cast<std::uint32_t>(random_.between(1, 8)))
                                 : SocketResult<void>(std::unexpected(bound.error()));
    if (!listening) {
      engine.close(*socket, true, process_.local_now());
      continue;
    }
    conns_[*socket] = Conn{.socket = *socket, .kind = Kind::kListener, .stream = port};
  }
  process_.wake_engine();
}

void Workload::next_connect() {
  const Nanos mean = context_.plan.connect_every;
  context_.world.after(random_.between(mean / 4, mean * 2), [this] {
    if (gone_ || finishing_) return;
    if (!process_.frozen() && conns_.size() < kMaxConns) connect_somewhere();
    next_connect();
  });
}

void Workload::connect_somewhere() {
  const auto& all = context_.checks.processes();
  const SimProcess& target = *all[random_.below(all.size())];
  Address to{.host = target.self().name.empty() ? target.name() : target.self().name, .stg = "", .port = 0};
  to.port = static_cast<std::uint16_t>(kFirstPort + random_.below(4));
  if (random_.chance(0.05)) to.host = process_.self().name;
  if (random_.chance(0.03)) to.host = "nobody";
  if (random_.chance(0.05)) to.port = kNobodysPort;
  if (!to.host.empty()) connect(to, false);
}

bool Workload::connect(const Address& to, bool is_probe) {
  Engine& engine = *process_.engine();
  ++counters_.connects;
  auto socket = engine.open(process_.local_now());
  if (!socket) {
    if (is_probe) context_.world.fail("service once faults stop", fmt::format("{} can not open a socket: errno {}", process_.label(), socket.error().code));
    return false;
  }
  Stream& s = context_.checks.streams().make(random_.next());
  s.from = process_.id();
  s.from_name = process_.self().name;
  s.from_socket = *socket;
  Conn& c = conns_[*socket] = Conn{.socket = *socket, .kind = Kind::kConnecting, .stream = s.id, .probe = is_probe};
  c.to_hostile = is_hostile(to.host);
  if (is_probe) ++probes_open_;
  give_shape(c);
  if (context_.world.verbose())
    context_.world.say(fmt::format("{} connects socket {} to {}, stream {:x}, {} bytes", process_.label(), *socket, to_string(to), s.id, c.to_send));
  c.waits_for_accept = !context_.plan.scripted && random_.chance(0.2);
  auto result = engine.connect(*socket, to, c.waits_for_accept, process_.local_now());
  process_.wake_engine();
  if (result) {
    c.connect_over = true;
  } else if (result.error().code != EINPROGRESS) {
    failed(c, result.error(), "connect");
    return true;
  }
  schedule(c, 0);
  return true;
}

void Workload::give_shape(Conn& c) {
  if (context_.plan.scripted) {
    c.to_send = c.probe ? 1000 : finishing_ ? 0 : context_.plan.largest_stream;
    c.half_first = true;
    return;
  }
  c.to_send = c.probe ? 1000 : random_.chance(0.1) ? 0 : random_.log_between(8, context_.plan.largest_stream);
  c.reader = random_.chance(0.6) ? 0 : static_cast<std::uint32_t>(random_.between(1, 2));
  c.half_first = c.kind == Kind::kAcceptor || c.probe || random_.chance(0.6);
  if (random_.chance(0.5)) c.lender = std::make_shared<SimLender>(SimLender::Manners{.copies_little = random_.chance(0.5), .lies = !c.probe && random_.chance(0.1)});
  if (random_.chance(0.5)) c.landing = std::make_shared<SimLanding>();
  if (!c.probe && random_.chance(0.08)) c.abort_at = random_.log_between(1, context_.plan.largest_stream);
  if (finishing_ && !c.probe) {
    c.to_send = 0;
    c.reader = 0;
    c.abort_at = -1;
  }
}

void Workload::probe(SimProcess& to) {
  probing_ = true;
  connect({.host = to.self().name, .stg = "", .port = kProbePort}, true);
}

void Workload::ready(SocketId socket, std::uint32_t bits) {
  if (gone_) return;
  if (auto closing = closing_.find(socket); closing != closing_.end()) {
    // Not from inside the engine's step.
    if ((bits & Ready::kDrained) != 0) ((bits & Ready::kHangUp) != 0 ? closing->second.lost : closing->second.drained) = true;
    if ((bits & Ready::kDrained) != 0) context_.world.after(0, [this, socket] { closed_one(socket); });
    return;
  }
  auto at = conns_.find(socket);
  if (at == conns_.end()) return;
  Conn& c = at->second;
  if ((bits & (Ready::kRead | Ready::kHangUp)) != 0) c.can_read = true;
  if ((bits & (Ready::kWrite | Ready::kReturned | Ready::kHangUp)) != 0) c.can_write = true;
  if ((bits & (Ready::kConnect | Ready::kHangUp)) != 0) c.connect_over = true;
  schedule(c, random_.chance(0.1) ? random_.log_between(kMicrosecond, 20 * kMillisecond) : random_.between(0, 50 * kMicrosecond));
}

void Workload::schedule(Conn& c, Nanos delay) {
  if (c.act_scheduled) return;
  c.act_scheduled = true;
  context_.world.after(delay, [this, socket = c.socket] { act(socket); });
}

void Workload::act(SocketId socket) {
  if (gone_) return;
  auto at = conns_.find(socket);
  if (at == conns_.end()) return;
  Conn& c = at->second;
  c.act_scheduled = false;
  if (process_.frozen()) return schedule(c, 100 * kMillisecond);
  context_.world.trace(process_.id(), 0x100000000ull + socket);
  switch (c.kind) {
    case Kind::kListener: act_listener(c); break;
    case Kind::kConnecting: act_connecting(c); break;
    default: act_stream(c); break;
  }
  if (!gone_) process_.wake_engine();
}

void Workload::act_listener(Conn& c) {
  Engine& engine = *process_.engine();
  const bool probes = c.stream == kProbePort;
  if (c.stream == kLazyPort && !finishing_) return schedule(c, 500 * kMillisecond);
  if (!c.can_read) return;
  auto accepted = engine.accept(c.socket, process_.local_now());
  if (!accepted) {
    c.can_read = false;
    if (accepted.error().code == EAGAIN) return;
    // The listener went with the incarnation; another one follows.
    const SocketId socket = c.socket;
    engine.close(socket, true, process_.local_now());
    conns_.erase(socket);
    return;
  }
  ++counters_.accepted;
  Conn& fresh = conns_[*accepted] = Conn{.socket = *accepted, .kind = Kind::kAcceptor, .knows_stream = false};
  give_shape(fresh);
  if (probes && probing_) fresh.to_send = 500;
  fresh.can_read = fresh.can_write = true;
  schedule(fresh, 0);
  schedule(c, random_.chance(0.1) ? random_.log_between(kMicrosecond, 100 * kMillisecond) : 0);
}

void Workload::act_connecting(Conn& c) {
  if (!c.connect_over) return;
  Engine& engine = *process_.engine();
  auto info = engine.info(c.socket);
  if (!info) return context_.world.fail("sockets stay", fmt::format("{}: connecting socket {} is unknown", process_.label(), c.socket));
  if (const SocketError error = engine.take_error(c.socket); error.code != 0) return failed(c, error, "connect");
  c.connect_over = false;
  if (info->state == ScbState::kConnecting) return;  // a spurious call
  if (info->state == ScbState::kClosed) return failed(c, {.code = ECONNRESET, .reason = Reason::kNone}, "connect");
  c.kind = Kind::kConnector;
  c.can_read = c.can_write = true;
  act_stream(c);
}

void Workload::act_stream(Conn& c) {
  const SocketId socket = c.socket;
  bool more = do_write(c);
  if (!conns_.contains(socket)) return;
  if (more && context_.plan.waits_in_line) more = do_write(c);  // before the engine has had its turn
  if (!conns_.contains(socket)) return;
  more = do_read(c) || more;
  if (!conns_.contains(socket) || context_.world.failed()) return;
  if (c.write_over && c.read_over) return close(c, false);
  if (more) {
    Nanos delay = random_.between(0, 200 * kMicrosecond);
    if (c.reader == 1) delay = random_.log_between(kMillisecond, 50 * kMillisecond);
    schedule(c, delay);
  }
}

bool Workload::do_write(Conn& c) {
  if (c.write_over) return false;
  Stream* s = stream_of(c);
  const bool forth = i_connected(c);
  if (s == nullptr && (finishing_ || c.read_over)) c.to_send = 0;
  if (s == nullptr && c.to_send > 0) return false;  // first we must know what to answer
  const auto sent = static_cast<std::int64_t>(s == nullptr ? 0 : s->flow(forth).sent);
  if (c.abort_at >= 0 && sent >= c.abort_at) {
    close(c, true);
    return false;
  }
  if (sent >= c.to_send) {
    if (context_.plan.holds_open && !c.probe && !finishing_ && !c.read_over) return false;
    const SocketId socket = c.socket;
    end_writing(c);  // may close it
    return conns_.contains(socket);
  }
  if (context_.plan.ends_early && !c.probe && !finishing_ && !c.read_over && s != nullptr && random_.chance(0.05)) stop_reading(c, *s);
  if (!c.can_write) return false;
  if (context_.plan.waits_in_line && process_.engine()->waits_in_line(c.socket)) {
    c.can_write = false;
    return false;
  }
  const std::int64_t chunk = std::min(c.to_send - sent, random_.log_between(1, kMaxChunk));
  auto taken = send_some(c, s, chunk);
  if (!taken) {
    c.can_write = false;
    if (taken.error().code == EAGAIN) return false;
    failed(c, taken.error(), "send");
    return false;
  }
  if (*taken == 0 && c.lender) {  // it waits for a whole block, or for what it lent
    c.can_write = false;
    return false;
  }
  if (*taken == 0 || *taken > static_cast<std::size_t>(chunk)) {
    context_.world.fail("send takes some", fmt::format("{} sent {} bytes of {}", process_.label(), *taken, chunk));
    return false;
  }
  s->flow(forth).sent += *taken;
  counters_.sent += *taken;
  return true;
}

SocketResult<std::size_t> Workload::send_some(Conn& c, const Stream* s, std::int64_t most) {
  const bool forth = i_connected(c);
  const std::uint64_t sent = (forth ? s->forth : s->back).sent;
  const auto chunk = static_cast<std::size_t>(most);
  Engine& engine = *process_.engine();
  if (c.lender) {
    const auto ahead = static_cast<std::uint64_t>(std::max<std::int64_t>(c.to_send - static_cast<std::int64_t>(c.lender->written()), 0));
    c.lender->write(static_cast<std::size_t>(std::min<std::uint64_t>(ahead, chunk)), [&](std::uint64_t offset, Bytes into) { fill_stream(s->id, forth, offset, into); });
    stream_of(c)->flow(forth).lies |= c.lender->lies();
    return c.lender->move(engine, c.socket, chunk, process_.local_now());
  }
  const Bytes data = scratch(chunk);
  fill_stream(s->id, forth, sent, data);
  return engine.send(c.socket, data, process_.local_now());
}

void Workload::end_writing(Conn& c) {
  Stream* s = stream_of(c);
  const bool forth = i_connected(c);
  if (!c.half_first && !c.read_over && !finishing_ && random_.chance(0.5)) return close(c, false);  // whatever may still come
  if (!c.half_first && !finishing_) {
    c.half_first = true;  // first it reads to the end, and then closes
    if (!c.read_over) return;
  }
  if (s != nullptr) s->flow(forth).ended = true;
  c.write_over = true;
  auto result = process_.engine()->shut(c.socket, false, true, process_.local_now());
  if (!result) failed(c, result.error(), "shutdown");
}

bool Workload::do_read(Conn& c) {
  if (c.read_over || !c.can_read) return false;
  if (c.reader == 2 && !finishing_ && random_.chance(0.05)) {
    schedule(c, random_.log_between(10 * kMillisecond, 3 * kSecond));
    return false;
  }
  const auto most = static_cast<std::size_t>(random_.log_between(1, kMaxChunk));
  const bool peek = random_.chance(0.05);
  if (c.landing) {
    process_.engine()->land_in(c.socket, c.landing->room());
    const bool full = c.landing->next(1).empty();
    if ((full || random_.chance(0.5)) && !c.landing->read(full ? SIZE_MAX : most))
      context_.world.fail("what was delivered stays as it is", fmt::format("{} socket {}", process_.label(), c.socket));
  }
  const Bytes into = c.landing ? c.landing->next(most) : scratch(most);
  auto got = process_.engine()->receive(c.socket, into, peek, process_.local_now());
  if (!got) {
    c.can_read = false;
    if (got.error().code == EAGAIN) return false;
    failed(c, got.error(), "receive");
    return false;
  }
  if (*got > into.size()) {
    context_.world.fail("receive keeps its bounds", fmt::format("{} got {} bytes into {}", process_.label(), *got, into.size()));
    return false;
  }
  if (*got == 0) {
    at_eof(c);
    return true;
  }
  const ConstBytes data = into.first(*got);
  if (c.to_hostile) {
    close(c, true);
    return false;
  }
  if (peek) {
    Stream* s = stream_of(c);
    if (s != nullptr) {
      const bool forth = !i_connected(c);
      if (match_stream(s->id, forth, s->flow(forth).received, data, s->flow(forth).lies) != data.size())
        context_.world.fail("what is received was sent", fmt::format("{} peeks at wrong bytes of stream {:x}", process_.label(), s->id));
    }
    return true;
  }
  counters_.received += *got;
  if (c.landing) c.landing->received(*got);
  if (!check_bytes(c, data)) return false;
  const Stream* s = stream_of(c);
  if (c.abort_at >= 0 && s != nullptr && static_cast<std::int64_t>(i_connected(c) ? s->back.received : s->forth.received) >= c.abort_at) {
    close(c, true);
    return false;
  }
  return true;
}

bool Workload::is_hostile(std::string_view host) const {
  return std::ranges::any_of(context_.checks.processes(), [&](const SimProcess* p) { return p->hostile() && p->name() == base_name(host); });
}

bool Workload::check_bytes(Conn& c, ConstBytes got) {
  if (!c.knows_stream) {
    const std::size_t n = std::min(got.size(), kStreamHeader - c.header_got);
    std::memcpy(c.header.data() + c.header_got, got.data(), n);
    c.header_got += n;
    got = got.subspan(n);
    if (c.header_got < kStreamHeader) return true;
    if (!learn_stream(c)) return false;
  }
  Stream* s = stream_of(c);
  const bool forth = !i_connected(c);
  Flow& flow = s->flow(forth);
  const std::size_t good = match_stream(s->id, forth, flow.received, got, flow.lies);
  if (good != got.size() || flow.received + got.size() > flow.sent) {
    context_.world.fail("what is received was sent",
                        fmt::format("{}, stream {:x} {}: byte {} of {} received is {} ({} were sent)", process_.label(), s->id, forth ? "forth" : "back",
                                    flow.received + good, flow.received + got.size(), good == got.size() ? "never sent" : "wrong", flow.sent));
    return false;
  }
  if (flow.eof) context_.world.fail("nothing follows the end", fmt::format("{}, stream {:x}", process_.label(), s->id));
  flow.received += got.size();
  return true;
}

bool Workload::learn_stream(Conn& c) {
  auto info = process_.engine()->info(c.socket);
  const std::string peer = info ? info->peer.host : "";
  const std::uint64_t id = load_le<std::uint64_t>(c.header.data());
  Stream* s = context_.checks.streams().find(id);
  if (is_hostile(peer)) {
    close(c, true);
    return false;
  }
  if (s == nullptr || s->to != 0 || s->from_name != peer) {
    context_.world.fail("a connection is accepted once, from who made it",
                        fmt::format("{} accepted stream {:x} from \"{}\": {}", process_.label(), id, peer,
                                    s == nullptr ? "nobody sent that" : s->to != 0 ? "it was accepted before" : "somebody else made it"));
    return false;
  }
  c.knows_stream = true;
  c.stream = id;
  s->to = process_.id();
  s->to_socket = c.socket;
  s->forth.received = kStreamHeader;
  if (s->forth.sent < kStreamHeader) context_.world.fail("what is received was sent", fmt::format("{}, stream {:x}: not even its header was", process_.label(), id));
  if (c.write_over) s->back.ended = true;
  return true;
}

void Workload::at_eof(Conn& c) {
  c.read_over = true;
  Stream* s = stream_of(c);
  if (s == nullptr) return;
  const bool forth = !i_connected(c);
  Flow& flow = s->flow(forth);
  flow.eof = true;
  if (context_.world.verbose()) context_.world.say(fmt::format("{} is at the end of stream {:x} {}: {} bytes", process_.label(), s->id, forth ? "forth" : "back", flow.received));
  // Who accepted may have ended it before it could learn from the first bytes which stream this is.
  if (!forth && s->to == 0 && flow.received == 0) return;
  if (!flow.ended || flow.received != flow.sent)
    context_.world.fail("the end is the true end", fmt::format("{}, stream {:x} {}: EOF after {} bytes, {} were sent{}", process_.label(), s->id,
                                                               forth ? "forth" : "back", flow.received, flow.sent, flow.ended ? "" : " so far"));
}

// What comes from now on is lost, and its sender is to learn that.
void Workload::give_up(SocketId socket, Flow& mine) {
  if (std::exchange(mine.deaf, true)) return;
  const auto info = process_.engine()->info(socket);
  mine.given_up = true;
  mine.had = mine.received + (info ? info->readable_bytes : 0);
}

// The program has ended; what it sent before still goes.
void Workload::stop_reading(Conn& c, Stream& s) {
  give_up(c.socket, s.flow(!i_connected(c)));
  c.read_over = true;
  process_.engine()->stop_reading(c.socket, false, process_.local_now());
}

void Workload::close(Conn& c, bool abort) {
  const SocketId socket = c.socket;
  Stream* s = stream_of(c);
  if (s != nullptr) {
    (abort ? s->flow(i_connected(c)).cut : s->flow(i_connected(c)).ended) = true;
    give_up(socket, s->flow(!i_connected(c)));
  }
  if (context_.world.verbose()) context_.world.say(fmt::format("{} {} socket {}, stream {:x}", process_.label(), abort ? "aborts" : "closes", socket, s == nullptr ? 0 : s->id));
  if (c.probe) --probes_open_;
  if (!abort && c.read_over) ++counters_.ended_well;
  const Closing closing{.stream = s == nullptr ? 0 : s->id, .connected = i_connected(c), .aborted = abort};
  conns_.erase(socket);
  closing_[socket] = closing;
  process_.engine()->close(socket, abort, process_.local_now());
  process_.wake_engine();
  if (!process_.engine()->closing(socket)) closed_one(socket);
}

void Workload::closed_one(SocketId socket) {
  if (gone_ || process_.engine()->closing(socket)) return;
  const auto at = closing_.find(socket);
  if (at == closing_.end()) return;
  const Closing closing = at->second;
  closing_.erase(at);
  ++counters_.drained;
  const Stream* s = context_.checks.streams().find(closing.stream);
  if (closing.aborted || s == nullptr) return;
  if (closing.drained) context_.checks.drained_well(process_, *s, closing.connected);
  if (closing.lost) context_.checks.lost_something(process_, *s, closing.connected);
}

void Workload::failed(Conn& c, const SocketError& error, const char* where) {
  const bool connecting = c.kind == Kind::kConnecting;
  bool to_be_expected = connecting && error.code == ECONNREFUSED;
  if (connecting && (error.code == EHOSTUNREACH || error.code == EHOSTDOWN || error.code == ENETDOWN)) to_be_expected = true;
  if (connecting && c.waits_for_accept && error.code == ETIMEDOUT) to_be_expected = true;
  ++(connecting ? counters_.refused : counters_.failed);
  Stream* s = stream_of(c);
  if (c.probe)
    context_.world.fail("service once faults stop", fmt::format("{}: {} gives errno {} ({})", process_.label(), where, error.code, describe(error.reason)));
  if (!to_be_expected) context_.checks.stream_failed(process_, s, i_connected(c), error, where);
  close(c, true);
}

void Workload::finish() {
  finishing_ = true;
  for (auto& [socket, c] : conns_) {
    if (c.kind == Kind::kListener && !process_.running()) continue;
    c.to_send = 0;
    c.reader = 0;
    c.abort_at = -1;
    schedule(c, 0);
  }
  if (process_.running()) return;
  for (auto at = conns_.begin(); at != conns_.end();) {
    if (at->second.kind == Kind::kListener) {
      process_.engine()->close(at->first, false, process_.local_now());
      at = conns_.erase(at);
    } else {
      ++at;
    }
  }
}

bool Workload::idle() const {
  return closing_.empty() && std::ranges::all_of(conns_, [](const auto& e) { return e.second.kind == Kind::kListener; });
}

std::string Workload::describe_socket(SocketId socket) const {
  const auto info = process_.engine() == nullptr ? SocketResult<SocketInfo>(std::unexpected(SocketError{})) : process_.engine()->info(socket);
  if (!info) return " unknown to the engine";
  return fmt::format(" {} to {}, ready {:x}, {} readable, {} unacknowledged", to_string(info->state), to_string(info->peer), info->ready,
                     info->readable_bytes, info->unacknowledged_bytes);
}

std::string Workload::describe_open() const {
  std::string out;
  for (const auto& [socket, c] : conns_) {
    if (c.kind == Kind::kListener) continue;
    const Stream* s = c.knows_stream ? context_.checks.streams().find(c.stream) : nullptr;
    out += fmt::format("{}socket {} ({}{}{}{}, stream {:x})", out.empty() ? "" : ", ", socket,
                       c.kind == Kind::kConnecting ? "connecting" : c.kind == Kind::kConnector ? "connector" : "acceptor",
                       c.write_over ? ", write over" : "", c.read_over ? ", read over" : "", c.can_read ? ", readable" : "", s == nullptr ? 0 : s->id);
    out += describe_socket(socket);
    if (s != nullptr) out += fmt::format(" forth {}/{}{} back {}/{}{}", s->forth.received, s->forth.sent, s->forth.ended ? " ended" : "", s->back.received, s->back.sent, s->back.ended ? " ended" : "");
  }
  for (const auto& [socket, closing] : closing_)
    out += fmt::format("{}closing socket {} (stream {:x}){}", out.empty() ? "" : ", ", socket, closing.stream, describe_socket(socket));
  return out;
}

}  // namespace stp::sim
