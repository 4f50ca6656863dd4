#include "tools/relay.h"

#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "hostlib/in_place.h"
#include "hostlib/stp.h"

namespace stp {
namespace {

constexpr std::size_t kAtOnce = 256 * 1024;  // bytes of one look
constexpr int kLooksOfATurn = 4;
constexpr std::chrono::milliseconds kWaitForHead{60'000};
constexpr std::size_t kMayStay =
    512;  // bytes of a look, where nothing is known of the program's send buffer: the smallest has room for more beside it

// What is moved passes by here: one for all, so that it stays in the processor's cache.
std::vector<std::byte>& scratch() {
  thread_local std::vector<std::byte> bytes(kAtOnce);
  return bytes;
}

bool again(int code) { return code == EAGAIN || code == EWOULDBLOCK || code == EINTR; }

}  // namespace

void Relay::Leftover::keep(std::span<const std::byte> rest) {
  bytes.assign(rest.begin(), rest.end());
  begin = 0;
}

void Relay::Leftover::skip(std::size_t count) {
  begin += count;
  if (begin == bytes.size()) *this = {};
}

std::shared_ptr<Relay> Relay::start(EventLoop& loop, UniqueFd kernel, KernelSide side, int stp_socket, Ended ended, std::vector<std::byte> head) {
  std::shared_ptr<Relay> relay(new Relay(loop, std::move(kernel), side, stp_socket, std::move(ended)));
  relay->head_ = std::move(head);
  relay->self_ = relay;
  if (!relay->begin())
    relay->end(false);
  else
    relay->turn_soon();
  return relay;
}

Relay::Relay(EventLoop& loop, UniqueFd kernel, KernelSide side, int stp_socket, Ended ended)
    : loop_(loop), kernel_(std::move(kernel)), side_(side), stp_(stp_socket), ended_(std::move(ended)) {
  left_in_kernel_ = side == KernelSide::kUnixWithHead ? 1 : 0;
}

Relay::~Relay() {
  if (stp_ >= 0) (void)STPclose(stp_);
}

bool Relay::begin() {
  stp_readable_ = STPgetpollfd(stp_, POLLIN);
  stp_writable_ = stp_readable_ >= 0 ? STPgetpollfd(stp_, POLLOUT) : -1;
  const std::weak_ptr<Relay> weak = weak_from_this();
  const auto look = [weak](std::uint32_t) {
    if (const auto relay = weak.lock()) relay->turn();
  };
  return stp_writable_ >= 0 && loop_.watch(kernel_.get(), EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, [weak](std::uint32_t events) {
    const auto relay = weak.lock();
    if (!relay) return;
    if ((events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0) relay->kernel_hung_up_ = true;
    if ((events & EPOLLERR) != 0 && relay->kernel_was_reset()) return relay->end(false);
    if ((events & EPOLLHUP) != 0 && relay->reset_when_closed_ && !relay->from_stp_ended_) return relay->end(false);
    relay->turn();
  }) && loop_.watch(stp_readable_, EPOLLIN, look) && loop_.watch(stp_writable_, 0, look);
}

// Asked at once: where that side had ended already, or the other one takes nothing now, nobody reads the socket and would find out.
bool Relay::kernel_was_reset() const {
  int code = 0;
  socklen_t length = sizeof code;
  return ::getsockopt(kernel_.get(), SOL_SOCKET, SO_ERROR, &code, &length) == 0 && code != 0;
}

void Relay::turn_soon() {
  if (std::exchange(turn_is_due_, true)) return;
  loop_.soon([weak = weak_from_this()] {
    const auto relay = weak.lock();
    if (!relay) return;
    relay->turn_is_due_ = false;
    relay->turn();
  });
}

void Relay::turn() {
  if (!self_) return;
  wants_readable_ = wants_writable_ = false;
  bool more = false;
  for (const bool outward : {true, false}) {
    Step step = Step::kMoved;
    for (int look = 0; look < kLooksOfATurn && step == Step::kMoved; ++look) step = outward ? move_to_stp() : move_from_stp();
    if (step == Step::kBroken) return end(false);
    more |= step == Step::kMoved;
  }
  if (to_stp_ended_ && from_stp_ended_) return end(true);
  if (more) turn_soon();
  watch_stp();
}

// What is not waited for is not watched: its readiness would not end.
void Relay::watch_stp() {
  loop_.change(stp_readable_, wants_readable_ ? std::uint32_t{EPOLLIN} : 0u);
  loop_.change(stp_writable_, wants_writable_ ? std::uint32_t{EPOLLIN} : 0u);
}

// -- From the kernel's socket --------------------------------------------------------------------------------------

// kMoved: it is known now whether there is one.
Relay::Step Relay::take_head() {
  const ssize_t n = ::recv(kernel_.get(), scratch().data(), head_.size(), MSG_PEEK | MSG_DONTWAIT);
  if (n < 0) return again(errno) ? Step::kWaits : Step::kBroken;
  if (n == 0) return Step::kEnded;
  const auto there = static_cast<std::size_t>(n);
  if (!std::equal(head_.begin(), head_.begin() + n, scratch().begin())) {
    head_.clear();
    return Step::kMoved;
  }
  if (there < head_.size()) return kernel_hung_up_ ? Step::kBroken : Step::kWaits;
  if (::recv(kernel_.get(), scratch().data(), there - 1, MSG_DONTWAIT) != n - 1) return Step::kBroken;
  head_.clear();
  left_in_kernel_ = 1;
  return Step::kMoved;
}

// kMoved: there is something to take. The STP socket is not touched before that: it would tell that its peer is gone, while what that one sent last is unread.
Relay::Step Relay::look_at_kernel() {
  const bool hung_up = kernel_hung_up_;  // before the look: what came ahead of it is there then
  if (side_ != KernelSide::kTcp && hung_up && kernel_was_reset()) return Step::kBroken;
  if (side_ != KernelSide::kTcp && !head_.empty()) {
    if (const Step step = take_head(); step != Step::kMoved) return step;
  }
  if (leaves_one()) {
    const std::optional<std::size_t> there = queued_in_kernel();
    if (!there) return Step::kBroken;
    return *there > left_in_kernel_ ? Step::kMoved : hung_up ? Step::kEnded : Step::kWaits;
  }
  std::byte first{};
  const ssize_t n = ::recv(kernel_.get(), &first, 1, MSG_PEEK | MSG_DONTWAIT);
  if (n < 0) return again(errno) ? Step::kWaits : Step::kBroken;
  return n > 0 ? Step::kMoved : Step::kEnded;
}

bool Relay::leaves_one() const { return side_ == KernelSide::kUnix || left_in_kernel_ != 0; }

std::optional<std::size_t> Relay::queued_in_kernel() const {
  int queued = 0;
  return ::ioctl(kernel_.get(), FIONREAD, &queued) == 0 ? std::optional(static_cast<std::size_t>(queued)) : std::nullopt;
}

// Everything that came is handed on, and its last byte is left in the queue nevertheless. With it stays the whole of the buffer that
// the kernel keeps it in, which counts as unsent there: the program's side has a send buffer of several of these (64 KiB).
Relay::Step Relay::take_leaving_one(std::span<std::byte> room, std::size_t& taken) {
  const std::size_t there = queued_in_kernel().value_or(0);
  if (there <= left_in_kernel_) return Step::kBroken;  // it was there
  const std::size_t count = std::min(there - left_in_kernel_, room.size());
  const std::size_t stays = side_ == KernelSide::kUnix && count > kMayStay ? 0 : 1;
  std::byte handed_on{};  // the one that was left
  for (std::size_t old = left_in_kernel_, done = 0; old + count - done > stays;) {
    iovec parts[] = {{.iov_base = &handed_on, .iov_len = old}, {.iov_base = room.data() + done, .iov_len = count - stays - done}};
    msghdr message = {};
    message.msg_iov = parts;
    message.msg_iovlen = 2;
    const ssize_t n = ::recvmsg(kernel_.get(), &message, MSG_DONTWAIT);
    if (n <= 0) return Step::kBroken;  // it was there
    done += static_cast<std::size_t>(n) - old;
    old = 0;
  }
  if (stays != 0 && ::recv(kernel_.get(), room.data() + count - 1, 1, MSG_PEEK | MSG_DONTWAIT) != 1) return Step::kBroken;
  taken = count;
  left_in_kernel_ = stays;
  return Step::kMoved;
}

Relay::Step Relay::take_from_kernel(std::span<std::byte> room, std::size_t& taken) {
  return leaves_one() ? take_leaving_one(room, taken) : take_all(room, taken);
}

Relay::Step Relay::take_all(std::span<std::byte> room, std::size_t& taken) {
  const ssize_t n = ::recv(kernel_.get(), room.data(), room.size(), MSG_DONTWAIT);
  if (n < 0) return again(errno) ? Step::kWaits : Step::kBroken;
  taken = static_cast<std::size_t>(n);
  return n > 0 ? Step::kMoved : Step::kEnded;
}

std::optional<Relay::Step> Relay::move_to_stp_in_place() {
  std::optional<Step> step;
  const ssize_t n = send_in_place(stp_, kAtOnce, [&](std::span<std::byte> room) {
    std::size_t taken = 0;
    step = take_from_kernel(room, taken);
    return taken;
  });
  if (n < 0 && errno == EOPNOTSUPP) return std::nullopt;
  if (n < 0 && !again(errno)) return Step::kBroken;
  if (n > 0) totals_.to_stp += static_cast<std::size_t>(n);
  wants_writable_ = !step;
  return step.value_or(Step::kWaits);
}

Relay::Step Relay::move_to_stp() {
  if (to_stp_ended_) return Step::kEnded;
  if (!to_stp_.span().empty()) return give_to_stp(to_stp_.span());
  Step step = look_at_kernel();
  if (step == Step::kEnded) return end_to_stp();
  if (step != Step::kMoved) return step;
  if (const auto moved = move_to_stp_in_place()) return *moved;
  std::size_t taken = 0;
  step = take_from_kernel(scratch(), taken);
  return step == Step::kMoved ? give_to_stp(std::span<const std::byte>(scratch()).first(taken)) : step;
}

Relay::Step Relay::end_to_stp() {
  to_stp_ended_ = true;
  return STPshutdown(stp_, SHUT_WR) == 0 ? Step::kEnded : Step::kBroken;
}

Relay::Step Relay::give_to_stp(std::span<const std::byte> bytes) {
  const ssize_t n = STPsend(stp_, bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
  if (n < 0 && !again(errno)) return Step::kBroken;
  const std::size_t given = n > 0 ? static_cast<std::size_t>(n) : 0;
  totals_.to_stp += given;
  if (to_stp_.span().empty())
    to_stp_.keep(bytes.subspan(given));
  else
    to_stp_.skip(given);
  wants_writable_ = !to_stp_.span().empty();
  return wants_writable_ ? Step::kWaits : Step::kMoved;
}

// -- To it ---------------------------------------------------------------------------------------------------------

std::optional<Relay::Step> Relay::move_from_stp_in_place() {
  std::optional<Step> step;
  const ssize_t n = receive_in_place(stp_, kAtOnce, [&](std::span<const std::byte> there) {
    const ssize_t sent = ::send(kernel_.get(), there.data(), there.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    const std::size_t given = sent > 0 ? static_cast<std::size_t>(sent) : 0;
    step = sent < 0 && !again(errno) ? Step::kBroken : given == there.size() ? Step::kMoved : Step::kWaits;
    return given;
  });
  if (n < 0 && errno == EOPNOTSUPP) return std::nullopt;
  if (n == 0) return end_from_stp();
  if (n > 0) totals_.from_stp += static_cast<std::size_t>(n);
  if (step) return step;
  wants_readable_ = again(errno);
  return wants_readable_ ? Step::kWaits : Step::kBroken;
}

Relay::Step Relay::move_from_stp() {
  if (from_stp_ended_) return Step::kEnded;
  if (!from_stp_.span().empty()) return give_to_kernel(from_stp_.span());
  if (const auto moved = move_from_stp_in_place()) return *moved;
  const ssize_t n = STPrecv(stp_, scratch().data(), kAtOnce, MSG_DONTWAIT);
  if (n > 0) return give_to_kernel(std::span<const std::byte>(scratch()).first(static_cast<std::size_t>(n)));
  if (n == 0) return end_from_stp();
  wants_readable_ = again(errno);
  return wants_readable_ ? Step::kWaits : Step::kBroken;
}

Relay::Step Relay::end_from_stp() {
  from_stp_ended_ = true;
  if (!watch_for_reset()) return Step::kBroken;
  return ::shutdown(kernel_.get(), SHUT_WR) == 0 || errno == ENOTCONN ? Step::kEnded : Step::kBroken;
}

// Nobody receives any more, and while the program is silent nobody sends: a peer that is lost now would go unnoticed.
bool Relay::watch_for_reset() {
  if (to_stp_ended_) return true;
  stp_broken_ = STPgetpollfd(stp_, 0);  // an error or a hang-up always counts
  return stp_broken_ >= 0 && loop_.watch(stp_broken_, EPOLLIN, [weak = weak_from_this()](std::uint32_t) {
    if (const auto relay = weak.lock(); relay && relay->stp_was_reset()) relay->abort();
  });
}

// The descriptor may ring for nothing, which any call on the socket puts right.
bool Relay::stp_was_reset() const {
  int code = 0;
  socklen_t length = sizeof code;
  if (STPgetsockopt(stp_, SOL_SOCKET, SO_ERROR, &code, &length) != 0 || code != 0) return true;
  pollfd state = {.fd = stp_, .events = 0, .revents = 0};
  return STPpoll(&state, 1, 0) != 0;
}

Relay::Step Relay::give_to_kernel(std::span<const std::byte> bytes) {
  const ssize_t n = ::send(kernel_.get(), bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
  if (n < 0 && !again(errno)) return Step::kBroken;
  const std::size_t given = n > 0 ? static_cast<std::size_t>(n) : 0;
  totals_.from_stp += given;
  if (from_stp_.span().empty())
    from_stp_.keep(bytes.subspan(given));
  else
    from_stp_.skip(given);
  return from_stp_.span().empty() ? Step::kMoved : Step::kWaits;
}

// -- The end -------------------------------------------------------------------------------------------------------

void Relay::abort() {
  if (self_) end(false);
}

// The peer of a Unix socket is reset by what is unread; where it never sent anything there may be nothing to be had.
void Relay::reset_kernel() {
  const linger at_once = {.l_onoff = 1, .l_linger = 0};
  if (side_ == KernelSide::kTcp) (void)::setsockopt(kernel_.get(), SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
}

// The program did not even accept it yet: its head, when it comes, is what stays unread.
void Relay::reset_when_it_comes() {
  const int fd = kernel_.get();
  const auto kept = std::make_shared<UniqueFd>(std::move(kernel_));
  const auto close = [&loop = loop_, kept] {
    if (*kept) loop.forget(kept->get());
    kept->reset();
  };
  if (loop_.watch(fd, EPOLLIN | EPOLLRDHUP, [close](std::uint32_t) { close(); })) loop_.after(kWaitForHead, close);
}

void Relay::end(bool in_good_order) {
  const std::shared_ptr<Relay> keep = std::exchange(self_, nullptr);
  if (kernel_) loop_.forget(kernel_.get());
  for (const int fd : {stp_readable_, stp_writable_, stp_broken_})
    if (fd >= 0) loop_.forget(fd);
  if (in_good_order) {
    std::byte rest[64];
    if (side_ != KernelSide::kTcp)
      while (::recv(kernel_.get(), rest, sizeof rest, MSG_DONTWAIT) > 0) {
      }
  } else {
    if (!head_.empty() && !kernel_hung_up_) reset_when_it_comes();
    reset_kernel();
    const linger at_once = {.l_onoff = 1, .l_linger = 0};
    (void)STPsetsockopt(stp_, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
  }
  kernel_.reset();
  (void)STPclose(std::exchange(stp_, -1));
  if (ended_) std::exchange(ended_, nullptr)(totals_, in_good_order);
}

}  // namespace stp
