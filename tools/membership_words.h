// What a daemon says of its host's membership, as it changes: that a life ended and why, that there is a new one, or that there will be none.
//
// The membership is looked at from time to time; a life that ended and was followed by another between two looks is told of all the same.
#pragma once

#include <cstdint>
#include <string>

#include "stp/membership_board.h"

namespace stp {

class MembershipWords {
 public:
  struct News {  // sentences for the operator; empty: nothing new
    std::string ended;
    std::string back;
    std::string stopped;
  };
  // `path` of the storage, for the sentences; `self` as it is known already.
  MembershipWords(std::string path, const Self& self) : path_(std::move(path)), incarnation_(self.identity.incarnation) {}

  News look(const Self& self);

 private:
  std::string path_;
  std::uint64_t incarnation_;  // the life that was told of last
  bool ended_ = false;         // and its end, too
  bool stopped_ = false;
};

}  // namespace stp
