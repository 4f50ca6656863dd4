// A listening stream socket of the kernel, TCP or Unix, owned. The file of a Unix socket goes with it.
#pragma once

#include <sys/types.h>

#include <string>

#include "hostlib/unique_fd.h"
#include "stp/error.h"
#include "tools/forward_spec.h"

namespace stp::forward {

class KernelListener {
 public:
  // Non-blocking. A Unix socket is its user's alone (mode 0600); a file that a dead program left in its place is replaced, one that
  // somebody answers on, or that is no socket, is refused.
  static Result<KernelListener> open(const KernelAddress& address);
  KernelListener(KernelListener&&) noexcept = default;
  KernelListener& operator=(KernelListener&&) = delete;
  ~KernelListener();

  int fd() const { return fd_.get(); }

 private:
  KernelListener() = default;
  static Result<KernelListener> open_tcp(const KernelAddress& address);
  static Result<KernelListener> open_unix(const std::string& path);

  UniqueFd fd_;
  std::string path_;
  dev_t device_ = 0;
  ino_t inode_ = 0;
};

}  // namespace stp::forward
