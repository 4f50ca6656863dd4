#include "stp/superblock_finder.h"

#include <algorithm>

#include "stp/medium.h"

namespace stp {

FoundSuperblock read_superblock_at(const RawFile& file, std::uint64_t offset) {
  FoundSuperblock found{.offset = offset, .superblock = {}, .fault = {}};
  const AlignedBuffer buffer(kMinBlockSize);
  if (auto ok = file.read(offset, buffer.span()); !ok) {
    found.fault = ok.error().text;
    return found;
  }
  auto superblock = decode_superblock(buffer.span());
  if (!superblock) {
    found.fault = superblock.error().text;
    if (found.fault.starts_with("superblock: ")) found.fault.erase(0, 12);
    return found;
  }
  const std::uint64_t place = open_any_block(buffer.span(), kSuperblockMagic).header.place;
  if (place * superblock->geometry.block_size != offset)
    found.fault = to_string(BlockFault::kPlace);
  else
    found.superblock = *superblock;
  return found;
}

std::vector<std::uint64_t> superblock_copy_places(std::uint64_t bytes) {
  std::vector<std::uint64_t> places;
  for (std::uint64_t size = kMinBlockSize; size <= kMaxBlockSize; size *= 2)
    if (bytes / size > 1) places.push_back((bytes / size - 1) * size);
  std::ranges::sort(places);
  places.erase(std::unique(places.begin(), places.end()), places.end());
  return places;
}

std::vector<FoundSuperblock> find_superblocks(const RawFile& file, std::uint64_t bytes) {
  std::vector<FoundSuperblock> good;
  const auto look = [&](std::uint64_t offset) {
    if (auto found = read_superblock_at(file, offset); found.superblock) good.push_back(std::move(found));
  };
  if (bytes >= kMinBlockSize) look(0);
  for (const std::uint64_t place : superblock_copy_places(bytes)) look(place);
  return good;
}

}  // namespace stp
