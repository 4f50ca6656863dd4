#include "hostlib/agent_host.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <new>
#include <utility>

#include "hostlib/debug.h"
#include "hostlib/deadline.h"
#include "hostlib/host_list.h"
#include "hostlib/quiet_thread.h"
#include "stp/names.h"
#include "stp/system.h"

namespace stp::host {
namespace {

constexpr int kLookForAgentMs = 100;
constexpr unsigned kHeirsPatienceMs = 2000;  // a fork is not to take longer, whatever the agent does

}  // namespace

AgentHost::AgentHost(AgentLink::Wanted wanted, std::shared_ptr<AgentLink> link, std::mutex& mutex, EngineEvents& events)
    : wanted_(std::move(wanted)),
      mutex_(mutex),
      events_(events),
      link_(std::move(link)),
      superblock_(link_->superblock()),
      base_name_(stp::base_name(link_->own_name())),
      sockets_(link_),
      waiting_(sockets_) {}

Result<std::unique_ptr<AgentHost>> AgentHost::connect(const AgentLink::Wanted& wanted, std::mutex& mutex, EngineEvents& events) {
  auto link = AgentLink::connect(wanted);
  if (!link) return std::unexpected(link.error());
  std::unique_ptr<AgentHost> host(new AgentHost(wanted, std::move(*link), mutex, events));
  host->stop_bell_ = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (host->stop_bell_ < 0) return fail(errno, std::string("can not make an eventfd: ") + std::strerror(errno));
  if (!host->start_news_thread()) return fail(EAGAIN, "can not start a thread: the system has no room for one more");
  debug("served by the agent on {} as {} of {}", wanted.agent_path, host->link_->own_name(), host->superblock_.stg);
  return host;
}

bool AgentHost::start_news_thread() {
  return start_quiet_thread(news_, [this] { news_loop(); });
}

AgentHost::~AgentHost() {
  stopping_.store(true);
  const std::uint64_t one = 1;
  if (stop_bell_ >= 0) (void)!::write(stop_bell_, &one, sizeof one);
  if (news_.joinable()) news_.join();
  if (stop_bell_ >= 0) (void)::close(stop_bell_);
}

void AgentHost::take_news(AgentLink& link) {
  char told[16];
  while (::recv(link.bell(), told, sizeof told, MSG_DONTWAIT) > 0) {
  }
  std::lock_guard lock(mutex_);
  link.board().to_program.take([&](std::uint32_t index) {
    const SocketId id = sockets_.id_of(link, index);
    if (id == 0) return;
    sockets_.note_news(id);
    events_.on_ready(id, ~Ready::kDrained);
  });
}

void AgentHost::news_loop() {
  std::shared_ptr<AgentLink> link;
  {
    std::lock_guard lock(mutex_);
    link = link_;
  }
  while (!stopping_.load()) {
    pollfd waits[3] = {{stop_bell_, POLLIN, 0}, {link->fd(), POLLRDHUP, 0}, {link->bell(), POLLIN, 0}};
    if (link->dead()) {
      std::unique_lock lock(mutex_);
      if (link_ == link) {
        debug("the agent on {} is gone", wanted_.agent_path);
        sockets_.lose(*link, [this](SocketId id) { events_.on_ready(id, ~Ready::kDrained); });
        come_back(lock);
      }
      link = link_;
      lock.unlock();
      if (link->dead()) (void)::poll(waits, 1, kLookForAgentMs);
      continue;
    }
    if (::poll(waits, 3, -1) < 0) continue;
    // Closed by closefrom(3) or the like: whatever has these numbers now is none of ours.
    if (((waits[1].revents | waits[2].revents) & POLLNVAL) != 0) {
      link->die();
      continue;
    }
    if ((waits[2].revents & POLLIN) != 0) take_news(*link);
    if (((waits[1].revents | waits[2].revents) & (POLLRDHUP | POLLHUP | POLLERR)) != 0) link->die();
  }
}

// Looks for an agent again; when there is one that serves the same storage, new sockets are its.
void AgentHost::come_back(std::unique_lock<std::mutex>& lock) {
  lock.unlock();
  auto link = AgentLink::connect(wanted_);
  lock.lock();
  if (!link || (*link)->superblock().uuid != superblock_.uuid) return;
  link_ = *link;
  sockets_.set_link(link_);
  for (const SocketId id : sockets_.listen_again(link_)) events_.on_ready(id, ~Ready::kDrained);
  debug("served by the agent on {} again", wanted_.agent_path);
}

void AgentHost::leave(std::unique_lock<std::mutex>& lock, Nanos linger) {
  const Nanos end = after(boottime_now(), linger);
  while (sockets_.any_closing() && boottime_now() < end) (void)waiting_.wait(lock, nullptr, 0, after(boottime_now(), kMillisecond));
}

// The child's connection is made before there is a child: whatever the parent closes from then on, the child still has.
void AgentHost::before_fork() {
  if (link_->dead() || !sockets_.share()) return;
  AgentCall call;
  call.what = AgentRequest::kFork;
  auto token = link_->ask(call);
  if (!token) return;
  AgentLink::Wanted wanted = wanted_;
  wanted.parent = link_->serial();
  wanted.parents_token = token->answer.bytes;
  wanted.patience_ms = kHeirsPatienceMs;
  if (auto heir = AgentLink::connect(wanted))
    heir_ = std::move(*heir);
  else
    debug("a child that is forked now gets no sockets: {}", heir.error().text);
}

void AgentHost::after_fork_in_parent() { heir_.reset(); }

void AgentHost::abandon_after_fork() {
  link_->abandon();
  if (stop_bell_ >= 0) (void)::close(std::exchange(stop_bell_, -1));  // the parent's
}

Host::Resumed AgentHost::resume_after_fork() {
  std::shared_ptr<AgentLink> link = std::move(heir_);
  if (link != nullptr && !link->still_ours()) {
    link->forget_descriptors();  // the child closed what it did not know
    link.reset();
  }
  const Resumed resumed = link != nullptr ? Resumed::kWithSockets : Resumed::kAlone;
  if (link == nullptr) {
    auto fresh = AgentLink::connect(wanted_);
    if (!fresh) return Resumed::kNotYet;
    if ((*fresh)->superblock().uuid != superblock_.uuid) return Resumed::kNot;
    link = std::move(*fresh);
    sockets_.leave_behind();
    sockets_.set_link(link);
  } else {
    link->set_patience(AgentLink::kPatienceMs);
    sockets_.move_to(link);
  }
  link_->die();
  link_ = std::move(link);
  waiting_.forget_waiters();
  AgentCall call;
  call.what = AgentRequest::kBegin;
  call.number = static_cast<std::uint32_t>(::getpid());
  (void)link_->ask(call);
  stop_bell_ = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  new (&news_) std::thread();  // the one behind the handle is not in this process
  return stop_bell_ >= 0 && start_news_thread() ? resumed : Resumed::kNot;
}

SocketResult<ClientId> AgentHost::client_id() {
  if (link_->dead()) return std::unexpected(SocketError{ECONNRESET, Reason::kAgentGone});
  return ClientId{.host = link_->own_name(), .agent = link_->agents_life(), .program = link_->serial(), .pid = static_cast<std::uint32_t>(::getpid())};
}

MembershipBoard::View AgentHost::view() {
  AgentCall call;
  call.what = AgentRequest::kView;
  auto reply = link_->ask(call);
  if (reply) return decode_hosts(reply->tail);
  MembershipBoard::View none;
  none.self.name = link_->own_name();
  return none;
}

void AgentHost::look_at_leases_now() {
  AgentCall call;
  call.what = AgentRequest::kLook;
  (void)link_->ask(call);
}

}  // namespace stp::host
