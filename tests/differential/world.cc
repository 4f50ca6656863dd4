#include "tests/differential/world.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <string_view>
#include <utility>
#include <vector>

namespace stp::differential {
namespace {

volatile sig_atomic_t signals_seen = 0;
constexpr short kAsked = POLLIN | POLLOUT | POLLPRI | POLLRDHUP;
constexpr int kUnknown = 9999;  // an option, a level, a command that there is not

const char* error_name(int error) {
  const char* name = ::strerrorname_np(error);
  return name != nullptr ? name : "?";
}

// Bytes that tell which send they are of, and where in it.
std::vector<char> data_of(std::uint32_t seed, std::size_t size) {
  std::vector<char> data(size);
  for (std::size_t i = 0; i < size; ++i) data[i] = static_cast<char>((seed + i * 2654435761u) >> 13);
  return data;
}

std::string data_words(const char* data, std::size_t size) { return fmt::format("{} bytes {:x}", size, std::hash<std::string_view>()({data, size})); }

std::string event_words(short events) {
  constexpr std::pair<short, const char*> kEvents[] = {{POLLIN, "IN"},   {POLLOUT, "OUT"},   {POLLPRI, "PRI"}, {POLLRDHUP, "RDHUP"},
                                                      {POLLERR, "ERR"}, {POLLHUP, "HUP"}, {POLLNVAL, "NVAL"}};
  std::string words;
  for (const auto& [bit, name] : kEvents)
    if ((events & bit) != 0) words += (words.empty() ? "" : "|") + std::string(name);
  return words.empty() ? "-" : words;
}

}  // namespace

std::string to_string(const Outcome& o) {
  std::string words = o.result == -1 ? error_name(o.error) : std::to_string(o.result);
  if (!o.detail.empty()) words += " (" + o.detail + ")";
  if (o.signals != 0) words += fmt::format(" SIGPIPE x{}", o.signals);
  return words;
}

std::string to_string(const State& state) { return fmt::format("{} {}", event_words(state.events), state.readable); }

void count_signals() {
  struct sigaction action = {};
  action.sa_handler = [](int) { signals_seen = signals_seen + 1; };
  (void)::sigaction(SIGPIPE, &action, nullptr);
}

// An address as the call passes it.
struct World::Given {
  Written written;
  const sockaddr* pointer() const { return null ? nullptr : reinterpret_cast<const sockaddr*>(&written.address); }
  bool null = false;
};

World::World(const Api& api, int first_port) : api_(api), first_port_(first_port), file_(::open("/dev/null", O_RDWR | O_CLOEXEC)) {}

World::~World() { (void)::close(file_); }

int World::fd(int slot) const {
  if (slot == kNotOpen) return 100000;
  if (slot == kOrdinaryFile) return file_;
  return slot < kSlots ? fds_[static_cast<std::size_t>(slot)] : -1;
}

World::Written World::internet_address(in_addr_t ip, int port) {
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<std::uint16_t>(port));
  address.sin_addr.s_addr = ip;
  Written written{.address = {}, .length = sizeof address};
  std::memcpy(&written.address, &address, sizeof address);
  return written;
}

int World::port_number(int index) const { return index == kNoPort ? 0 : index == kLowPort ? 1 + first_port_ % 1000 : first_port_ + index; }

World::Given World::given_address(const Call& call) const {
  const auto fault = static_cast<Fault>(call.b);
  Given given{write_address(port_number(call.a), fault != Fault::kNotMine)};
  if (fault == Fault::kShort) given.written.length = 8;
  if (fault == Fault::kFamily) given.written.address.ss_family = AF_UNIX;
  if (fault == Fault::kNull) given.null = true;
  if (fault == Fault::kEmpty) given.written.length = 0;
  if (fault == Fault::kTooLong) given.written.length = sizeof given.written.address + 1;
  return given;
}

