#include "fuse/conversations.h"

#include <utility>

#include "hostlib/quiet_thread.h"

namespace stp::view {

Result<std::shared_ptr<Conversations>> Conversations::start() {
  auto loop = EventLoop::make();
  if (!loop) return std::unexpected(loop.error());
  std::shared_ptr<Conversations> all(new Conversations);
  all->loop_ = std::move(*loop);
  if (!host::start_quiet_thread(all->thread_, [loop = all->loop_] { loop->run(); }))
    return fail(EAGAIN, "can not start a thread: the system has no room for one more");
  return all;
}

Conversations::~Conversations() {
  for (const auto& [number, conversation] : std::exchange(all_, {})) conversation->hang_up();
  if (!thread_.joinable()) return;
  loop_->stop();
  if (thread_.get_id() == std::this_thread::get_id())
    thread_.detach();  // it was the last that knew them; the loop is its own
  else
    thread_.join();
}

Held Conversations::make(Owner owner) {
  std::lock_guard lock(mutex_);
  if (all_.size() >= kMost || (owner.user != 0 && of_user_[owner.user] >= kMostOfAUser)) return {};
  while (all_.contains(next_)) ++next_;
  auto conversation = std::make_shared<Conversation>(weak_from_this(), loop_, next_, owner);
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

void Conversations::remove(std::uint32_t number) {
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
