#include "stp/repair.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "stp/medium.h"
#include "stp/superblock_finder.h"

namespace stp {
namespace {

constexpr std::size_t kScanPiece = 1024 * 1024;

// The copy where nothing says where it is: at the end in any block size, else anywhere (a device larger than its storage).
std::optional<FoundSuperblock> search_copy(const RawFile& file, std::uint64_t bytes) {
  for (const std::uint64_t place : superblock_copy_places(bytes))
    if (auto found = read_superblock_at(file, place); place != 0 && found.superblock) return found;
  const AlignedBuffer buffer(kScanPiece);
  for (std::uint64_t at = 0; at < bytes; at += kScanPiece) {
    if (!file.read(at, buffer.span())) continue;
    for (std::size_t i = at == 0 ? kMinBlockSize : 0; i < kScanPiece; i += kMinBlockSize)
      if (load_le<std::uint64_t>(buffer.data() + i) == kSuperblockMagic)
        if (auto found = read_superblock_at(file, at + i); found.superblock) return found;
  }
  return std::nullopt;
}

Result<void> write_superblock(const std::string& path, const Superblock& superblock, std::uint64_t place) {
  auto file = RawFile::open(path, {.write = true, .buffered = superblock.medium == MediumKind::kMapped});
  if (!file) return std::unexpected(file.error());
  const std::size_t size = superblock.geometry.block_size;
  const AlignedBuffer block(size), back(size);
  encode_superblock(block.span().first(size), superblock, place);
  if (auto ok = file->write(place * size, block.span().first(size)); !ok) return ok;
  if (auto ok = file->sync(); !ok) return ok;
  if (auto ok = file->read(place * size, back.span().first(size)); !ok) return ok;
  if (std::memcmp(block.data(), back.data(), size) != 0)
    return fail(EIO, fmt::format("{}: block {} does not keep what is written to it; the disk fails", path, place));
  return {};
}

}  // namespace

Result<RepairOutcome> repair_superblock(const RepairRequest& request) {
  auto file = RawFile::open(request.path, {});
  if (!file) return std::unexpected(file.error());
  const auto bytes = file->size();
  if (!bytes) return std::unexpected(bytes.error());

  const FoundSuperblock first = read_superblock_at(*file, 0);
  FoundSuperblock copy;
  if (first.superblock) {
    const std::uint64_t place = first.superblock->geometry.superblock_copy() * first.superblock->geometry.block_size;
    if (place >= *bytes)
      return fail(EUCLEAN, fmt::format("{}: was formatted with {} bytes and has only {} now; give it back its size first", request.path,
                                       first.superblock->geometry.total_bytes(), *bytes));
    copy = read_superblock_at(*file, place);
  } else if (auto found = search_copy(*file, *bytes)) {
    copy = *found;
  }
  if (!first.superblock && !copy.superblock)
    return fail(EUCLEAN, fmt::format("{}: neither the superblock nor a copy of it is good ({}); if the file or device was cut or grown, give it back its "
                                     "size and try again, else it must be formatted anew", request.path, first.fault));
  std::optional<RepairSource> from;
  if (!first.superblock) from = RepairSource::kCopy;
  if (!copy.superblock) from = RepairSource::kFirst;
  if (!from && *first.superblock == *copy.superblock) return RepairOutcome{.superblock = *first.superblock, .was = {}};
  if (!from && !request.from)
    return fail(EEXIST, fmt::format("{}: superblock and copy are both good and differ: the first is of STG \"{}\", UUID {}; the copy of \"{}\", UUID {}; say "
                                    "which one is right: --from first or --from copy", request.path, first.superblock->stg,
                                    to_string(first.superblock->uuid), copy.superblock->stg, to_string(copy.superblock->uuid)));
  if (from && request.from && *from != *request.from)
    return fail(EUCLEAN, fmt::format("{}: {} can not be taken: {}", request.path, *request.from == RepairSource::kFirst ? "the superblock" : "the copy",
                                     *request.from == RepairSource::kFirst ? first.fault : copy.fault));
  if (!from) from = request.from;

  RepairOutcome out;
  out.superblock = *from == RepairSource::kFirst ? *first.superblock : *copy.superblock;
  out.done = *from == RepairSource::kFirst ? RepairOutcome::Done::kCopyRestored : RepairOutcome::Done::kFirstRestored;
  out.was = *from == RepairSource::kFirst ? copy.fault : first.fault;
  if (out.was.empty()) out.was = "it said something else than the other one";
  const std::uint64_t place = *from == RepairSource::kFirst ? out.superblock.geometry.superblock_copy() : 0;
  if (auto ok = write_superblock(request.path, out.superblock, place); !ok) return std::unexpected(ok.error());
  return out;
}

}  // namespace stp