// Of a name of the slot `about`. The kernel gives two sockets one port where their peers are others: the slot itself and its peer come first.
std::string World::port_words(in_port_t port, int about) const {
  const int number = ntohs(port);
  if (number == 0) return "0";
  for (int index = 0; index <= kLowPort; ++index)
    if (number == port_number(index)) return fmt::format("#{}", index);
  const auto has = [&](int slot) { return slot >= 0 && holds(slot) && port_by(api_.getsockname, slot) == port; };
  for (const int slot : {about, slot_of_peer(about)})
    if (has(slot)) return fmt::format("of slot {}", slot);
  for (int slot = 0; slot < kSlots; ++slot)
    if (has(slot)) return fmt::format("of slot {}", slot);
  return "other";
}

std::optional<in_port_t> World::port_by(int (*function)(int, sockaddr*, socklen_t*), int slot) const {
  sockaddr_storage address = {};
  socklen_t length = sizeof address;
  if (function(fd(slot), reinterpret_cast<sockaddr*>(&address), &length) != 0) return std::nullopt;
  return reinterpret_cast<const sockaddr_in&>(address).sin_port;
}

Outcome World::outcome(long result, std::string detail) const {
  return {.result = result, .error = result == -1 ? errno : 0, .signals = 0, .from = -1, .detail = std::move(detail)};
}

Outcome World::perform(const Call& call, const Plan& plan) {
  const int before = signals_seen;
  if (plan.notice) notice(call.slot);
  errno = 0;
  Outcome done;
  switch (call.op) {
    case Op::kSocket: done = make_socket(call, plan); break;
    case Op::kBind: {
      const Given given = given_address(call);
      done = outcome(bind(call.slot, given.pointer(), given.written.length, call.a));
      break;
    }
    case Op::kListen: done = outcome(listen(call.slot, call.a)); break;
    case Op::kConnect: {
      const Given given = given_address(call);
      done = outcome(api_.connect(fd(call.slot), given.pointer(), given.written.length));
      break;
    }
    case Op::kAccept: done = accept(call, plan); break;
    case Op::kSend: done = send(call, plan); break;
    case Op::kRecv: done = receive(call, plan); break;
    case Op::kWritev:
    case Op::kReadv: done = vector(call); break;
    case Op::kShutdown: done = outcome(shutdown(call.slot, call.a)); break;
    case Op::kClose:
      done = outcome(api_.close(fd(call.slot)));
      if (holds(call.slot)) forget(call.slot);
      if (holds(call.slot)) fds_[static_cast<std::size_t>(call.slot)] = -1;
      break;
    case Op::kSockname: done = named(call, api_.getsockname); break;
    case Op::kPeername: done = named(call, api_.getpeername); break;
    case Op::kGetOption: done = get_option(call); break;
    case Op::kSetOption: done = set_option(call); break;
    case Op::kFcntl: done = fcntl(call); break;
    case Op::kIoctl: done = ioctl(call); break;
    case Op::kSelect: done = select(call); break;
    case Op::kPoll: done = poll(call); break;
    case Op::kFill: done = fill(call, plan); break;
  }
  done.signals = signals_seen - before;
  return done;
}

Outcome World::make_socket(const Call& call, const Plan& plan) {
  const int domain = call.a == 2 ? 0x5355 : api_.domain;
  const int type = call.a == 3 ? SOCK_RDM + 3 : call.a == 4 ? 15 : SOCK_STREAM | (call.a == 0 ? SOCK_NONBLOCK : call.a == 6 ? 0x100000 : 0);
  const int protocol = call.a == 5 ? IPPROTO_UDP : 0;
  const int made = api_.socket(domain, type, protocol);
  if (made < 0) return outcome(-1);
  fds_[static_cast<std::size_t>(plan.target)] = made;
  this->made(plan.target);
  return outcome(0);
}

Outcome World::accept(const Call& call, const Plan& plan) {
  constexpr int kFlags[] = {0, SOCK_NONBLOCK, SOCK_CLOEXEC, O_APPEND};
  sockaddr_storage address = {};
  const Written whole = write_address(0, true);
  socklen_t length = call.b == 2 ? 4 : call.b == 3 ? static_cast<socklen_t>(-1) : sizeof address;
  sockaddr* const into = call.b == 0 ? nullptr : reinterpret_cast<sockaddr*>(&address);
  const int made = api_.accept4(fd(call.slot), into, call.b == 4 ? nullptr : &length, kFlags[call.a]);
  if (made < 0) return outcome(-1);
  fds_[static_cast<std::size_t>(plan.target)] = made;
  this->made(plan.target);
  std::string detail;
  if (into != nullptr)
    detail = fmt::format("family {} port {} whole {}", address.ss_family == api_.domain, port_words(reinterpret_cast<sockaddr_in&>(address).sin_port, plan.target),
                         length == whole.length);
  Outcome done = outcome(0, std::move(detail));
  done.from = slot_of_peer(plan.target);
  return done;
}

