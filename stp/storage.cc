#include "stp/storage.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <optional>

#include "stp/content.h"
#include "stp/fault_medium.h"
#include "stp/file_locks.h"
#include "stp/lease.h"
#include "stp/mapped_medium.h"
#include "stp/mapping.h"
#include "stp/storage_facts.h"
#include "stp/storage_file.h"
#include "stp/system.h"
#include "stp/thread_medium.h"
#include "stp/transfer.h"
#include "stp/uring_medium.h"

namespace stp {
namespace {

struct FoundSuperblock {
  Superblock superblock;
  bool is_copy = false;
};

// The supposed superblock at byte `at`, or why there is none.
Result<Superblock> superblock_at(int fd, std::uint64_t at, Bytes buffer) {
  ssize_t length;
  do {
    length = ::pread(fd, buffer.data(), buffer.size(), static_cast<off_t>(at));
  } while (length < 0 && errno == EINTR);
  if (length < 0) return fail(errno, fmt::format("can not read its superblock at byte {}: {}", at, std::strerror(errno)));
  return decode_superblock(buffer.first(static_cast<std::size_t>(length)));
}

std::string no_storage(const std::string& path) {
  if (const auto content = foreign_content(path))
    return fmt::format("\"{}\" holds no STP storage, it holds {}; `stp format --force {}` would make it one and destroy that", path,
                       *content, path);
  return fmt::format("\"{}\" holds no STP storage; `stp format {}` makes it one and destroys what it holds", path, path);
}

Result<FoundSuperblock> find_superblock(int fd, const StorageFacts& facts, const std::string& path) {
  const std::size_t piece = std::max<std::size_t>(kMinBlockSize, facts.logical_block_bytes);
  const AlignedBuffer buffer(piece);
  auto first = superblock_at(fd, 0, buffer.span());
  if (first) return FoundSuperblock{.superblock = *first, .is_copy = false};
  // A block that bears our magic: then this is a damaged storage, else none at all.
  const BlockFault fault = open_any_block(buffer.span().first(kMinBlockSize), kSuperblockMagic).fault;
  for (std::uint64_t block_size = kMinBlockSize; block_size <= kMaxBlockSize; block_size *= 2) {
    if (facts.size_bytes / block_size < 2 || block_size % facts.logical_block_bytes != 0) continue;
    const std::uint64_t last = facts.size_bytes / block_size - 1;
    auto copy = superblock_at(fd, last * block_size, buffer.span());
    if (copy && copy->geometry.block_size == block_size && copy->geometry.superblock_copy() == last)
      return FoundSuperblock{.superblock = *copy, .is_copy = true};
  }
  if (first.error().code != EINVAL) return fail(first.error().code, fmt::format("\"{}\": {}", path, first.error().text));
  if (fault == BlockFault::kEmpty || fault == BlockFault::kMagic || fault == BlockFault::kLength)
    return fail(EMEDIUMTYPE, no_storage(path));
  return fail(EUCLEAN,
              fmt::format("\"{}\" can not be used: {}, and there is no good copy of it at the end; if the size of the file or device "
                          "has changed, give it back its old one, else it must be formatted anew",
                          path, first.error().text));
}

Result<void> check_fit(const Superblock& superblock, const StorageFacts& facts, const std::string& path) {
  const Geometry& g = superblock.geometry;
  if (facts.size_bytes < g.total_bytes())
    return fail(EUCLEAN, fmt::format("\"{}\" was formatted with {} bytes and has only {} now; give it back its size, or format it anew",
                                     path, g.total_bytes(), facts.size_bytes));
  if (superblock.medium == MediumKind::kMapped) {
    if (facts.block_device)
      return fail(EOPNOTSUPP,
                  fmt::format("\"{}\" is a block device, and its storage was formatted for memory mapping: two hosts would not see each "
                              "other's writes; format it with --medium direct",
                              path));
    if (facts.network_file_system)
      return fail(EOPNOTSUPP,
                  fmt::format("\"{}\" lies on {}, which other machines may share or which is not known to be local, and its storage was "
                              "formatted for memory mapping: hosts would not see each other's writes; use --medium direct, or a local "
                              "file system",
                              path, facts.file_system));
    return {};
  }
  if (!facts.direct_io)
    return fail(EOPNOTSUPP,
                fmt::format("\"{}\" lies on {}, which does not allow direct I/O (O_DIRECT), and its storage needs that; move it to "
                            "another file system, or format it with --medium mapped if all its hosts run on this machine",
                            path, facts.file_system));
  if (g.block_size % facts.logical_block_bytes != 0)
    return fail(EOPNOTSUPP,
                fmt::format("\"{}\" has logical blocks of {} bytes, and its storage was formatted with blocks of {}; format it anew "
                            "with --block-size {}",
                            path, facts.logical_block_bytes, g.block_size, facts.logical_block_bytes));
  return {};
}

enum class DirectIo : std::uint8_t { kUring, kThreads };

class OpenStorage final : public Storage, public std::enable_shared_from_this<OpenStorage> {
 public:
  OpenStorage(std::string path, int fd, bool writable) : path_(std::move(path)), writable_(writable), file_(fd) {}

