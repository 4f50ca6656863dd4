#include "stp/occupancy.h"

#include <blkid/blkid.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <memory>
#include <thread>

#include "stp/lease.h"
#include "stp/medium.h"
#include "stp/superblock_finder.h"

namespace stp {
namespace {

constexpr std::size_t kLookedAt = 1024 * 1024;

std::string value_of(blkid_probe probe, const char* name) {
  const char* text = nullptr;
  if (blkid_probe_lookup_value(probe, name, &text, nullptr) != 0 || text == nullptr) return {};
  return text;
}

// In words what libblkid knows about it; empty when it knows nothing.
std::string known_signature(const RawFile& file) {
  // A description of its own: libblkid reads at odd offsets, which O_DIRECT does not allow.
  auto buffered = RawFile::open(file.path(), {.buffered = true});
  if (!buffered) return {};
  const std::unique_ptr<std::remove_pointer_t<blkid_probe>, decltype(&blkid_free_probe)> probe(blkid_new_probe(), &blkid_free_probe);
  if (!probe || blkid_probe_set_device(probe.get(), buffered->fd(), 0, 0) != 0) return {};
  blkid_probe_enable_superblocks(probe.get(), 1);
  blkid_probe_set_superblocks_flags(probe.get(), BLKID_SUBLKS_LABEL | BLKID_SUBLKS_TYPE | BLKID_SUBLKS_USAGE);
  blkid_probe_enable_partitions(probe.get(), 1);
  const int found = blkid_do_safeprobe(probe.get());
  if (found == -2) return "more than one file system or partition table (libblkid can not tell which)";
  if (found != 0) return {};
  const std::string type = value_of(probe.get(), "TYPE"), label = value_of(probe.get(), "LABEL");
  const std::string table = value_of(probe.get(), "PTTYPE"), usage = value_of(probe.get(), "USAGE");
  if (!type.empty()) {
    const char* kind = usage == "filesystem" ? "file system" : usage == "raid" ? "volume" : usage == "crypto" ? "encrypted volume" : "signature";
    const char* article = std::string_view("aeiou").find(type[0]) == std::string_view::npos ? "a" : "an";
    return fmt::format("{} {} {}{}", article, type, kind, label.empty() ? "" : fmt::format(" labelled \"{}\"", label));
  }
  return table.empty() ? std::string() : fmt::format("a {} partition table", table);
}

// A regular file with bytes at its beginning that no tool of ours left there.
bool holds_foreign_bytes(const RawFile& file) {
  struct stat st {};
  if (::fstat(file.fd(), &st) != 0 || !S_ISREG(st.st_mode) || st.st_size == 0) return false;
  const AlignedBuffer buffer(kLookedAt);
  if (!file.read(0, buffer.span())) return false;
  for (std::size_t at = 0; at < kLookedAt; at += kMinBlockSize) {
    const ConstBytes block = ConstBytes(buffer.span()).subspan(at, kMinBlockSize);
    // An interrupted format leaves zeros and perhaps leases.
    if (std::memcmp(block.data(), "STP", 3) == 0) continue;
    if (std::ranges::any_of(block, [](std::byte b) { return b != std::byte{0}; })) return true;
  }
  return false;
}

std::vector<DecodedLease> read_leases(const RawFile& file, const Superblock& s) {
  const Geometry& g = s.geometry;
  std::vector<DecodedLease> leases;
  const AlignedBuffer buffer(static_cast<std::size_t>(g.hosts) * g.block_size);
  if (!file.read(g.lease_first * g.block_size, buffer.span())) return leases;
  for (Slot slot = 0; slot < g.hosts; ++slot)
    leases.push_back(decode_lease(buffer.span().subspan(static_cast<std::size_t>(slot) * g.block_size, g.block_size), s.uuid, g, slot));
  return leases;
}

bool held(const DecodedLease& l) { return l.fault == BlockFault::kNone && l.lease.state != LeaseState::kFree; }

// Beats that change show who is alive. A few beats long: enough for anyone whose storage works.
void watch_leases(const RawFile& file, Occupancy& out) {
  const Superblock& s = *out.stg;
  const auto first = read_leases(file, s);
  for (const auto& l : first)
    if (held(l)) out.slots.push_back(l.lease.name);
  if (out.slots.empty()) return;
  const auto step = std::chrono::milliseconds(s.timing.beat_ms);
  const auto end = std::chrono::steady_clock::now() + std::min(3 * step + std::chrono::milliseconds(s.timing.beat_io_ms),
                                                               std::chrono::milliseconds(s.timing.dead_ms));
  while (std::chrono::steady_clock::now() < end && out.live.size() < out.slots.size()) {
    std::this_thread::sleep_for(step / 2);
    const auto now = read_leases(file, s);
    out.live.clear();
    for (std::size_t i = 0; i < std::min(now.size(), first.size()); ++i)
      if (held(now[i]) && (!held(first[i]) || now[i].lease.beat != first[i].lease.beat || now[i].lease.owner != first[i].lease.owner))
        out.live.push_back(now[i].lease.name);
  }
}

}  // namespace

Result<Occupancy> examine_occupancy(const RawFile& file) {
  Occupancy out;
  const auto bytes = file.size();
  if (!bytes) return std::unexpected(bytes.error());
  if (*bytes < kMinBlockSize) {
    if (*bytes > 0 && holds_foreign_bytes(file)) out.content = "data of a kind that is not known";
    return out;
  }
  if (const auto found = find_superblocks(file, *bytes); !found.empty()) {
    out.stg = found.front().superblock;
    out.stg_copy_offset = out.stg->geometry.superblock_copy() * out.stg->geometry.block_size;
    watch_leases(file, out);
    out.content = fmt::format("the STG \"{}\" (UUID {}, {} hosts)", out.stg->stg, to_string(out.stg->uuid), out.stg->geometry.hosts);
    return out;
  }
  out.content = known_signature(file);
  if (out.content.empty() && holds_foreign_bytes(file)) out.content = "data of a kind that is not known";
  return out;
}

}  // namespace stp