// Who is at the other end, by the ports: one whose peer this one is, unless it has forgotten that.
int World::slot_of_peer(int slot) const {
  const auto peer = port_by(api_.getpeername, slot), mine = port_by(api_.getsockname, slot);
  int found = -1;
  for (int other = 0; peer && other < kSlots; ++other) {
    if (other == slot || !holds(other) || port_by(api_.getsockname, other) != peer) continue;
    const auto others = port_by(api_.getpeername, other);
    if (others == mine) return other;
    if (!others && found < 0) found = other;
  }
  return found;
}

Outcome World::named(const Call& call, int (*function)(int, sockaddr*, socklen_t*)) {
  const auto fault = static_cast<Fault>(call.a);
  sockaddr_storage address = {};
  const Written whole = write_address(0, true);
  socklen_t length = fault == Fault::kShort ? 4 : fault == Fault::kEmpty ? 0 : fault == Fault::kFamily ? static_cast<socklen_t>(-1) : sizeof address;
  sockaddr* const into = fault == Fault::kNull ? nullptr : reinterpret_cast<sockaddr*>(&address);
  const int result = function(fd(call.slot), into, fault == Fault::kNotMine ? nullptr : &length);
  if (result != 0) return outcome(result);
  return outcome(0, fmt::format("family {} port {} whole {}", address.ss_family == api_.domain || fault == Fault::kEmpty,
                                port_words(reinterpret_cast<sockaddr_in&>(address).sin_port, call.slot), length == whole.length));
}

Outcome World::send(const Call& call, const Plan& plan) {
  constexpr int kFlags[] = {MSG_NOSIGNAL, 0, MSG_DONTWAIT | MSG_NOSIGNAL, MSG_NOSIGNAL};
  const std::vector<char> data = data_of(call.seed, static_cast<std::size_t>(call.a) + 1);
  const int flags = kFlags[call.b] | (plan.at_once ? MSG_DONTWAIT : 0);
  return outcome(api_.send(fd(call.slot), call.b == 3 ? nullptr : data.data(), static_cast<std::size_t>(call.a), flags));
}

Outcome World::receive(const Call& call, const Plan& plan) {
  constexpr int kFlags[] = {0, MSG_DONTWAIT, MSG_PEEK, MSG_WAITALL, MSG_PEEK | MSG_DONTWAIT, MSG_PEEK | MSG_WAITALL, 0};
  std::vector<char> into(static_cast<std::size_t>(call.a) + 1);
  const int flags = kFlags[call.b] | (plan.at_once ? MSG_DONTWAIT : 0);
  const ssize_t got = api_.recv(fd(call.slot), call.b == 6 ? nullptr : into.data(), static_cast<std::size_t>(call.a), flags);
  return outcome(got, got > 0 ? data_words(into.data(), static_cast<std::size_t>(got)) : "");
}

struct World::Vector {
  explicit Vector(const Call& call) {
    constexpr int kSizes[3][3] = {{10, 0, 1000}, {1, 1, 1}, {5000, 0, 0}};
    if (call.a == 0) count = 0;
    if (call.a == 1) count = -1;
    if (call.a == 2) null = true;
    if (call.a == 3) count = IOV_MAX + 1;
    if (call.a < 4) parts.resize(IOV_MAX + 1);
    if (call.a < 4) return;
    data = data_of(call.seed, 8192);
    if (call.a == 4) {
      parts = {{nullptr, 5}};
    } else {
      std::size_t at = 0;
      for (const int size : kSizes[call.a - 5]) {
        parts.push_back({data.data() + at, static_cast<std::size_t>(size)});
        at += static_cast<std::size_t>(size) + 1;
      }
    }
    count = static_cast<int>(parts.size());
  }
  std::vector<iovec> parts;
  std::vector<char> data;
  int count = 2;
  bool null = false;
};

