// Memory that is not the engine's, between a program and the device without a copy: whoever owns it lends what is to be sent, and room for
// what is received. Nobody trusts what lies there: the owner, or others that share it, may write to it at any time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

namespace stp {

// Keeps memory in place for as long as somebody holds it.
using Keeper = std::shared_ptr<const void>;

struct Loan {
  Keeper keeper;
  std::size_t most_bytes = 0;  // that its owner can lend at a time
};

// Where the bytes that a socket receives are to lie in the end.
class Landing {
 public:
  virtual ~Landing() = default;
  // The place of `bytes` bytes, a multiple of a block, that come `ahead` bytes behind what receive() has given so far. It must be free,
  // be written to by nobody, and stay there as long as this object. Null: they are received elsewhere, and copied.
  virtual std::byte* place(std::uint64_t ahead, std::size_t bytes) = 0;
};

}  // namespace stp
