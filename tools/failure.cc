#include "tools/failure.h"

#include <fmt/format.h>

#include <cerrno>
#include <cstddef>
#include <cstring>

namespace stp {

FailureCode code_of_errno(int error) {
  switch (error) {
    case ENOENT:
      return FailureCode::kNotFound;
    case EACCES:
    case EPERM:
    case EROFS:
      return FailureCode::kPermission;
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
      return FailureCode::kDiskFull;
    case EISDIR:
    case ENOTDIR:
      return FailureCode::kWrongKind;
    case EEXIST:
    case ENOTEMPTY:
      return FailureCode::kExists;
    case EXDEV:
    case ELOOP:
      return FailureCode::kRefused;
    default:
      return FailureCode::kIo;
  }
}

std::unexpected<Failure> file_failure(int error, std::string_view what) {
  if (error == EXDEV || error == ELOOP) return failure(FailureCode::kRefused, fmt::format("{}: it leads out of the root directory", what));
  char buffer[128];
  return failure(code_of_errno(error), fmt::format("{}: {}", what, strerror_r(error, buffer, sizeof buffer)));
}

FailureCode code_from_wire(std::uint16_t number) {
  switch (static_cast<FailureCode>(number)) {
    case FailureCode::kNotFound:
    case FailureCode::kPermission:
    case FailureCode::kDiskFull:
    case FailureCode::kChecksum:
    case FailureCode::kProtocol:
    case FailureCode::kIo:
    case FailureCode::kRefused:
    case FailureCode::kWrongKind:
    case FailureCode::kExists:
    case FailureCode::kChanged:
    case FailureCode::kBusy:
      return static_cast<FailureCode>(number);
    default:
      return FailureCode::kOther;
  }
}

namespace {

// Length of the well-formed printable UTF-8 sequence at the start of `text`; 0 where there is none.
std::size_t utf8_length(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char first = byte(0);
  if (first >= 0x20 && first < 0x7f) return 1;
  const std::size_t length = first >= 0xc2 && first <= 0xdf ? 2 : first >= 0xe0 && first <= 0xef ? 3 : first >= 0xf0 && first <= 0xf4 ? 4 : 0;
  if (length == 0 || text.size() < length) return 0;
  for (std::size_t i = 1; i < length; ++i)
    if ((byte(i) & 0xc0) != 0x80) return 0;
  if (first == 0xc2 && byte(1) < 0xa0) return 0;  // C1 controls
  if (first == 0xe0 && byte(1) < 0xa0) return 0;
  if (first == 0xed && byte(1) > 0x9f) return 0;
  if (first == 0xf0 && byte(1) < 0x90) return 0;
  if (first == 0xf4 && byte(1) > 0x8f) return 0;
  return length;
}

}  // namespace

std::string printable(std::string_view foreign) {
  std::string out;
  while (!foreign.empty()) {
    const std::size_t length = utf8_length(foreign);
    if (length == 0) {
      out += fmt::format("\\x{:02x}", static_cast<unsigned char>(foreign[0]));
      foreign.remove_prefix(1);
      continue;
    }
    out += foreign.substr(0, length);
    foreign.remove_prefix(length);
  }
  return out;
}

std::string_view exit_status_help() {
  return "Exit status:\n"
         "   0  all done\n"
         "   1  something else\n"
         "   2  usage: unknown command, missing argument\n"
         "   3  cannot connect: nobody listens, host unknown or down, storage unusable, server full\n"
         "   4  the server went away, or did not answer, in the middle of the work\n"
         "   5  no such file or directory\n"
         "   6  no permission\n"
         "   7  disk full, quota or file size limit reached\n"
         "   8  checksum mismatch: what arrived is not what was sent; nothing was kept\n"
         "   9  the server does not speak this protocol, or broke it\n"
         "  10  I/O error on a file, here or on the server\n"
         "  11  refused: the path leads out of the root, or the server is read-only\n"
         "  12  some of several files failed, each was named\n"
         "  13  is a directory where a file is needed, or the reverse\n"
         "  14  exists already, or a directory is not empty\n"
         "  15  the source changed while it was read\n"
         "  16  another transfer is writing the same file\n"
         " 130  interrupted; what was transferred is kept for resume\n";
}

}  // namespace stp