Outcome World::vector(const Call& call) {
  Vector vector(call);
  const iovec* const parts = vector.null ? nullptr : vector.parts.data();
  if (call.op == Op::kWritev) return outcome(api_.writev(fd(call.slot), parts, vector.count));
  const ssize_t got = api_.readv(fd(call.slot), parts, vector.count);
  return outcome(got, got > 0 ? data_words(vector.data.data(), vector.data.size()) : "");
}

Outcome World::get_option(const Call& call) {
  constexpr int kOptions[] = {SO_ERROR, SO_TYPE, SO_ACCEPTCONN, SO_LINGER, SO_KEEPALIVE, SO_RCVTIMEO, SO_SNDTIMEO, kUnknown, kUnknown};
  unsigned char value[64] = {};
  socklen_t length = call.b == 1 ? 2 : call.b == 2 ? 0 : call.b == 4 ? static_cast<socklen_t>(-1) : sizeof value;
  const int level = call.a == 8 ? IPPROTO_TCP : SOL_SOCKET;
  if (level != SOL_SOCKET) length = sizeof value;
  const int result = api_.getsockopt(fd(call.slot), level, kOptions[call.a], call.b == 3 ? nullptr : value, &length);
  if (result != 0) return outcome(result);
  std::string detail = fmt::format("{}:", length);
  for (socklen_t i = 0; i < std::min<socklen_t>(length, sizeof value); ++i) detail += fmt::format(" {:x}", value[i]);
  return outcome(0, std::move(detail));
}

