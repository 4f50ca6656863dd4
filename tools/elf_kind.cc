#include "tools/elf_kind.h"

#include <elf.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <sstream>

#include "hostlib/unique_fd.h"

namespace stp::tools {
namespace {

constexpr int kMostInterpreters = 4;

bool is_privileged(const std::string& path, const struct stat& facts) {
  const bool root = ::geteuid() == 0;
  const bool other_user = (facts.st_mode & S_ISUID) != 0 && facts.st_uid != ::geteuid();
  const bool other_group = (facts.st_mode & S_ISGID) != 0 && facts.st_gid != ::getegid();
  return other_user || other_group || (!root && ::getxattr(path.c_str(), "security.capability", nullptr, 0) > 0);
}

ElfKind kind_of_headers(int fd, const Elf64_Ehdr& header) {
  for (unsigned i = 0; i < header.e_phnum; ++i) {
    Elf64_Phdr part;
    const auto at = static_cast<off_t>(header.e_phoff + std::uint64_t{i} * header.e_phentsize);
    if (::pread(fd, &part, sizeof part, at) != sizeof part) return ElfKind::kUnknown;
    if (part.p_type == PT_INTERP) return ElfKind::kDynamic;
  }
  return ElfKind::kStatic;
}

}  // namespace

ElfKind elf_kind(const std::string& path, std::string& seen) {
  seen = path;
  for (int i = 0; i < kMostInterpreters; ++i) {
    const UniqueFd fd(::open(seen.c_str(), O_RDONLY | O_CLOEXEC));
    struct stat facts = {};
    if (!fd || ::fstat(fd.get(), &facts) != 0) return ElfKind::kUnknown;
    char head[256] = {};
    const ssize_t n = ::pread(fd.get(), head, sizeof head - 1, 0);
    if (n > 2 && head[0] == '#' && head[1] == '!') {
      std::istringstream line(std::string(head + 2, static_cast<std::size_t>(n - 2)));
      std::string interpreter, argument;
      line >> interpreter >> argument;
      if (interpreter.empty()) return ElfKind::kUnknown;
      seen = interpreter.ends_with("/env") && !argument.empty() ? find_program(argument) : interpreter;
      continue;
    }
    Elf64_Ehdr header;
    if (n < static_cast<ssize_t>(sizeof header) || std::memcmp(head, ELFMAG, SELFMAG) != 0 || head[EI_CLASS] != ELFCLASS64) return ElfKind::kUnknown;
    std::memcpy(&header, head, sizeof header);
    if (is_privileged(seen, facts)) return ElfKind::kPrivileged;
    return kind_of_headers(fd.get(), header);
  }
  return ElfKind::kUnknown;
}

std::string find_program(const std::string& name) {
  if (name.find('/') != std::string::npos) return ::access(name.c_str(), X_OK) == 0 ? name : std::string();
  const char* const path = std::getenv("PATH");
  std::istringstream folders(path != nullptr ? path : "/usr/local/bin:/usr/bin:/bin");
  for (std::string folder; std::getline(folders, folder, ':');) {
    const std::string candidate = (folder.empty() ? "." : folder) + "/" + name;
    struct stat facts = {};
    if (::access(candidate.c_str(), X_OK) == 0 && ::stat(candidate.c_str(), &facts) == 0 && S_ISREG(facts.st_mode)) return candidate;
  }
  return {};
}

}  // namespace stp::tools
