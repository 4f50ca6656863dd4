// A file that arrives: written as NAME.part beside its target, and NAME only when it is whole and verified.
//
// NAME.part.info says from which source (size and modification time) NAME.part was begun; a later transfer of the same source goes on
// where the bytes end, after both sides compared the hash of what is there. It also proves that NAME.part is ours: a file of that
// name without it belongs to somebody else and is never touched. It is created, and for a large file made durable, before NAME.part and removed after it, and holds an
// exclusive flock while a transfer runs, so that two transfers never write one file.
//
// One thread at a time uses a PartFile; dropping it without commit() or discard() keeps the part for resume.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

#include "hostlib/unique_fd.h"
#include "tools/failure.h"
#include "tools/rooted_files.h"

namespace stp {

// What a resumed transfer must still agree with.
struct SourceIdentity {
  std::uint64_t size = 0;
  std::int64_t mtime_ns = 0;
  bool operator==(const SourceIdentity&) const = default;
};

class PartFile {
 public:
  // `shown` is the target's path for messages. Waits up to `patience` for another transfer of that name to end: it may be one whose client died, and
  // whose end is about to be noticed. kBusy: it goes on; kExists: NAME.part is not ours; kWrongKind: NAME is a directory.
  static Outcome<PartFile> begin(RootedFiles::Place place, std::string shown, const SourceIdentity& source,
                                 std::chrono::milliseconds patience = std::chrono::milliseconds(0));
  PartFile(PartFile&&) noexcept = default;
  PartFile& operator=(PartFile&&) = delete;
  ~PartFile();

  int fd() const { return part_.get(); }
  const std::string& shown() const { return shown_; }
  const SourceIdentity& source() const { return source_; }
  // Bytes that an earlier transfer of the same source left; 0 when there is nothing to resume.
  std::uint64_t resumable() const { return resumable_; }

  // Cuts to `offset` (at most resumable()) and reserves the space for the rest, so that a full disk is noticed at once.
  Outcome<void> start_at(std::uint64_t offset);
  // Begins again for another source: the one announced has changed meanwhile.
  Outcome<void> restart(const SourceIdentity& source);

  // Sets mode and time, makes the content durable, gives it its name, makes the name durable.
  Outcome<void> commit(std::uint32_t mode);
  // Removes the part: nothing of it is any good.
  void discard();

 private:
  PartFile(RootedFiles::Place place, std::string shown, const SourceIdentity& source)
      : place_(std::move(place)), shown_(std::move(shown)), source_(source) {}
  Outcome<void> check_target() const;
  Outcome<void> lock_info(std::chrono::milliseconds patience);
  Outcome<void> open_part();
  Outcome<void> write_info();
  std::string part_name() const { return place_.name + ".part"; }
  std::string info_name() const { return place_.name + ".part.info"; }
  bool is_at(const UniqueFd& fd, const std::string& name) const;
  std::unexpected<Failure> failed(int error, std::string_view doing) const;

  RootedFiles::Place place_;
  std::string shown_;
  SourceIdentity source_;
  UniqueFd info_;
  UniqueFd part_;
  std::uint64_t resumable_ = 0;
};

}  // namespace stp
