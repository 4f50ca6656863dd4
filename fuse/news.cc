#include "fuse/news.h"

#include <fmt/format.h>

#include "fuse/texts.h"

namespace stp::view {
namespace {

std::string without_newline(std::string text) {
  if (!text.empty() && text.back() == '\n') text.pop_back();
  return text;
}

template <class Set, class Tell>
void tell_new(const Set& before, const Set& now, Tell tell) {
  for (const auto& each : now)
    if (!before.contains(each)) tell(each);
}

}  // namespace

Result<NewsWatch::Hosts> NewsWatch::look_at_all() {
  const auto group = view_.group(Patience::kMayWait);
  if (!group) return std::unexpected(group.error());
  Hosts hosts;
  for (const HostReport& report : (*group)->hosts) {
    const std::string& name = (*group)->names[report.slot];
    if (name.empty()) continue;
    Host& host = hosts[name];
    host.state = report.state;
    host.incarnation = report.lease.owner.incarnation;
    if (report.fault != BlockFault::kNone) host.faults.insert(fmt::format("lease: {}", to_string(report.fault)));
    if (!report.held() || report.state == HostState::kUnreadable) continue;
    const auto sockets = view_.sockets(name, Patience::kMayWait);
    if (!sockets && sockets.error().code != ENOENT) return std::unexpected(sockets.error());
    const auto ports = view_.ports(name, Patience::kMayWait);
    if (!ports && ports.error().code != ENOENT) return std::unexpected(ports.error());
    if (!sockets || !ports) continue;
    for (const SocketRow& row : (*sockets)->rows)
      host.sockets[row.scb.index] = {.made_ms = row.scb.made_ms, .session = row.scb.session,
                                     .local = fmt::format("{} {}", to_string(row.scb.state), without_newline(local_text(row))), .remote = without_newline(remote_text(row))};
    for (const PortRow& row : (*ports)->rows) host.ports.insert(row.port);
    host.faults.insert((*sockets)->warnings.begin(), (*sockets)->warnings.end());
    host.faults.insert((*ports)->warnings.begin(), (*ports)->warnings.end());
  }
  return hosts;
}

std::vector<std::string> NewsWatch::look() {
  std::vector<std::string> news;
  auto seen = look_at_all();
  if (!seen) {
    if (!std::exchange(lost_, true)) news.push_back(fmt::format("source lost: {}", seen.error().text));
    return news;
  }
  if (std::exchange(lost_, false)) news.emplace_back("source back");
  const bool first = !std::exchange(begun_, true);
  const Hosts before = std::exchange(hosts_, std::move(*seen));
  if (first) return news;
  static const Host nothing;
  const auto was = [&](const std::string& name) -> const Host& {
    const auto it = before.find(name);
    return it == before.end() ? nothing : it->second;
  };
  const auto tell_host = [&](const std::string& name, const Host& old, const Host& now) {
    const bool other_life = now.incarnation != old.incarnation;
    if (now.state == HostState::kAlive && (old.state != HostState::kAlive || other_life)) news.push_back(fmt::format("host up {} incarnation {}", name, now.incarnation));
    for (const auto& [state, word] : {std::pair(HostState::kSilent, "silent"), {HostState::kDead, "dead"}, {HostState::kLeft, "left"}, {HostState::kJoining, "joining"}})
      if (now.state == state && (old.state != state || other_life)) news.push_back(fmt::format("host {} {}", word, name));
    tell_new(old.faults, now.faults, [&](const std::string& fault) { news.push_back(fmt::format("fault found {}: {}", name, fault)); });
    tell_new(now.faults, old.faults, [&](const std::string& fault) { news.push_back(fmt::format("fault gone {}: {}", name, fault)); });
    for (const auto& [scb, socket] : old.sockets) {
      const auto it = now.sockets.find(scb);
      const bool same = it != now.sockets.end() && it->second.made_ms == socket.made_ms && !other_life;
      if (!same) news.push_back(fmt::format("socket closed {} {} {} {}", name, scb, socket.local, socket.remote));
    }
    for (const auto& [scb, socket] : now.sockets) {
      const auto it = old.sockets.find(scb);
      const bool same = it != old.sockets.end() && it->second.made_ms == socket.made_ms && !other_life;
      if (!same) news.push_back(fmt::format("socket opened {} {} {} {}", name, scb, socket.local, socket.remote));
    }
    tell_new(old.ports, now.ports, [&](std::uint16_t port) { news.push_back(fmt::format("port opened {} {}", name, port)); });
    tell_new(now.ports, old.ports, [&](std::uint16_t port) { news.push_back(fmt::format("port closed {} {}", name, port)); });
  };
  for (const auto& [name, now] : hosts_) tell_host(name, was(name), now);
  for (const auto& [name, old] : before) {
    if (hosts_.contains(name)) continue;
    if (old.state != HostState::kUnreadable) news.push_back(fmt::format("host gone {}", name));
    tell_host(name, old, Host{.state = HostState::kFree, .incarnation = old.incarnation, .sockets = {}, .ports = {}, .faults = {}});
  }
  return news;
}

}  // namespace stp::view