  Result<void> examine(bool direct_io);

  const std::string& path() const override { return path_; }
  const Superblock& superblock() const override { return found_.superblock; }
  bool superblock_is_copy() const override { return found_.is_copy; }
  const StorageFacts& facts() const override { return facts_; }
  StorageIdentity identity() const override { return identity_; }
  SlotLocks& locks() override { return *locks_; }
  Result<std::unique_ptr<Medium>> make_medium() override;
  std::string faults() const override { return faults_ ? to_string(*faults_) : std::string(); }
  std::string medium_name() const override;
  Result<void> read(std::uint64_t block, Bytes into) override;
  Result<void> write(std::uint64_t block, ConstBytes from) override;
  void abandon_after_fork() override { file_.abandon(); }

 private:
  std::uint32_t block_size() const { return found_.superblock.geometry.block_size; }
  std::uint64_t total_blocks() const { return found_.superblock.geometry.total_blocks; }
  Result<std::unique_ptr<Medium>> make_good_medium();
  Result<void> check_range(std::uint64_t block, std::size_t size) const;
  int move_piece(IoRequest::Op op, std::uint64_t block, std::byte* buffer, std::size_t size);
  Result<void> io_failed(const char* what, std::uint64_t block, int error) const;

  const std::string path_;
  const bool writable_;
  StorageFile file_;
  StorageFacts facts_;
  FoundSuperblock found_;
  StorageIdentity identity_;
  std::unique_ptr<FileLocks> locks_;
  std::unique_ptr<Mapping> mapping_;
  std::atomic<bool> threads_used_{false};  // io_uring was there, and failed when a ring was wanted
  std::optional<FaultPlan> faults_;
  std::uint64_t faulty_media_ = 0;  // made so far
};

Result<void> OpenStorage::examine(bool direct_io) {
  auto facts = facts_of(file_.fd(), path_);
  if (!facts) return std::unexpected(facts.error());
  facts_ = *facts;
  facts_.direct_io = direct_io;
  auto found = find_superblock(file_.fd(), facts_, path_);
  if (!found) return std::unexpected(found.error());
  found_ = *found;
  if (auto fits = check_fit(found_.superblock, facts_, path_); !fits) return fits;

  struct stat st {};
  if (::fstat(file_.fd(), &st) != 0) return fail(errno, fmt::format("can not stat \"{}\": {}", path_, std::strerror(errno)));
  // The node's own device and inode, also for a block device: that inode is where its locks are kept.
  identity_ = {.boot_id = boot_id(), .device = st.st_dev, .inode = st.st_ino};
  locks_ = std::make_unique<FileLocks>(file_, !facts_.network_file_system);

  if (found_.superblock.medium == MediumKind::kMapped) {
    auto mapping = Mapping::create(file_.fd(), found_.superblock.geometry.total_bytes(), writable_);
    if (!mapping) return fail(mapping.error().code, fmt::format("\"{}\": {}", path_, mapping.error().text));
    mapping_ = std::move(*mapping);
  }
  return {};
}

// What STP_IO asks for. Nothing: the best that the kernel allows.
Result<std::optional<DirectIo>> wanted_io() {
  const char* text = std::getenv("STP_IO");
  if (text == nullptr || *text == '\0') return std::nullopt;
  if (std::strcmp(text, "uring") == 0) return DirectIo::kUring;
  if (std::strcmp(text, "threads") == 0) return DirectIo::kThreads;
  return fail(EINVAL, fmt::format("STP_IO is \"{}\"; it must be uring or threads, or not be set", text));
}

// What STP_FAULTS asks for, always with a seed, so that whoever reads it can ask for the same again.
Result<std::optional<FaultPlan>> wanted_faults() {
  const char* text = std::getenv("STP_FAULTS");
  if (text == nullptr || *text == '\0') return std::nullopt;
  auto plan = parse_faults(text);
  if (!plan) return fail(plan.error().code, fmt::format("STP_FAULTS is {}; correct it, or unset it", plan.error().text));
  if (!plan->seed) plan->seed = SystemRandom().below(1'000'000'000);
  return *plan;
}

Result<std::unique_ptr<Medium>> OpenStorage::make_medium() {
  if (!faults_) {
    const auto wanted = wanted_faults();
    if (!wanted) return std::unexpected(wanted.error());
    faults_ = *wanted;
  }
  auto good = make_good_medium();
  if (!good || !faults_) return good;
  return std::make_unique<FaultMedium>(std::move(*good), *faults_, mix64(*faults_->seed) + faulty_media_++, boottime_now);
}

Result<std::unique_ptr<Medium>> OpenStorage::make_good_medium() {
  if (mapping_) {
    const std::shared_ptr<const Mapping> mapping(shared_from_this(), mapping_.get());
    return std::make_unique<MappedMedium>(mapping, block_size(), total_blocks());
  }
  const auto wanted = wanted_io();
  if (!wanted) return std::unexpected(wanted.error());
  const std::shared_ptr<StorageFile> file(shared_from_this(), &file_);
  if (*wanted != DirectIo::kThreads) {
    auto ring = UringMedium::available();
    if (ring) {
      auto medium = UringMedium::create(file, block_size(), total_blocks());
      if (medium) return medium;
      ring = std::unexpected(medium.error());
    }
    if (*wanted == DirectIo::kUring)
      return fail(ring.error().code,
                  fmt::format("STP_IO=uring, but {}; allow it (containers often forbid it), or unset STP_IO", ring.error().text));
    threads_used_ = true;
  }
  return ThreadMedium::create(file, block_size(), total_blocks());
}

std::string OpenStorage::medium_name() const {
  if (mapping_) return "mapped";
  const auto wanted = wanted_io();
  const bool threads = threads_used_ || (wanted && *wanted == DirectIo::kThreads) || !UringMedium::available();
  return threads ? "direct (threads)" : "direct (io_uring)";
}

Result<void> OpenStorage::check_range(std::uint64_t block, std::size_t size) const {
  if (size % block_size() != 0 || block > total_blocks() || size / block_size() > total_blocks() - block)
    return fail(EINVAL, fmt::format("\"{}\": {} bytes at block {} are not whole blocks inside the storage", path_, size, block));
  return {};
}

Result<void> OpenStorage::io_failed(const char* what, std::uint64_t block, int error) const {
  return fail(error, fmt::format("can not {} \"{}\" at block {}: {}", what, path_, block, std::strerror(error)));
}

int OpenStorage::move_piece(IoRequest::Op op, std::uint64_t block, std::byte* buffer, std::size_t size) {
  if (mapping_) {
    const std::uint64_t offset = block * block_size();
    const bool copied = op == IoRequest::Op::kRead ? mapping_->copy_out(offset, {buffer, size}) : mapping_->copy_in(offset, {buffer, size});
    return copied ? 0 : EIO;
  }
  return transfer(file_.fd(), {.op = op, .block = block, .blocks = static_cast<std::uint32_t>(size / block_size()), .buffer = buffer},
                  block_size());
}

Result<void> OpenStorage::read(std::uint64_t block, Bytes into) {
  if (auto ok = check_range(block, into.size()); !ok) return ok;
  const AlignedBuffer bounce(std::clamp(into.size(), kMinBlockSize, kMaxRequestBytes));
  while (!into.empty()) {
    const std::size_t size = std::min(into.size(), kMaxRequestBytes);
    if (const int error = move_piece(IoRequest::Op::kRead, block, bounce.data(), size); error != 0) return io_failed("read", block, error);
    std::memcpy(into.data(), bounce.data(), size);
    into = into.subspan(size);
    block += size / block_size();
  }
  return {};
}

Result<void> OpenStorage::write(std::uint64_t block, ConstBytes from) {
  if (!writable_) return fail(EBADF, fmt::format("\"{}\" was opened for reading only", path_));
  if (auto ok = check_range(block, from.size()); !ok) return ok;
  const AlignedBuffer bounce(std::clamp(from.size(), kMinBlockSize, kMaxRequestBytes));
  while (!from.empty()) {
    const std::size_t size = std::min(from.size(), kMaxRequestBytes);
    std::memcpy(bounce.data(), from.data(), size);
    if (const int error = move_piece(IoRequest::Op::kWrite, block, bounce.data(), size); error != 0)
      return io_failed("write", block, error);
    from = from.subspan(size);
    block += size / block_size();
  }
  return {};
}

}  // namespace

bool locks_tell(Storage& storage, const Lease& lease) {
  const StorageIdentity here = storage.identity();
  return storage.locks().usable() && lease.boot_id == here.boot_id && lease.device == here.device && lease.inode == here.inode;
}

BlockSource::Holder Storage::holder(Slot slot, const Lease& lease) {
  if (!locks_tell(*this, lease)) return Holder::kUnknown;
  switch (locks().probe(slot)) {
    case SlotLocks::State::kHeld: return Holder::kThere;
    case SlotLocks::State::kFree: return Holder::kGone;
    case SlotLocks::State::kUnknown: break;
  }
  return Holder::kUnknown;
}

Result<std::shared_ptr<Storage>> Storage::open(const std::string& path, Access access) {
  const bool writable = access == Access::kReadWrite;
  auto opened = open_path(path, writable);
  if (!opened) return std::unexpected(opened.error());
  auto storage = std::make_shared<OpenStorage>(path, opened->fd, writable);
  if (auto ok = storage->examine(opened->direct_io); !ok) return std::unexpected(ok.error());
  return storage;
}

}  // namespace stp
