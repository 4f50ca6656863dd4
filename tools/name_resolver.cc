#include "tools/name_resolver.h"

#include <fmt/format.h>
#include <netdb.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sys/un.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <deque>
#include <mutex>
#include <utility>

namespace stp::forward {
namespace {

constexpr int kMostThreads = 4;
constexpr std::size_t kMostWaiting = 1024;
constexpr std::size_t kMostAddresses = 16;

Result<std::vector<SocketAddress>> look_up(const std::string& host, std::uint16_t port, int flags) {
  addrinfo hints = {};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = flags | AI_NUMERICSERV;
  addrinfo* found = nullptr;
  const int code = ::getaddrinfo(host.empty() ? nullptr : host.c_str(), std::to_string(port).c_str(), &hints, &found);
  if (code != 0) {
    const int error = code == EAI_SYSTEM ? errno : EHOSTUNREACH;
    return fail(error, fmt::format("no address of \"{}\" is to be had: {}", host,
                                   code == EAI_SYSTEM ? std::strerror(error) : ::gai_strerror(code)));
  }
  std::vector<SocketAddress> out;
  for (const addrinfo* each = found; each != nullptr && out.size() < kMostAddresses; each = each->ai_next) {
    SocketAddress& address = out.emplace_back();
    std::memcpy(&address.storage, each->ai_addr, each->ai_addrlen);
    address.length = each->ai_addrlen;
  }
  ::freeaddrinfo(found);
  return out;
}

}  // namespace

SocketAddress unix_address(const std::string& path) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.data(), std::min(path.size(), sizeof address.sun_path - 1));
  SocketAddress out;
  std::memcpy(&out.storage, &address, sizeof address);
  out.length = sizeof address;
  return out;
}

Result<std::vector<SocketAddress>> numeric_addresses(const std::string& host, std::uint16_t port, bool to_listen) {
  return look_up(host, port, AI_NUMERICHOST | (to_listen ? AI_PASSIVE : 0));
}

struct NameResolver::Shared {
  struct Job {
    std::string host;
    std::uint16_t port;
    Done done;
  };
  std::mutex mutex;
  std::deque<Job> jobs;
  int threads = 0;
  EventLoop* loop = nullptr;  // null: nobody listens any more

  // In a thread of its own: until there is nothing left to do.
  void work() {
    for (std::unique_lock lock(mutex);;) {
      if (loop == nullptr || jobs.empty()) {
        --threads;
        return;
      }
      Job job = std::move(jobs.front());
      jobs.pop_front();
      lock.unlock();
      auto addresses = look_up(job.host, job.port, 0);
      lock.lock();
      if (loop != nullptr) loop->post([done = std::move(job.done), found = std::move(addresses)] { done(found); });
    }
  }

  static void* thread(void* argument) {
    const std::unique_ptr<std::shared_ptr<Shared>> self(static_cast<std::shared_ptr<Shared>*>(argument));
    (*self)->work();
    return nullptr;
  }

  // Not std::thread, which throws where there is no room for one more.
  bool start_thread(const std::shared_ptr<Shared>& self) {
    auto argument = std::make_unique<std::shared_ptr<Shared>>(self);
    pthread_t id;
    if (::pthread_create(&id, nullptr, &Shared::thread, argument.get()) != 0) return false;
    (void)argument.release();
    (void)::pthread_detach(id);
    ++threads;
    return true;
  }
};

NameResolver::NameResolver(EventLoop& loop) : shared_(std::make_shared<Shared>()) { shared_->loop = &loop; }

NameResolver::~NameResolver() {
  const std::lock_guard lock(shared_->mutex);
  shared_->loop = nullptr;
  shared_->jobs.clear();
}

void NameResolver::resolve(const std::string& host, std::uint16_t port, Done done) {
  const std::lock_guard lock(shared_->mutex);
  EventLoop& loop = *shared_->loop;
  // A numeric address needs no name server, and must not stand in the queue behind one.
  auto numeric = numeric_addresses(host, port, false);
  if (numeric) return loop.soon([done = std::move(done), found = std::move(numeric)] { done(found); });
  const auto refuse = [&] {
    loop.soon([done, host] { done(fail(EAGAIN, fmt::format("too many names are looked up already to ask for \"{}\"", host))); });
  };
  if (shared_->jobs.size() >= kMostWaiting) return refuse();
  if (shared_->threads < kMostThreads && !shared_->start_thread(shared_) && shared_->threads == 0) return refuse();
  shared_->jobs.push_back({.host = host, .port = port, .done = std::move(done)});
}

}  // namespace stp::forward
