#include "fuse/conversations.h"

#include <utility>

#include "hostlib/quiet_thread.h"

namespace stp::view {

Result<std::shared_ptr<Conversations>> Conversations::start() {
  auto calls = EventLoop::make(), clock = EventLoop::make();
  if (!calls) return std::unexpected(calls.error());
  if (!clock) return std::unexpected(clock.error());
  std::shared_ptr<Conversations> all(new Conversations);
  all->loops_ = {.calls = std::move(*calls), .clock = std::move(*clock)};
  if (!all->start_threads()) return fail(EAGAIN, "can not start a thread: the system has no room for one more");
  return all;
}

bool Conversations::start_threads() {
  const auto run = [](const std::shared_ptr<EventLoop>& loop) {
    return [loop] {
      loop->run();
      loop->let_go();
    };
  };
  return host::start_quiet_thread(calls_, run(loops_.calls)) && host::start_quiet_thread(clock_, run(loops_.clock));
}

Conversations::~Conversations() {
  for (const auto& [number, conversation] : std::exchange(all_, {})) conversation->hang_up();
  // The clock first: what it ends leaves work for the calls.
  for (const auto& [thread, loop] : {std::pair(&clock_, loops_.clock), std::pair(&calls_, loops_.calls)}) {
    if (!thread->joinable()) continue;
    loop->stop();
    if (thread->get_id() == std::this_thread::get_id())
      thread->detach();  // it was the last that knew them; the loop is its own
    else
      thread->join();
  }
}

Held Conversations::make(Owner owner) {
  std::lock_guard lock(mutex_);
  if (all_.size() >= kMost || (owner.user != 0 && of_user_[owner.user] >= kMostOfAUser)) return {};
  while (all_.contains(next_)) ++next_;
  auto conversation = std::make_shared<Conversation>(weak_from_this(), loops_, next_, owner);
  all_.emplace(next_++, conversation);
  ++of_user_[owner.user];
  return conversation->hold();
}

std::shared_ptr<Conversation> Conversations::find(std::uint32_t number) const {
  std::lock_guard lock(mutex_);
  const auto it = all_.find(number);
  return it == all_.end() ? nullptr : it->second;
}

std::vector<std::shared_ptr<Conversation>> Conversations::list() const {
  std::lock_guard lock(mutex_);
  std::vector<std::shared_ptr<Conversation>> out;
  out.reserve(all_.size());
  for (const auto& [number, conversation] : all_) out.push_back(conversation);
  return out;
}

void Conversations::tell_gone(Gone gone) {
  std::lock_guard lock(mutex_);
  gone_ = std::move(gone);
}

void Conversations::say_gone(std::uint32_t number) {
  std::unique_lock lock(mutex_);
  const Gone gone = gone_;
  lock.unlock();
  if (gone) gone(number);
}

void Conversations::remove(std::uint32_t number) {
  loops_.later(kGoneFor, [weak = weak_from_this(), number] {
    if (const auto self = weak.lock()) self->say_gone(number);
  });
  std::shared_ptr<Conversation> gone;  // its end takes locks of its own
  std::lock_guard lock(mutex_);
  const auto it = all_.find(number);
  if (it == all_.end()) return;
  gone = std::move(it->second);
  all_.erase(it);
  const auto user = of_user_.find(gone->owner().user);
  if (--user->second == 0) of_user_.erase(user);
}

}  // namespace stp::view
