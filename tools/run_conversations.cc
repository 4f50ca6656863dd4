#include "tools/run_conversations.h"

#include <cerrno>
#include <utility>

namespace stp {

bool RunConversations::has_room(uid_t user) const {
  const auto used = of_user_.find(user);
  return used == of_user_.end() || used->second < most_of_a_user_;
}

void RunConversations::carry_on(UniqueFd kernel, KernelSide side, StpSocket stp_socket, std::vector<std::byte> head, uid_t user,
                                const run::SocketName& name, std::function<void()> ended) {
  const std::uint64_t number = next_++;
  const std::string text = run::text_of(name);
  all_[number] = {.relay = {}, .user = user};
  by_name_[text] = number;
  ++of_user_[user];
  const auto relay = Relay::start(loop_, std::move(kernel), side, stp_socket.release(), [this, number, user, text, ended = std::move(ended)](const Relay::Totals&, bool) {
    all_.erase(number);
    by_name_.erase(text);
    if (--of_user_[user] == 0) of_user_.erase(user);
    if (ended) ended();
  }, std::move(head));
  if (const auto it = all_.find(number); it != all_.end()) it->second.relay = relay;  // it may have ended at once
}

int RunConversations::reset_when_closed(const std::string& name, uid_t user, bool is_reset) {
  const auto it = by_name_.find(name);
  if (it == by_name_.end()) return ENOENT;
  const One& one = all_.at(it->second);
  if (user != 0 && user != one.user) return EPERM;
  if (const auto relay = one.relay.lock()) relay->reset_when_closed(is_reset);
  return 0;
}

void RunConversations::abort_all() {
  for (const auto& [number, one] : std::map(all_))
    if (const auto relay = one.relay.lock()) relay->abort();
}

}  // namespace stp
