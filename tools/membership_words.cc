#include "tools/membership_words.h"

#include <fmt/format.h>

namespace stp {

MembershipWords::News MembershipWords::look(const Self& self) {
  News news;
  const auto end_life = [&](const std::string& why) {
    if (!ended_) news.ended = fmt::format("\"{}\": {}", path_, why);
    ended_ = true;
  };
  switch (self.state) {
    case MemberState::kFenced:
      end_life(self.why);
      break;
    case MemberState::kJoining:
      end_life(self.ended);
      break;
    case MemberState::kMember:
      if (self.identity.incarnation == incarnation_) break;
      end_life(self.ended);
      news.back = fmt::format("\"{}\": {} is back, as incarnation {}", path_, self.name, self.identity.incarnation);
      incarnation_ = self.identity.incarnation;
      ended_ = false;
      break;
    case MemberState::kStopped:
      if (!stopped_) news.stopped = fmt::format("\"{}\": {}; this agent serves it no more until it is started again", path_, self.why);
      stopped_ = true;
      break;
    case MemberState::kLeaving:
    case MemberState::kLeft:
      break;
  }
  return news;
}

}  // namespace stp
