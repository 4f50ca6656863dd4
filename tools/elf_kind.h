// Whether a program can be preloaded: what `stp run` looks at before it starts one. Follows "#!" lines to the interpreter.
#pragma once

#include <string>

namespace stp::tools {

enum class ElfKind {
  kDynamic,     // takes LD_PRELOAD
  kStatic,      // has no dynamic linker: Go programs, often
  kPrivileged,  // setuid, setgid or with file capabilities: the dynamic linker ignores LD_PRELOAD
  kUnknown,     // can not be read: exec will say what is wrong with it
};

// `path` as for exec. `seen` becomes the file that was looked at.
ElfKind elf_kind(const std::string& path, std::string& seen);

// As execvp finds it; empty when it does not.
std::string find_program(const std::string& name);

}  // namespace stp::tools