Outcome World::set_option(const Call& call) {
  constexpr int kOptions[] = {SO_LINGER, SO_KEEPALIVE, SO_RCVTIMEO, SO_SNDTIMEO, kUnknown, kUnknown, SO_ERROR};
  constexpr int kNumbers[] = {0, 1, 2, -1};
  constexpr linger kLingers[] = {{0, 0}, {1, 0}, {1, 1}, {1, -1}};
  constexpr timeval kTimes[] = {{0, 0}, {0, 20'000}, {5, 0}, {0, 2'000'000}};
  unsigned char value[256] = {};
  const int choice = call.b & 3;
  socklen_t length = sizeof(int);
  std::memcpy(value, &kNumbers[choice], length);
  if (call.a == 0) std::memcpy(value, &kLingers[choice], length = sizeof(linger));
  if (call.a == 2 || call.a == 3) std::memcpy(value, &kTimes[choice], length = sizeof(timeval));
  if (call.b == 4) length = 3;
  if (call.b == 6) length = 0;
  if (call.b == 7) length = sizeof value;
  return outcome(api_.setsockopt(fd(call.slot), call.a == 5 ? IPPROTO_TCP : SOL_SOCKET, kOptions[call.a], call.b == 5 ? nullptr : value, length));
}

Outcome World::fcntl(const Call& call) {
  constexpr std::pair<int, int> kCommands[] = {{F_GETFL, 0}, {F_SETFL, O_NONBLOCK}, {F_SETFL, 0}, {F_GETFD, 0}, {F_SETFD, FD_CLOEXEC}, {F_SETFD, 0}, {kUnknown, 0}};
  const auto& [command, argument] = kCommands[call.a];
  return outcome(api_.fcntl(fd(call.slot), command, argument));
}

Outcome World::ioctl(const Call& call) {
  constexpr unsigned long kUnknownRequest = 0x1234;
  constexpr unsigned long kRequests[] = {FIONREAD, FIONBIO, FIONBIO, FIONREAD, FIONBIO, kUnknownRequest, kUnknownRequest, SIOCOUTQ};
  constexpr bool kNull[] = {false, false, false, true, true, false, true, true};
  int value = call.a == 1 ? 1 : 0;
  const int result = api_.ioctl(fd(call.slot), kRequests[call.a], kNull[call.a] ? nullptr : &value);
  return outcome(result, result == 0 ? std::to_string(value) : "");
}

Outcome World::select(const Call& call) {
  fd_set sets[3];
  for (fd_set& set : sets) FD_ZERO(&set);
  int most = -1;
  for (int slot = 0; slot < kSlots; ++slot) {
    if (!holds(slot)) continue;
    for (fd_set& set : sets) FD_SET(fd(slot), &set);
    most = std::max(most, fd(slot));
  }
  timeval timeout = {.tv_sec = 0, .tv_usec = call.a == 5 ? -1 : 0};
  const int result = api_.select(call.a == 4 ? -1 : most + 1, &sets[0], call.a == 1 ? nullptr : &sets[1], call.a == 2 ? nullptr : &sets[2], &timeout);
  std::string detail;
  for (int slot = 0; slot < kSlots && result >= 0; ++slot) {
    if (!holds(slot)) continue;
    detail += fmt::format("{}{}{} ", FD_ISSET(fd(slot), &sets[0]) ? "r" : "-", call.a != 1 && FD_ISSET(fd(slot), &sets[1]) ? "w" : "-",
                          call.a != 2 && FD_ISSET(fd(slot), &sets[2]) ? "x" : "-");
  }
  return outcome(result, std::move(detail));
}

Outcome World::poll(const Call& call) {
  if (call.a == 4) return outcome(api_.poll(nullptr, 1, 0));
  std::vector<pollfd> list;
  for (int slot = 0; slot < kSlots && call.a != 5; ++slot)
    if (holds(slot)) list.push_back({fd(slot), static_cast<short>(call.a == 2 ? POLLIN : call.a == 3 ? POLLOUT : 0), 0});
  if (call.a == 1)
    for (const int slot : {kNegative, kNotOpen}) list.push_back({fd(slot), POLLIN, 0});
  const int result = api_.poll(list.data(), list.size(), 0);
  std::string detail;
  for (const pollfd& each : list) detail += event_words(each.revents) + " ";
  return outcome(result, std::move(detail));
}

bool World::becomes(int slot, short event) {
  pollfd wait = {.fd = fd(slot), .events = event, .revents = 0};
  return api_.poll(&wait, 1, 10'000) == 1 && (wait.revents & event) != 0;
}

// Fills the way to the peer and empties it there: how much goes in is each side's own, that it comes out whole is not.
Outcome World::fill(const Call& call, const Plan& plan) {
  const std::vector<char> data = data_of(call.seed, 64 * 1024);
  std::size_t sent = 0, taken = 0;
  ssize_t n = 0;
  while ((n = api_.send(fd(call.slot), data.data() + sent % data.size(), data.size() - sent % data.size(), MSG_DONTWAIT | MSG_NOSIGNAL)) > 0)
    sent += static_cast<std::size_t>(n);
  const int sending = errno;
  if (sent == 0) return outcome(-1);
  std::vector<char> into(data.size());
  bool same = true;
  while (taken < sent && becomes(plan.peer, POLLIN)) {
    n = api_.recv(fd(plan.peer), into.data(), data.size() - taken % data.size(), MSG_DONTWAIT);
    if (n <= 0) break;
    same = same && std::memcmp(into.data(), data.data() + taken % data.size(), static_cast<std::size_t>(n)) == 0;
    taken += static_cast<std::size_t>(n);
  }
  return outcome(0, fmt::format("ends with {}, whole {}, same {}, room again {}", error_name(sending), taken == sent, same, becomes(call.slot, POLLOUT)));
}

States World::states() {
  between_calls();
  std::vector<pollfd> list;
  for (int slot = 0; slot < kSlots; ++slot) list.push_back({fd(slot), kAsked, 0});
  (void)api_.poll(list.data(), list.size(), 0);
  States states;
  for (std::size_t slot = 0; slot < kSlots; ++slot) {
    if (fds_[slot] < 0) continue;
    states[slot].events = list[slot].revents;
    if (api_.ioctl(fds_[slot], FIONREAD, &states[slot].readable) != 0) states[slot].readable = -1;
  }
  return states;
}

void World::close_all() {
  for (int& each : fds_)
    if (each >= 0) (void)api_.close(std::exchange(each, -1));
}

}  // namespace stp::differential
