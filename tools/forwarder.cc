#include "tools/forwarder.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

namespace stp::forward {
namespace {

using namespace std::chrono_literals;
constexpr int kBacklog = 256;
constexpr int kAcceptsOfATurn = 64;
constexpr auto kRest = 100ms;
constexpr auto kQuiet = 10s;
constexpr int kLinesAWhile = 50;  // of connections that failed, for each endpoint: whoever may connect must not fill the journal
constexpr auto kWhile = 5s;

// What comes in small pieces goes on at once, and a peer that vanished is found out in the end. Unix sockets need neither.
void set_options(int fd) {
  const int on = 1;
  (void)::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  (void)::setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
}

void reset(UniqueFd fd) {
  const linger at_once = {.l_onoff = 1, .l_linger = 0};
  if (fd) (void)::setsockopt(fd.get(), SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
}

// That connection's own trouble, which it had while it waited in the queue.
bool of_the_connection(int error) {
  return error == ECONNABORTED || error == ECONNRESET || error == EPROTO || error == EPERM || error == EINTR || error == ENETUNREACH ||
         error == EHOSTUNREACH || error == EHOSTDOWN;
}

}  // namespace

Forwarder::Forwarder(EventLoop& loop, Limits limits, Say say) : loop_(loop), limits_(limits), say_(std::move(say)), resolver_(loop) {}

Forwarder::~Forwarder() {
  for (auto& [id, endpoint] : endpoints_)
    if (endpoint.watched >= 0) loop_.forget(endpoint.watched);
  // Taken out first: a relay that ends finds nobody to tell.
  for (auto& [id, connection] : std::exchange(connections_, {})) {
    reset(std::move(connection.kernel));
    if (connection.relay) connection.relay->abort();
  }
}

// -- Endpoints -----------------------------------------------------------------------------------------------------

std::map<Forwarder::Id, Forwarder::Endpoint>::iterator Forwarder::find_listening(const ForwardSpec& spec) {
  return std::ranges::find_if(endpoints_, [&](const auto& each) { return each.second.row.listening && each.second.row.spec == spec; });
}

Result<void> Forwarder::add(const ForwardSpec& spec) {
  if (find_listening(spec) != endpoints_.end()) return fail(EEXIST, fmt::format("{} is served already", to_string(spec)));
  if (endpoints_.size() >= limits_.endpoints)
    return fail(ENOSPC,
                fmt::format("{}: {} endpoints are served already, which is the limit; remove one", to_string(spec), endpoints_.size()));
  Endpoint endpoint;
  endpoint.row.spec = spec;
  const auto listening = spec.direction == Direction::kRemote ? listen_on_stp(endpoint) : listen_on_kernel(endpoint);
  if (!listening) return fail(listening.error().code, fmt::format("{}: {}", to_string(spec), listening.error().text));
  const Id id = next_id_++;
  const int watched = endpoint.watched;
  endpoints_.emplace(id, std::move(endpoint));
  if (loop_.watch(watched, EPOLLIN, [this, id](std::uint32_t) { accept_some(id); })) return {};
  const int error = errno;
  endpoints_.erase(id);
  return fail(error, fmt::format("{}: {}", to_string(spec), std::strerror(error)));
}

Result<void> Forwarder::listen_on_kernel(Endpoint& endpoint) {
  auto listener = KernelListener::open(endpoint.row.spec.kernel);
  if (!listener) return std::unexpected(listener.error());
  endpoint.watched = listener->fd();
  endpoint.kernel.emplace(std::move(*listener));
  return {};
}

Result<void> Forwarder::listen_on_stp(Endpoint& endpoint) {
  endpoint.stp.reset(STPsocket(AF_STP, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  const int s = endpoint.stp.get();
  if (s < 0) return fail(errno, stp_words(-1, errno));
  sockaddr_stp address = {};
  address.stp_family = AF_STP;
  address.stp_port = htons(endpoint.row.spec.stp.port);
  const bool listening = STPbind(s, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0 && STPlisten(s, kBacklog) == 0;
  endpoint.watched = listening ? STPgetpollfd(s, POLLIN) : -1;
  if (endpoint.watched < 0) return fail(errno, stp_words(s, errno));
  return {};
}

Result<void> Forwarder::remove(const ForwardSpec& spec) {
  const auto it = find_listening(spec);
  if (it == endpoints_.end()) return fail(ENOENT, fmt::format("{} is not served; \"list\" shows what is", to_string(spec)));
  Endpoint& endpoint = it->second;
  loop_.forget(std::exchange(endpoint.watched, -1));
  endpoint.kernel.reset();
  endpoint.stp.reset();
  endpoint.row.listening = false;
  if (endpoint.row.open == 0) endpoints_.erase(it);
  return {};
}

std::vector<Forwarder::Row> Forwarder::rows() const {
  std::map<Id, Row> rows;
  for (const auto& [id, endpoint] : endpoints_) rows[id] = endpoint.row;
  for (const auto& [id, connection] : connections_) {
    if (!connection.relay) continue;
    const Relay::Totals& totals = connection.relay->totals();
    rows[connection.endpoint].to_stp += totals.to_stp;
    rows[connection.endpoint].from_stp += totals.from_stp;
  }
  std::vector<Row> out;
  for (auto& [id, row] : rows) out.push_back(std::move(row));
  return out;
}

// -- Accepting -----------------------------------------------------------------------------------------------------

void Forwarder::accept_some(Id id) {
  for (int i = 0, in_vain = 0; i < kAcceptsOfATurn; ++i) {
    const auto it = endpoints_.find(id);
    if (it == endpoints_.end() || it->second.watched < 0) return;
    if (connections_.size() >= limits_.connections)
      return rest(id, fmt::format("{} connections are open, which is the limit; further ones wait", limits_.connections));
    Endpoint& endpoint = it->second;
    const int fd = accept_one(endpoint);
    const int error = errno;
    if (fd < 0 && of_the_connection(error) && ++in_vain < kAcceptsOfATurn) continue;
    if (fd < 0 && (error == EAGAIN || error == EWOULDBLOCK)) return;
    if (fd < 0) return rest(id, endpoint.stp ? stp_words(endpoint.stp.get(), error) : std::strerror(error));
    ++endpoint.row.open;
    ++endpoint.row.total;
    endpoint.stp ? begin_from_stp(id, StpSocket(fd)) : begin_from_kernel(id, UniqueFd(fd));
  }
}

int Forwarder::accept_one(Endpoint& endpoint) {
  if (endpoint.stp) return STPaccept4(endpoint.stp.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
  return ::accept4(endpoint.kernel->fd(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
}

// Too much of something, or no agent for the moment: the next one waits in the queue, and the processor is left in peace.
void Forwarder::rest(Id id, const std::string& why) {
  Endpoint& endpoint = endpoints_.at(id);
  const auto now = EventLoop::Clock::now();
  if (now >= endpoint.quiet_until) say_(fmt::format("{}: can not accept for the moment: {}", to_string(endpoint.row.spec), why));
  endpoint.quiet_until = now + kQuiet;
  loop_.change(endpoint.watched, 0);
  loop_.after(kRest, [this, id, alive = std::weak_ptr(alive_)] {
    if (alive.expired()) return;
    const auto it = endpoints_.find(id);
    if (it != endpoints_.end() && it->second.watched >= 0) loop_.change(it->second.watched, EPOLLIN);
  });
}

// -- Connections ---------------------------------------------------------------------------------------------------

void Forwarder::begin_from_kernel(Id endpoint_id, UniqueFd client) {
  const Id id = next_id_++;
  const ForwardSpec& spec = endpoints_.at(endpoint_id).row.spec;
  set_options(client.get());
  Connection& fresh = connections_[id];
  fresh.endpoint = endpoint_id;
  if (spec.direction == Direction::kDynamic) {
    fresh.door =
        Socks5Door::start(loop_, std::move(client), [this, id](Result<StpAddress> destination) { asked(id, std::move(destination)); });
  } else {
    fresh.kernel = std::move(client);
    dial_stp(id, spec.stp);
  }
}

void Forwarder::begin_from_stp(Id endpoint_id, StpSocket client) {
  const Id id = next_id_++;
  Connection& fresh = connections_[id];
  fresh.endpoint = endpoint_id;
  fresh.stp = std::move(client);
  fresh.kernel_dial = KernelDial::start(loop_, resolver_, endpoints_.at(endpoint_id).row.spec.kernel,
                                        [this, id](Result<UniqueFd> fd) { kernel_dialled(id, std::move(fd)); });
}

void Forwarder::dial_stp(Id id, const StpAddress& to) {
  connection(id).stp_dial = StpDial::start(loop_, to, [this, id](Result<StpSocket> socket) { stp_dialled(id, std::move(socket)); });
}

void Forwarder::asked(Id id, Result<StpAddress> destination) {
  if (destination) return dial_stp(id, *destination);
  failed(id, destination.error().text);
  over(id);
}

void Forwarder::stp_dialled(Id id, Result<StpSocket> socket) {
  connection(id).stp_dial.reset();
  Connection& mine = connection(id);
  if (!socket) {
    failed(id, socket.error().text);
    if (mine.door) return mine.door->refuse(socks_reply_for(socket.error().code), [this, id] { over(id); });
    reset(std::move(mine.kernel));
    return over(id);
  }
  if (!mine.door) return carry(id, std::move(mine.kernel), std::move(*socket));
  auto client = mine.door->grant();
  if (client) return carry(id, std::move(*client), std::move(*socket));
  failed(id, client.error().text);
  over(id);
}

void Forwarder::kernel_dialled(Id id, Result<UniqueFd> fd) {
  Connection& mine = connection(id);
  mine.kernel_dial.reset();
  if (fd) {
    set_options(fd->get());
    return carry(id, std::move(*fd), std::move(mine.stp));
  }
  failed(id, fd.error().text);
  over(id);  // and the peer is reset
}

void Forwarder::carry(Id id, UniqueFd kernel, StpSocket stp) {
  connection(id).door.reset();
  const KernelSide side = endpoint_of(id).row.spec.kernel.path.empty() ? KernelSide::kTcp : KernelSide::kUnix;
  auto relay = Relay::start(loop_, std::move(kernel), side, stp.release(),
                            [this, id](const Relay::Totals& totals, bool in_good_order) { ended(id, totals, in_good_order); });
  // It may have ended already.
  if (const auto it = connections_.find(id); it != connections_.end()) it->second.relay = std::move(relay);
}

void Forwarder::failed(Id id, const std::string& why) {
  Endpoint& endpoint = endpoint_of(id);
  ++endpoint.row.failed;
  const auto now = EventLoop::Clock::now();
  if (now >= endpoint.while_until) {
    if (endpoint.lines > kLinesAWhile) say_(fmt::format("{}: {} more failed", to_string(endpoint.row.spec), endpoint.lines - kLinesAWhile));
    endpoint.while_until = now + kWhile;
    endpoint.lines = 0;
  }
  if (++endpoint.lines <= kLinesAWhile) say_(fmt::format("{}: {}", to_string(endpoint.row.spec), why));
}

void Forwarder::over(Id id) {
  const auto it = connections_.find(id);
  if (it == connections_.end()) return;
  const auto endpoint = endpoints_.find(it->second.endpoint);
  connections_.erase(it);
  if (--endpoint->second.row.open == 0 && !endpoint->second.row.listening) endpoints_.erase(endpoint);
}

void Forwarder::ended(Id id, const Relay::Totals& totals, bool in_good_order) {
  const auto it = connections_.find(id);
  if (it == connections_.end()) return;
  Row& row = endpoint_of(id).row;
  row.to_stp += totals.to_stp;
  row.from_stp += totals.from_stp;
  if (!it->second.relay)
    failed(id, "the connection was made, and can not be watched: there are too few descriptors (ulimit -n)");
  else
    row.broken += in_good_order ? 0 : 1;
  over(id);
}

}  // namespace stp::forward
