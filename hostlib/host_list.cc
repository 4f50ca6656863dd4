#include "hostlib/host_list.h"

#include <array>
#include <cstring>

#include "hostlib/agent_protocol.h"

namespace stp::host {
namespace {

struct Row {
  std::array<char, 96> name{};
  std::uint32_t state = 0;
  std::uint32_t flags = 0;
  double silent_s = 0;
};
static_assert(sizeof(Row) == 112);

struct Own {
  std::array<char, 96> name{};
  std::array<char, 256> why{};
  std::uint32_t state = 0;
  std::uint32_t reason = 0;
};
static_assert(sizeof(Own) == 360);

constexpr std::uint32_t kSeesMe = 1, kOneWay = 2;

template <class T>
void append(std::vector<std::byte>& out, const T& value) {
  const auto* from = reinterpret_cast<const std::byte*>(&value);
  out.insert(out.end(), from, from + sizeof value);
}

}  // namespace

std::vector<std::byte> encode_hosts(const MembershipBoard::View& view, std::size_t most) {
  std::vector<std::byte> out;
  Own own;
  put_text(own.name, view.self.name);
  put_text(own.why, view.self.why);
  own.state = static_cast<std::uint32_t>(view.self.state);
  own.reason = static_cast<std::uint32_t>(view.self.reason);
  append(out, own);
  for (const Peer& peer : view.peers) {
    if (peer.name.empty()) continue;
    if (out.size() + sizeof(Row) > most) break;
    Row row;
    put_text(row.name, peer.name);
    row.state = static_cast<std::uint32_t>(peer.state);
    row.flags = (peer.sees_me ? kSeesMe : 0) | (peer.one_way ? kOneWay : 0);
    row.silent_s = peer.silent_s;
    append(out, row);
  }
  return out;
}

MembershipBoard::View decode_hosts(ConstBytes bytes) {
  MembershipBoard::View view;
  Own own;
  if (bytes.size() < sizeof own) return view;
  std::memcpy(&own, bytes.data(), sizeof own);
  view.self.name = get_text(own.name);
  view.self.why = get_text(own.why);
  if (own.state <= static_cast<std::uint32_t>(MemberState::kStopped)) view.self.state = static_cast<MemberState>(own.state);
  view.self.reason = static_cast<Reason>(own.reason);
  for (std::size_t at = sizeof own; at + sizeof(Row) <= bytes.size(); at += sizeof(Row)) {
    Row row;
    std::memcpy(&row, bytes.data() + at, sizeof row);
    if (row.state > static_cast<std::uint32_t>(PeerState::kLeft)) break;
    Peer peer;
    peer.name = get_text(row.name);
    peer.state = static_cast<PeerState>(row.state);
    peer.sees_me = (row.flags & kSeesMe) != 0;
    peer.one_way = (row.flags & kOneWay) != 0;
    peer.silent_s = row.silent_s;
    view.peers.push_back(std::move(peer));
  }
  return view;
}

}  // namespace stp::host
