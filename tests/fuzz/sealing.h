// Puts right what keeps damaged blocks out, so that the meaning of blocks is fuzzed, and not only their checksums.
#pragma once

#include "stp/block.h"
#include "tests/fuzz/target.h"

namespace stp::fuzz {

// The checksum alone.
inline void seal_again(Bytes block) {
  const OpenedBlock opened = open_any_block(block, load_le<std::uint64_t>(block.data()));
  BlockHeader header = opened.header;
  header.body_length = std::min(header.body_length, static_cast<std::uint32_t>(block.size() - kBlockHeaderSize));
  seal_block(block, header);
}

// And which kind it is, where it belongs and whose it is; writer's and addressee's identities, sequence and length stay as they are.
inline void seal_again(Bytes block, std::uint64_t magic, const Uuid& uuid, std::uint64_t place, Slot writer) {
  OpenedBlock opened = open_any_block(block, load_le<std::uint64_t>(block.data()));
  BlockHeader& header = opened.header;
  header.magic = magic;
  header.version = 1;
  header.uuid = uuid;
  header.place = place;
  header.writer.slot = writer;
  header.key_id = 0;
  header.body_length = std::min(header.body_length, static_cast<std::uint32_t>(block.size() - kBlockHeaderSize));
  seal_block(block, header);
}

}  // namespace stp::fuzz
