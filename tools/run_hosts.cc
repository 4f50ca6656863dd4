#include "tools/run_hosts.h"

#include <cstring>

#include "stp/names.h"

namespace stp {

std::uint64_t RunHosts::storage() const {
  std::uint64_t number = 0;
  std::memcpy(&number, agent_.uuid().data(), sizeof number);
  return number;
}

std::uint32_t RunHosts::address_of(std::string_view host) const {
  const MembershipBoard::View view = agent_.view();
  if (view.self.name == host) return network_.address_of(storage(), view.self.identity.slot);
  for (std::size_t slot = 0; slot < view.peers.size(); ++slot)
    if (view.peers[slot].name == host) return network_.address_of(storage(), static_cast<std::uint32_t>(slot));
  return 0;
}

std::uint32_t RunHosts::resolve(std::string_view name, bool without_stg) const {
  std::string folded = fold_name(name);
  if (!folded.ends_with(".stp")) return 0;
  folded.resize(folded.size() - 4);
  if (const std::size_t dot = folded.find('.'); dot != std::string::npos) {
    if (folded.substr(dot + 1) != agent_.stg()) return 0;
    folded.resize(dot);
  } else if (!without_stg) {
    return 0;
  }
  return address_of(folded);
}

std::string RunHosts::name_of(std::uint32_t ip) const {
  const MembershipBoard::View view = agent_.view();
  if (network_.address_of(storage(), view.self.identity.slot) == ip) return view.self.name;
  for (std::size_t slot = 0; slot < view.peers.size(); ++slot)
    if (network_.address_of(storage(), static_cast<std::uint32_t>(slot)) == ip) return view.peers[slot].name;
  return {};
}

}  // namespace stp
