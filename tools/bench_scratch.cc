#include "tools/bench_scratch.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "stp/lease.h"

namespace stp::tools {
namespace {

constexpr std::uint64_t kMiB = 1 << 20;
constexpr std::uint64_t kWanted = 256 * kMiB;
constexpr std::uint64_t kNeeded = 16 * kMiB;

bool slot_is_free(Storage& storage, Slot slot) {
  const Superblock& superblock = storage.superblock();
  AlignedBuffer block(superblock.geometry.block_size);
  if (!storage.read(superblock.geometry.lease(slot), block.span())) return false;
  const DecodedLease lease = decode_lease(block.span(), superblock.uuid, superblock.geometry, slot);
  return lease.fault == BlockFault::kNone && lease.lease.state == LeaseState::kFree && lease.lease.name.empty();
}

}  // namespace

BenchScratch::~BenchScratch() {
  if (file_ >= 0) ::close(file_);
}

Result<std::unique_ptr<BenchScratch>> BenchScratch::make(Storage& storage) {
  const Geometry& geometry = storage.superblock().geometry;
  const std::uint64_t region = static_cast<std::uint64_t>(geometry.extents) * kExtentBytes / kMiB * kMiB;
  const std::uint64_t bytes = std::min(region, kWanted);
  return storage.facts().block_device ? in_free_slot(storage, bytes) : beside_file(storage.path(), std::max(bytes, kNeeded));
}

Result<std::unique_ptr<BenchScratch>> BenchScratch::beside_file(const std::string& path, std::uint64_t bytes) {
  std::unique_ptr<BenchScratch> scratch(new BenchScratch);
  std::string name = path + ".bench-XXXXXX";
  auto failed = [&](const char* what) {
    const int error = errno;
    return fail(error, fmt::format("{} a scratch file of {} MiB beside \"{}\": {}; the bench needs that room", what, bytes / kMiB, path,
                                   std::strerror(error)));
  };
  scratch->file_ = ::mkostemp(name.data(), O_CLOEXEC);
  if (scratch->file_ < 0) return failed("can not make");
  ::unlink(name.c_str());
  // Written, not only allocated: the first write to an unwritten extent is slower than all others.
  AlignedBuffer chunk(kMiB);
  std::fill_n(chunk.data(), chunk.size(), std::byte{0x5a});
  for (std::uint64_t at = 0; at < bytes; at += kMiB) {
    if (::pwrite(scratch->file_, chunk.data(), kMiB, static_cast<off_t>(at)) != static_cast<ssize_t>(kMiB)) return failed("can not write");
  }
  if (::fsync(scratch->file_) != 0) return failed("can not sync");
  scratch->range_ = {.path = fmt::format("/proc/self/fd/{}", scratch->file_), .offset = 0, .length = bytes};
  return scratch;
}

Result<std::unique_ptr<BenchScratch>> BenchScratch::in_free_slot(Storage& storage, std::uint64_t bytes) {
  const Geometry& geometry = storage.superblock().geometry;
  if (bytes < kNeeded)
    return fail(ENOSPC, fmt::format("the cache region of a slot on \"{}\" has only {} MiB; raw I/O needs {}", storage.path(), bytes / kMiB,
                                    kNeeded / kMiB));
  for (Slot slot = geometry.hosts; slot-- > 0;) {
    if (!slot_is_free(storage, slot)) continue;
    std::unique_ptr<BenchScratch> scratch(new BenchScratch);
    scratch->slot_ = slot;
    scratch->range_ = {.path = storage.path(), .offset = geometry.extent(slot, 0) * geometry.block_size, .length = bytes};
    return scratch;
  }
  return fail(EBUSY, fmt::format("no slot of \"{}\" is free, so there are no blocks for the raw rivals that no host uses; free one with "
                                 "`stp evict` or run the bench on a storage of its own", storage.path()));
}

Result<void> BenchScratch::still_free(Storage& storage) const {
  if (slot_ == kNoSlot || slot_is_free(storage, slot_)) return {};
  return fail(EBUSY, fmt::format("a host joined in slot {} while raw I/O was measured in its cache region; its transfers may have had to be "
                                 "repeated, and the figures of this run mean nothing", slot_));
}

}  // namespace stp::tools
