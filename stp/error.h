// Errors as values. Everything below the C API returns Result<T>; errno appears
// only as Error::code, so that the BSD edge can hand it on unchanged.
#pragma once

#include <cstdint>
#include <expected>
#include <string>
#include <utility>

namespace stp {

// code: an errno value. text: what happened, to which object, what to do.
struct Error {
  int code = 0;
  std::string text;
};

template <class T>
using Result = std::expected<T, Error>;

inline std::unexpected<Error> fail(int code, std::string text) {
  return std::unexpected<Error>(Error{code, std::move(text)});
}

}  // namespace stp
