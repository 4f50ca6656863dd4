// The kernel's side of the mount: libfuse's low-level session over a tree of nodes.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "fuse/node.h"
#include "stp/timing.h"

namespace stp::view {

struct SessionSettings {
  std::string mountpoint;
  std::vector<std::string> mount_options;  // for libfuse, without "-o"
  Nanos deadline = 5 * kSecond;            // of what has to be waited for, but for streams
  uid_t uid = 0;                           // owner of everything that does not say otherwise
  gid_t gid = 0;
  mode_t show_mode = 0444;                 // of texts; directories can be entered by whoever may read
  mode_t talk_mode = 0600;                 // of streams
};

// One mount. Not thread-safe; one a process.
class Session {
 public:
  virtual ~Session() = default;
  // Mounts. Until run() whoever looks at the mount waits.
  static Result<std::unique_ptr<Session>> mount(const SessionSettings& settings);
  // Goes into the background, when asked to, with the first process ended by status 0; the mount is there already.
  virtual Result<void> daemonize(bool foreground) = 0;
  // Shows the tree, until SIGTERM, SIGINT or SIGHUP, or until it is unmounted from outside. Then everything that is open is released, and the
  // mount is gone. False: something still hangs in the storage, the process should end without waiting for its threads.
  virtual Result<bool> run(NodePtr root) = 0;

 protected:
  Session() = default;
};

}  // namespace stp::view
