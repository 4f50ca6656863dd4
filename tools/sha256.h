// SHA-256 of a stream, by OpenSSL.
#pragma once

#include <array>
#include <cstddef>
#include <memory>
#include <string>

#include "stp/bytes.h"

struct evp_md_ctx_st;

namespace stp {

using Digest = std::array<std::byte, 32>;

class Sha256 {
 public:
  Sha256();
  Sha256(Sha256&&) noexcept = default;
  Sha256& operator=(Sha256&&) noexcept = default;
  ~Sha256() = default;

  void update(ConstBytes bytes);
  // Of everything so far; more may follow.
  Digest digest() const;

 private:
  struct Free {
    void operator()(evp_md_ctx_st* context) const;
  };
  std::unique_ptr<evp_md_ctx_st, Free> context_;
};

std::string to_hex(const Digest& digest);

}  // namespace stp
