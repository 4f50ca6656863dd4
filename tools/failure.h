// What went wrong in a tool, as a value: a code that is also the exit status of stp-ftp and the number on the wire of the file
// transfer protocol, and a sentence for the operator that names the object.
#pragma once

#include <cstdint>
#include <expected>
#include <string>
#include <string_view>
#include <utility>

namespace stp {

// Never renumber: scripts and the protocol rely on the numbers.
enum class FailureCode : std::uint16_t {
  kOther = 1,
  kUsage = 2,          // local only
  kCannotConnect = 3,  // local only
  kPeerGone = 4,       // local only
  kNotFound = 5,
  kPermission = 6,
  kDiskFull = 7,
  kChecksum = 8,
  kProtocol = 9,
  kIo = 10,
  kRefused = 11,
  kSomeFailed = 12,  // local only
  kWrongKind = 13,
  kExists = 14,
  kChanged = 15,
  kBusy = 16,
  kInterrupted = 130,  // local only
};

struct Failure {
  FailureCode code = FailureCode::kOther;
  std::string text;
};

template <class T>
using Outcome = std::expected<T, Failure>;

inline std::unexpected<Failure> failure(FailureCode code, std::string text) { return std::unexpected<Failure>(Failure{code, std::move(text)}); }

inline int exit_status(FailureCode code) { return static_cast<int>(code); }

// The code that fits an errno of a file operation. EXDEV and ELOOP are what the kernel says to a path that leads out of its root.
FailureCode code_of_errno(int error);

// "what: reason" for a failed file operation.
std::unexpected<Failure> file_failure(int error, std::string_view what);

// A code as it came over the wire: unknown ones, and those that only make sense locally, become kOther.
FailureCode code_from_wire(std::uint16_t number);

// Foreign text made fit for a terminal: control bytes and bytes that are not UTF-8 text appear as \xNN.
std::string printable(std::string_view foreign);

// The table of exit statuses of stp-ftp, for --help.
std::string_view exit_status_help();

}  // namespace stp
