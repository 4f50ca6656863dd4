// One request, done now by the calling thread; and the check that every medium makes before it takes one.
#pragma once

#include "stp/medium.h"

namespace stp {

// 0, or EINVAL: no blocks or too many, outside the storage, or a buffer that is not aligned.
int check_request(const IoRequest& request, std::uint32_t block_size, std::uint64_t total_blocks);

// pread or pwrite of a checked request; blocks. 0 or an errno; EIO when fewer bytes were moved than asked for.
int transfer(int fd, const IoRequest& request, std::uint32_t block_size);

}  // namespace stp
