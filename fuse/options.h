// The command line of stp-fuse, which is also what mount(8) hands to a helper: SRC DIR -o name,name=value,...
#pragma once

#include <sys/types.h>

#include <string>
#include <string_view>
#include <vector>

#include "stp/error.h"
#include "stp/timing.h"

namespace stp::view {

struct MountOptions {
  enum class Talk : std::uint8_t { kOwner, kGroup, kAll };
  std::string agent;                        // its socket; empty: STP_AGENT, or the default
  bool no_agent = false;                    // straight from the storage, even where an agent serves it
  uid_t uid = 0;
  gid_t gid = 0;
  mode_t mode = 0444;                       // of texts
  Talk talk = Talk::kOwner;                 // who may open what flows
  Nanos deadline = 5 * kSecond;
  Nanos fresh = 150 * kMillisecond;
  bool allow_other = false;
  std::vector<std::string> for_libfuse;     // everything that it and the kernel take

  mode_t talk_mode() const { return talk == Talk::kOwner ? 0600 : talk == Talk::kGroup ? 0660 : 0666; }
};

// Goes over what is in `options` with what one -o says. EINVAL in words.
Result<void> parse_mount_options(std::string_view text, MountOptions& options);

// Whether /etc/fuse.conf lets a user who is not root mount for others. `conf`: its content.
bool others_allowed(std::string_view conf);

}  // namespace stp::view
