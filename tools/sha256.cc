#include "tools/sha256.h"

#include <fmt/format.h>
#include <openssl/evp.h>

#include <new>

namespace stp {

void Sha256::Free::operator()(evp_md_ctx_st* context) const { EVP_MD_CTX_free(context); }

// SHA-256 comes with every OpenSSL: these calls fail only for want of memory.
Sha256::Sha256() : context_(EVP_MD_CTX_new()) {
  if (!context_ || EVP_DigestInit_ex(context_.get(), EVP_sha256(), nullptr) != 1) throw std::bad_alloc();
}

void Sha256::update(ConstBytes bytes) {
  if (EVP_DigestUpdate(context_.get(), bytes.data(), bytes.size()) != 1) throw std::bad_alloc();
}

Digest Sha256::digest() const {
  const std::unique_ptr<evp_md_ctx_st, Free> copy(EVP_MD_CTX_new());
  Digest out{};
  if (!copy || EVP_MD_CTX_copy_ex(copy.get(), context_.get()) != 1 ||
      EVP_DigestFinal_ex(copy.get(), reinterpret_cast<unsigned char*>(out.data()), nullptr) != 1)
    throw std::bad_alloc();
  return out;
}

std::string to_hex(const Digest& digest) {
  std::string out;
  for (const std::byte b : digest) out += fmt::format("{:02x}", std::to_integer<unsigned>(b));
  return out;
}

}  // namespace stp
