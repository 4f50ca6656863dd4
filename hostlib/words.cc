#include "hostlib/words.h"

#include <fmt/format.h>

#include <cstring>
#include <set>

#include "stp/names.h"

namespace stp::host {
namespace {

const Peer* find_peer(const MembershipBoard::View& view, std::string_view name, PeerState state) {
  for (const Peer& peer : view.peers)
    if (peer.state == state && names_host(name, peer.name)) return &peer;
  return nullptr;
}

std::string known_hosts(const MembershipBoard::View& view) {
  std::set<std::string> names;
  if (!view.self.name.empty()) names.insert(view.self.name);
  for (const Peer& peer : view.peers)
    if (!peer.name.empty()) names.insert(peer.name);
  return fmt::format("{}", fmt::join(names, ", "));
}

std::string with_own_reason(Reason reason, const Self& self) {
  return self.why.empty() ? std::string(describe(reason)) : fmt::format("{} ({})", describe(reason), self.why);
}

std::string sentence(const SocketError& error, std::string_view peer, const MembershipBoard::View& view, const Superblock& superblock) {
  switch (error.reason) {
    case Reason::kNone:
      return std::strerror(error.code);
    case Reason::kHostDead:
      if (const Peer* dead = find_peer(view, peer, PeerState::kDead); dead != nullptr && dead->silent_s > 0) {
        return fmt::format("the host does not renew its lease (last beat {:.1f} s ago, dead after {:g} s)", dead->silent_s,
                           superblock.timing.dead_ms / 1000.0);
      }
      return std::string(describe(error.reason));
    case Reason::kUnknownHost:
      return fmt::format("no host of that name has joined storage \"{}\" (known: {})", superblock.stg, known_hosts(view));
    case Reason::kOtherStg:
      return fmt::format("the address names another storage group than \"{}\", the one this program uses", superblock.stg);
    case Reason::kSilent:
      if (const Peer* alive = find_peer(view, peer, PeerState::kAlive); alive != nullptr) {
        return fmt::format("the host renews its lease (last beat {:.1f} s ago) but gave no answer in time", alive->silent_s);
      }
      return std::string(describe(error.reason));
    case Reason::kOneWay:
      return fmt::format("{}: compare STP_STG on both", describe(error.reason));
    case Reason::kFenced:
    case Reason::kRefused:
    case Reason::kStopped:
    case Reason::kStorage:
      return with_own_reason(error.reason, view.self);
    default:
      return std::string(describe(error.reason));
  }
}

}  // namespace

bool names_host(std::string_view name, std::string_view instance) {
  return !instance.empty() && (name == instance || name == base_name(instance));
}

std::string failure_words(std::string_view action, const SocketError& error, std::string_view peer, const MembershipBoard::View& view,
                          const Superblock& superblock) {
  return fmt::format("{}: {}", action, sentence(error, peer, view, superblock));
}

}  // namespace stp::host
