// Explicit little-endian access to bytes that came from, or go to, the disk.
// No struct is ever laid over foreign bytes. Writer and Reader never step
// outside their span: a Reader that runs short turns bad() and yields zeros.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>

namespace stp {

using Bytes = std::span<std::byte>;
using ConstBytes = std::span<const std::byte>;

template <class T>
inline T load_le(const std::byte* at) {
  T value = 0;
  for (std::size_t i = 0; i < sizeof(T); ++i)
    value = static_cast<T>(value | (static_cast<T>(std::to_integer<std::uint8_t>(at[i])) << (8 * i)));
  return value;
}

template <class T>
inline void store_le(std::byte* at, T value) {
  for (std::size_t i = 0; i < sizeof(T); ++i)
    at[i] = static_cast<std::byte>((value >> (8 * i)) & 0xff);
}

class Writer {
 public:
  explicit Writer(Bytes out) : out_(out) {}

  void u8(std::uint8_t v) { put(v); }
  void u16(std::uint16_t v) { put(v); }
  void u32(std::uint32_t v) { put(v); }
  void u64(std::uint64_t v) { put(v); }
  void raw(ConstBytes v) {
    if (!room(v.size())) return;
    if (!v.empty()) std::memcpy(out_.data() + at_, v.data(), v.size());
    at_ += v.size();
  }
  void zeros(std::size_t n) {
    if (!room(n)) return;
    std::memset(out_.data() + at_, 0, n);
    at_ += n;
  }
  // A NUL-padded field of exactly `width` bytes; longer text is cut to width - 1.
  void text(std::string_view v, std::size_t width) {
    const std::size_t n = v.size() < width ? v.size() : width - 1;
    raw(std::as_bytes(std::span(v.data(), n)));
    zeros(width - n);
  }
  std::size_t size() const { return at_; }
  bool bad() const { return bad_; }

 private:
  template <class T>
  void put(T v) {
    if (!room(sizeof(T))) return;
    store_le<T>(out_.data() + at_, v);
    at_ += sizeof(T);
  }
  bool room(std::size_t n) {
    if (out_.size() - at_ < n) bad_ = true;
    return !bad_;
  }
  Bytes out_;
  std::size_t at_ = 0;
  bool bad_ = false;
};

class Reader {
 public:
  explicit Reader(ConstBytes in) : in_(in) {}

  std::uint8_t u8() { return get<std::uint8_t>(); }
  std::uint16_t u16() { return get<std::uint16_t>(); }
  std::uint32_t u32() { return get<std::uint32_t>(); }
  std::uint64_t u64() { return get<std::uint64_t>(); }
  ConstBytes raw(std::size_t n) {
    if (!room(n)) return {};
    ConstBytes part = in_.subspan(at_, n);
    at_ += n;
    return part;
  }
  template <std::size_t N>
  std::array<std::byte, N> array() {
    std::array<std::byte, N> out{};
    ConstBytes part = raw(N);
    if (!part.empty()) std::memcpy(out.data(), part.data(), N);
    return out;
  }
  void skip(std::size_t n) { (void)raw(n); }
  // A NUL-padded field; the text ends at the first NUL or the field's end.
  std::string text(std::size_t width) {
    ConstBytes part = raw(width);
    std::string out;
    for (std::byte b : part) {
      if (b == std::byte{0}) break;
      out.push_back(static_cast<char>(b));
    }
    return out;
  }
  std::size_t at() const { return at_; }
  std::size_t left() const { return in_.size() - at_; }
  bool bad() const { return bad_; }

 private:
  template <class T>
  T get() {
    if (!room(sizeof(T))) return 0;
    T v = load_le<T>(in_.data() + at_);
    at_ += sizeof(T);
    return v;
  }
  bool room(std::size_t n) {
    if (in_.size() - at_ < n) bad_ = true;
    return !bad_;
  }
  ConstBytes in_;
  std::size_t at_ = 0;
  bool bad_ = false;
};

}  // namespace stp
