#include "fuse/conversation.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <poll.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "fuse/conversations.h"

namespace stp::view {
namespace {

constexpr int kBacklog = 128;
constexpr std::uint16_t kFirstFreePort = 1024;  // those below are root's, as with the agent

std::string text_of(const sockaddr_stp& address) {
  return fmt::format("{}!{}", std::string_view(address.stp_system, ::strnlen(address.stp_system, sizeof address.stp_system)),
                     ntohs(address.stp_port));
}

std::string own_address(int socket) {
  sockaddr_stp address = {};
  socklen_t length = sizeof address;
  return STPgetsockname(socket, reinterpret_cast<sockaddr*>(&address), &length) == 0 ? text_of(address) : std::string();
}

std::string peer_address(int socket) {
  sockaddr_stp address = {};
  socklen_t length = sizeof address;
  return STPgetpeername(socket, reinterpret_cast<sockaddr*>(&address), &length) == 0 ? text_of(address) : std::string();
}

// What a socket can not be had for.
int no_socket() {
  const int error = errno;
  const int reason = STPerror(-1);
  return reason == STP_EAGENT || reason == STP_ENOTJOINED ? ENOTCONN : error;
}

int no_agent() {
  const StpSocket probe(STPsocket(AF_STP, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  return probe ? 0 : no_socket();
}

std::string line(const std::string& text) { return text.empty() ? text : text + "\n"; }

}  // namespace

Held::~Held() {
  if (conversation_) conversation_->let_go();
}

Conversation::Conversation(std::weak_ptr<Conversations> all, Loops loops, std::uint32_t number, Owner owner)
    : all_(std::move(all)), loops_(std::move(loops)), number_(number), owner_(owner) {}

// Whatever is left is to be taken down where it was made.
Conversation::~Conversation() {
  if (!dial_ && !listener_) return;
  loops_.calls->post([loop = loops_.calls.get(), dial = std::move(dial_), socket = listener_.release(), fd = watched_]() {
    if (fd >= 0) loop->forget(fd);
    if (socket >= 0) (void)STPclose(socket);
  });
}

// -- Alive ---------------------------------------------------------------------------------------------------------

Held Conversation::hold() {
  std::lock_guard lock(mutex_);
  if (over_) return {};
  ++files_;
  return Held(shared_from_this());
}

void Conversation::let_go() {
  {
    std::lock_guard lock(mutex_);
    if (--files_ != 0) return;
    over_ = true;
  }
  if (const auto all = all_.lock()) all->remove(number_);
  loops_.clock->post([self = shared_from_this()] { self->close(ECONNABORTED); });
}

void Conversation::hang_up() {
  {
    std::lock_guard lock(mutex_);
    state_ = State::kHungUp;
  }
  note("the conversation was hung up");
  loops_.clock->post([self = shared_from_this()] { self->close(ECONNABORTED); });
}

// By the clock.
void Conversation::close(int error) {
  std::deque<Accept> accepts;
  Done connected;
  std::shared_ptr<DataStream> stream;
  {
    std::lock_guard lock(mutex_);
    accepts.swap(accepts_);
    connected = std::exchange(connected_, nullptr);
    stream = stream_;
    state_ = State::kHungUp;
  }
  loops_.calls->post([self = shared_from_this()] { self->let_sockets_go(); });
  if (connected) connected(error);
  for (const Accept& each : accepts) each.accepted(error, {});
  if (stream) stream->end(error);
}

// In the thread of the calls.
void Conversation::let_sockets_go() {
  dial_.reset();
  if (watched_ >= 0) loops_.calls->forget(std::exchange(watched_, -1));
  if (listener_) (void)STPclose(listener_.release());
  const Held unclaimed = std::move(unclaimed_);
}

// -- Connecting ----------------------------------------------------------------------------------------------------

int Conversation::refuse(int error, std::string words) {
  note(std::move(words));
  return error;
}

// Under the lock.
int Conversation::unless_idle() const {
  switch (state_) {
    case State::kIdle:
      return 0;
    case State::kConnecting:
    case State::kAnnouncing:
      return EALREADY;
    case State::kEstablished:
      return EISCONN;
    case State::kAnnounced:
    case State::kHungUp:
      return EINVAL;
  }
  return EINVAL;
}

void Conversation::connect(std::shared_ptr<Request> request, StpAddress to, Done done) {
  std::uint64_t id = 0;
  std::chrono::milliseconds timeout{0};
  {
    std::unique_lock lock(mutex_);
    if (const int error = unless_idle(); error != 0) {
      lock.unlock();
      return done(refuse(error, "connect: the conversation is in use already; open clone for another one"));
    }
    state_ = State::kConnecting;
    connecting_id_ = id = next_id_++;
    connected_ = std::move(done);
    timeout = timeout_;
  }
  const auto stop = [weak = weak_from_this(), id](int error) {
    if (const auto self = weak.lock()) self->stop_dialling(id, error);
  };
  const bool waits = request->on_interrupt([clock = loops_.clock, stop] { clock->post([stop] { stop(EINTR); }); });
  if (!waits) return stop(EINTR);
  loops_.calls->post([self = shared_from_this(), to = std::move(to), id] { self->dial(to, id); });
  if (timeout.count() != 0) loops_.later(timeout, [stop] { stop(ETIMEDOUT); });
}

void Conversation::dial(StpAddress to, std::uint64_t id) {
  {
    std::lock_guard lock(mutex_);
    if (state_ != State::kConnecting || connecting_id_ != id) return;
  }
  // Without an agent it fails at once. StpDial would try for a while, which is right for a host that has just come.
  if (const int error = no_agent(); error != 0) {
    note(stp_words(-1, error));
    return stop_dialling(id, error);
  }
  dial_ = StpDial::start(*loops_.calls, std::move(to), [weak = weak_from_this(), id](Result<StpSocket> socket) {
    if (const auto self = weak.lock()) self->dialled(id, std::move(socket));
  });
}

void Conversation::dialled(std::uint64_t id, Result<StpSocket> socket) {
  const int error = socket ? adopt(std::move(*socket), State::kConnecting, id) : socket.error().code;
  Done done;
  {
    std::lock_guard lock(mutex_);
    if (connecting_id_ != id) return;  // it was given up
    if (error != 0 && state_ == State::kConnecting) state_ = State::kIdle;
    done = std::exchange(connected_, nullptr);
  }
  dial_.reset();
  if (!done) return;
  if (!socket) note(socket.error().text);
  done(error);
}

// Any thread.
void Conversation::stop_dialling(std::uint64_t id, int error) {
  Done done;
  {
    std::lock_guard lock(mutex_);
    if (state_ != State::kConnecting || connecting_id_ != id) return;
    state_ = State::kIdle;
    done = std::exchange(connected_, nullptr);
  }
  loops_.calls->post([self = shared_from_this()] { self->dial_.reset(); });  // ahead of the next one's
  if (error == ETIMEDOUT || error == EINTR)
    note(fmt::format("connect: {}", error == ETIMEDOUT ? "no answer within the timeout that was set" : "interrupted"));
  if (done) done(error);
}

// A connected socket, in the thread of the calls. ECONNABORTED: nobody waits for it any more.
int Conversation::adopt(StpSocket socket, State before, std::uint64_t connecting_id) {
  std::string local = own_address(socket.get()), remote = peer_address(socket.get());
  // A stream outlives its conversation only to be taken down.
  auto stream = DataStream::make(loops_, std::move(socket), [weak = weak_from_this()](std::string words) {
    if (const auto self = weak.lock()) self->note(std::move(words));
  });
  if (!stream) return refuse(stream.error().code, stream.error().text);
  std::lock_guard lock(mutex_);
  if (state_ != before || connecting_id_ != connecting_id) return ECONNABORTED;
  (*stream)->set_timeout(timeout_);
  stream_ = std::move(*stream);
  local_ = std::move(local);
  remote_ = std::move(remote);
  state_ = State::kEstablished;
  return 0;
}

// -- Announcing ----------------------------------------------------------------------------------------------------

void Conversation::announce(std::uint16_t port, Done done) {
  int error = 0;
  {
    std::lock_guard lock(mutex_);
    error = unless_idle();
    if (error == 0 && port != 0 && port < kFirstFreePort && owner_.user != 0)
      error = EACCES;
    else if (error == 0)
      state_ = State::kAnnouncing;
  }
  if (error == EACCES) return done(refuse(error, fmt::format("announce: port {} is root's, as all below {}", port, kFirstFreePort)));
  if (error != 0) return done(refuse(error, "announce: the conversation is in use already; open clone for another one"));
  loops_.calls->post([self = shared_from_this(), port, done = std::move(done)] {
    const auto listening = self->listen(port);
    if (!listening) self->note(listening.error().text);
    bool hung_up = false;
    {
      std::lock_guard lock(self->mutex_);
      hung_up = self->state_ != State::kAnnouncing;
      if (!hung_up) self->state_ = listening ? State::kAnnounced : State::kIdle;
    }
    if (hung_up) self->let_sockets_go();
    done(hung_up ? ECONNABORTED : listening ? 0 : listening.error().code);
  });
}

Result<void> Conversation::listen(std::uint16_t port) {
  const auto failed = [](int socket) {
    const int code = errno;
    return fail(code, stp_words(socket, code));
  };
  StpSocket socket(STPsocket(AF_STP, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!socket) return fail(no_socket(), stp_words(-1, errno));
  sockaddr_stp mine = {};
  mine.stp_family = AF_STP;
  mine.stp_port = htons(port);
  const int s = socket.get();
  if (STPbind(s, reinterpret_cast<const sockaddr*>(&mine), sizeof mine) != 0 || STPlisten(s, kBacklog) != 0) return failed(s);
  const int fd = STPgetpollfd(s, POLLIN);
  if (fd < 0) return failed(s);
  // Edges: see DataStream.
  const bool watching = loops_.calls->watch(fd, EPOLLIN | EPOLLET, [weak = weak_from_this()](std::uint32_t) {
    if (const auto self = weak.lock()) self->take_connections();
  });
  if (!watching) return failed(s);
  watched_ = fd;
  listener_ = std::move(socket);
  std::string local = own_address(s);
  std::lock_guard lock(mutex_);
  local_ = std::move(local);
  return {};
}

void Conversation::accept(std::shared_ptr<Request> request, bool wait, Accepted accepted) {
  std::uint64_t id = 0;
  std::chrono::milliseconds timeout{0};
  {
    std::unique_lock lock(mutex_);
    if (state_ != State::kAnnounced) {
      lock.unlock();
      return accepted(refuse(EINVAL, "listen: announce a port first"), {});
    }
    id = next_id_++;
    accepts_.push_back({.id = id, .request = request, .accepted = std::move(accepted)});
    timeout = timeout_;
  }
  const auto stop = [weak = weak_from_this(), id](int error) {
    if (const auto self = weak.lock()) self->stop_accepting(id, error);
  };
  const bool waits = request->on_interrupt([clock = loops_.clock, stop] { clock->post([stop] { stop(EINTR); }); });
  if (!waits) return stop(EINTR);
  loops_.calls->post([self = shared_from_this(), id, wait] {
    self->take_connections();
    if (!wait) self->stop_accepting(id, EAGAIN);
  });
  if (wait && timeout.count() != 0) loops_.later(timeout, [stop] { stop(ETIMEDOUT); });
}

void Conversation::take_connections() {
  if (!listener_) return;
  (void)STPgetpollfd(listener_.get(), POLLIN);  // sets the descriptor to what is true
  for (;;) {
    {
      std::lock_guard lock(mutex_);
      if (accepts_.empty()) return;
    }
    Held conversation = std::move(unclaimed_);
    const int error = conversation ? 0 : next_connection(conversation);
    if (error == EAGAIN) return;
    std::unique_lock lock(mutex_);
    if (accepts_.empty()) {
      unclaimed_ = std::move(conversation);
      return;
    }
    const Accept first = std::move(accepts_.front());
    accepts_.pop_front();
    lock.unlock();
    first.accepted(error, std::move(conversation));
  }
}

int Conversation::next_connection(Held& out) {
  for (;;) {
    StpSocket socket(STPaccept4(listener_.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (!socket) {
      // Of a connection that broke while it waited: its own trouble.
      if (errno == EINTR || errno == ECONNABORTED || errno == ECONNRESET) continue;
      const int error = errno;
      return error == EAGAIN ? error : refuse(error, stp_words(listener_.get(), error));
    }
    const auto all = all_.lock();
    Held made = all ? all->make(owner_) : Held();
    if (!made) return refuse(ENFILE, "listen: too many conversations");
    {
      std::scoped_lock both(mutex_, made->mutex_);
      made->timeout_ = timeout_;
    }
    if (const int error = made->adopt(std::move(socket), State::kIdle, 0); error != 0) return refuse(error, made->error());
    out = std::move(made);
    return 0;
  }
}

// Any thread.
void Conversation::stop_accepting(std::uint64_t id, int error) {
  std::unique_lock lock(mutex_);
  const auto it = std::ranges::find(accepts_, id, &Accept::id);
  if (it == accepts_.end()) return;
  const Accept over = std::move(*it);
  accepts_.erase(it);
  lock.unlock();
  if (error == ETIMEDOUT) note("listen: nobody came within the timeout that was set");
  over.accepted(error, {});
}

bool Conversation::announced() const {
  std::lock_guard lock(mutex_);
  return state_ == State::kAnnounced;
}

// -- Talking -------------------------------------------------------------------------------------------------------

std::shared_ptr<DataStream> Conversation::stream() const {
  std::lock_guard lock(mutex_);
  return stream_;
}

void Conversation::set_timeout(std::chrono::milliseconds span) {
  std::shared_ptr<DataStream> stream;
  {
    std::lock_guard lock(mutex_);
    timeout_ = span;
    stream = stream_;
  }
  if (stream) stream->set_timeout(span);
}

int Conversation::end_sending() {
  const auto stream = this->stream();
  if (!stream) return refuse(ENOTCONN, "shutdown: the conversation is not connected");
  stream->end_sending();
  return 0;
}

void Conversation::add_writer() {
  std::lock_guard lock(mutex_);
  ++writers_;
}

void Conversation::remove_writer() {
  std::shared_ptr<DataStream> last;
  {
    std::lock_guard lock(mutex_);
    if (--writers_ == 0) last = stream_;
  }
  if (last) last->end_sending();
}

// -- Texts ---------------------------------------------------------------------------------------------------------

void Conversation::note(std::string words) {
  std::lock_guard lock(words_mutex_);
  words_ = std::move(words);
}

std::string Conversation::error() const {
  std::lock_guard lock(words_mutex_);
  return line(words_);
}

std::string Conversation::local() const {
  std::lock_guard lock(mutex_);
  return line(local_);
}

std::string Conversation::remote() const {
  std::lock_guard lock(mutex_);
  return line(remote_);
}

std::string Conversation::status() const {
  std::unique_lock lock(mutex_);
  const auto stream = stream_;
  const State state = state_;
  const std::size_t waiting = accepts_.size();
  lock.unlock();
  if (stream && state == State::kEstablished) {
    const std::uint32_t events = stream->poll(nullptr, nullptr);
    const char* word = (events & POLLERR) != 0     ? "broken"
                       : (events & POLLHUP) != 0   ? "ended"
                       : (events & POLLRDHUP) != 0 ? "ended-by-peer"
                                                   : "established";
    return fmt::format("{} read {} written {}\n", word, stream->bytes_read(), stream->bytes_written());
  }
  switch (state) {
    case State::kConnecting:
      return "connecting\n";
    case State::kAnnouncing:
    case State::kAnnounced:
      return fmt::format("announced waiting {}\n", waiting);
    case State::kHungUp:
      return "hung-up\n";
    default:
      return "idle\n";
  }
}

}  // namespace stp::view
