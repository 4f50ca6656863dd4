#include "stp/occupancy.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstring>

#include "stp/content.h"
#include "stp/medium.h"
#include "stp/storage.h"
#include "stp/superblock_finder.h"

namespace stp {
namespace {

constexpr std::size_t kLookedAt = 1024 * 1024;

// A regular file with bytes at its beginning that no tool of ours left there.
bool holds_foreign_bytes(const RawFile& file, ConstBytes beginning) {
  struct stat st {};
  if (::fstat(file.fd(), &st) != 0 || !S_ISREG(st.st_mode)) return false;
  for (std::size_t at = 0; at < kLookedAt; at += kMinBlockSize) {
    const ConstBytes block = beginning.subspan(at, kMinBlockSize);
    // An interrupted format leaves zeros and perhaps leases.
    if (std::memcmp(block.data(), "STP", 3) == 0) continue;
    if (std::ranges::any_of(block, [](std::byte b) { return b != std::byte{0}; })) return true;
  }
  return false;
}

// Who holds slots there, and who of them is alive: by the locks of this kernel, else by beats that change.
void find_hosts(const std::string& path, const WatchClock& clock, Occupancy& out) {
  auto storage = Storage::open(path, Storage::Access::kReadOnly);
  if (!storage) return;  // does not fit its place any more: nobody can run on it
  const auto hosts = observe_hosts(**storage, clock);
  if (!hosts) return;
  for (const HostReport& host : *hosts) {
    if (host.held()) out.slots.push_back(host.title());
    if (host.state == HostState::kAlive) out.live.push_back(host.title());
  }
}

}  // namespace

Result<Occupancy> examine_occupancy(const RawFile& file, const WatchClock& clock) {
  Occupancy out;
  const auto bytes = file.size();
  if (!bytes) return std::unexpected(bytes.error());
  // What can not be read is no empty place: it may be an STG whose disk fails just now.
  const AlignedBuffer beginning(kLookedAt);
  if (auto ok = file.read(0, beginning.span()); !ok) {
    out.content = fmt::format("something that can not be read ({})", ok.error().text);
    return out;
  }
  if (const auto found = find_superblocks(file, *bytes); !found.empty()) {
    out.stg = found.front().superblock;
    out.stg_copy_offset = out.stg->geometry.superblock_copy() * out.stg->geometry.block_size;
    find_hosts(file.path(), clock, out);
    out.content = fmt::format("the STG \"{}\" (UUID {}, {} hosts)", out.stg->stg, to_string(out.stg->uuid), out.stg->geometry.hosts);
    return out;
  }
  if (*bytes >= kMinBlockSize) out.content = foreign_content(file.path()).value_or("");
  if (out.content.empty() && holds_foreign_bytes(file, beginning.span())) out.content = "data of a kind that is not known";
  return out;
}

}  // namespace stp
