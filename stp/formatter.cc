#include "stp/formatter.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <filesystem>
#include <mutex>
#include <thread>

#include "stp/format_plan.h"
#include "stp/lease.h"
#include "stp/medium.h"
#include "stp/names.h"
#include "stp/occupancy.h"
#include "stp/size_text.h"
#include "stp/storage.h"
#include "stp/superblock_finder.h"

namespace stp {
namespace {

constexpr std::size_t kChunk = 1024 * 1024;
constexpr int kWriters = 3;  // enough to keep a device busy, the calling thread included

std::string default_stg_name(const std::string& path, bool device) {
  if (device) return "stg";
  std::string name = fold_name(std::filesystem::path(path).stem().string());
  std::ranges::replace_if(name, [](char c) { return !((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9')); }, '-');
  return name.substr(0, kMaxStgName);
}

Result<Uuid> random_uuid() {
  Uuid uuid{};
  if (::getrandom(uuid.data(), uuid.size(), 0) != static_cast<ssize_t>(uuid.size())) return fail_errno("random numbers", "can not be had", errno);
  uuid[6] = (uuid[6] & std::byte{0x0f}) | std::byte{0x40};  // RFC 4122, version 4
  uuid[8] = (uuid[8] & std::byte{0x3f}) | std::byte{0x80};
  return uuid;
}

// One run of format_storage().
class Formatter {
 public:
  explicit Formatter(const FormatRequest& request) : request_(request) {}
  Result<Superblock> run();

 private:
  Result<void> check_names();
  Result<void> open_target();
  Result<void> choose_medium();
  Result<void> plan();
  Result<void> refuse_if_occupied();
  Result<void> destroy_old();
  Result<void> allocate();
  Result<void> write_everything();
  Result<void> write_leases();
  Result<void> write_superblocks();
  void warn(const std::string& text) const {
    if (request_.warn) request_.warn(text);
  }

  const FormatRequest& request_;
  std::optional<RawFile> file_;
  StorageFacts facts_;
  bool created_ = false;
  Occupancy found_;
  Superblock superblock_;
};

Result<void> Formatter::check_names() {
  auto timing = timing_profile(request_.timing);
  if (!timing) return std::unexpected(timing.error());
  superblock_.timing = *timing;
  if (!request_.stg.empty() && !valid_stg_name(fold_name(request_.stg)))
    return fail(EINVAL, fmt::format("\"{}\" is not an STG name: a-z, 0-9 and -, at most {}", request_.stg, kMaxStgName));
  return {};
}

Result<void> Formatter::open_target() {
  struct stat st {};
  const bool there = ::stat(request_.path.c_str(), &st) == 0;
  if (!there && errno != ENOENT) return fail_errno(request_.path, "can not be looked at", errno);
  if (there && !S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
    return fail(EINVAL, fmt::format("{}: neither a regular file nor a block device", request_.path));
  const bool device = there && S_ISBLK(st.st_mode);
  auto file = RawFile::open(request_.path, {.write = true, .create = !there, .exclusive = device});
  if (!file && device && file.error().code == EBUSY) {
    const std::string busy = fmt::format("{}: is mounted, or another program holds it", request_.path);
    if (!request_.force) return fail(EBUSY, busy + "; unmount it first (--force overrides this)");
    warn(busy + "; formatting it all the same (--force)");
    file = RawFile::open(request_.path, {.write = true});
  }
  if (!file) return std::unexpected(file.error());
  created_ = !there;
  file_.emplace(std::move(*file));
  auto facts = probe_storage(request_.path);
  if (!facts) return std::unexpected(facts.error());
  facts_ = *facts;
  superblock_.stg = request_.stg.empty() ? default_stg_name(request_.path, device) : fold_name(request_.stg);
  return {};
}

Result<void> Formatter::choose_medium() {
  const bool mappable = !facts_.block_device && !facts_.network_file_system;
  const bool memory = facts_.file_system == "tmpfs" || facts_.file_system == "hugetlbfs";  // never shared between machines
  superblock_.medium = request_.medium.value_or((facts_.direct_io && !memory) || !mappable ? MediumKind::kDirect : MediumKind::kMapped);
  if (superblock_.medium == MediumKind::kMapped && facts_.block_device)
    return fail(EINVAL, fmt::format("{}: a block device can not be used in mapped mode: hosts on other machines would not see each other's writes; "
                                    "use --medium direct", request_.path));
  if (superblock_.medium == MediumKind::kMapped && facts_.network_file_system)
    return fail(EINVAL, fmt::format("{}: lies on {}, where mapped mode is not safe: hosts would not see each other's writes; use --medium direct",
                                    request_.path, facts_.file_system));
  if (superblock_.medium == MediumKind::kDirect && !facts_.direct_io)
    return fail(EINVAL, fmt::format("{}: lies on {}, which has no direct I/O; use --medium mapped (all hosts on this one machine), or another place",
                                    request_.path, facts_.file_system.empty() ? "a file system" : facts_.file_system));
  if (superblock_.medium == MediumKind::kMapped && file_->direct()) {
    auto buffered = RawFile::open(request_.path, {.write = true, .buffered = true});
    if (!buffered) return std::unexpected(buffered.error());
    *file_ = std::move(*buffered);
  }
  return {};
}

Result<void> Formatter::plan() {
  const std::uint32_t least = std::max<std::uint32_t>(kMinBlockSize, std::min<std::uint32_t>(facts_.physical_block_bytes, kMaxBlockSize));
  const std::uint32_t block_size = request_.block_size.value_or(least);
  if (facts_.logical_block_bytes != 0 && block_size % facts_.logical_block_bytes != 0)
    return fail(EINVAL, fmt::format("block size {} is no multiple of the {} bytes that {} writes at once; give --block-size {}", block_size,
                                    facts_.logical_block_bytes, request_.path, least));
  const auto there = file_->size();
  if (!there) return std::unexpected(there.error());
  std::uint64_t bytes = request_.size_bytes.value_or(*there != 0 ? *there : kDefaultStorageBytes);
  if (facts_.block_device && bytes > *there)
    return fail(ENOSPC, fmt::format("{}: has {}, less than --size {}", request_.path, size_text(*there), size_text(bytes)));
  auto geometry = plan_geometry({.bytes = bytes, .block_size = block_size, .hosts = request_.hosts, .sockets = request_.sockets});
  if (!geometry) return fail(geometry.error().code, fmt::format("{}: {}", request_.path, geometry.error().text));
  superblock_.geometry = *geometry;
  return {};
}

Result<void> Formatter::refuse_if_occupied() {
  if (created_) return {};
  auto found = examine_occupancy(*file_, request_.clock);
  if (!found) return std::unexpected(found.error());
  found_ = std::move(*found);
  if (!found_.live.empty()) {
    const std::string text = fmt::format("{}: holds {}, and hosts are alive on it: {}", request_.path, found_.content, fmt::join(found_.live, ", "));
    if (!request_.force) return fail(EBUSY, text + "; stop their programs first (--force overrides this, and they will fail)");
    warn(text + "; formatting under them all the same (--force): their connections break and their programs stop");
  } else if (!found_.content.empty()) {
    const std::string slots = found_.slots.empty() ? "" : fmt::format("; slots are held by {}, none of which was seen alive just now",
                                                                      fmt::join(found_.slots, ", "));
    const std::string text = fmt::format("{}: holds {}{}", request_.path, found_.content, slots);
    if (!request_.force) return fail(EEXIST, text + "; give --force to destroy it");
    warn(text + "; destroying it (--force)");
  }
  return {};
}

// First of all the old superblocks go, so that a format that is interrupted leaves none.
Result<void> Formatter::destroy_old() {
  const auto bytes = file_->size();
  if (!bytes) return std::unexpected(bytes.error());
  const AlignedBuffer zeros(kMaxBlockSize);
  std::vector<std::uint64_t> places = superblock_copy_places(*bytes);
  places.push_back(0);
  if (found_.stg) places.push_back(found_.stg_copy_offset);
  for (const std::uint64_t place : places)
    if (place + kMinBlockSize <= *bytes)
      if (auto ok = file_->write(place, ConstBytes(zeros.span()).first(kMinBlockSize)); !ok) return ok;
  return file_->sync();
}

Result<void> Formatter::allocate() {
  if (facts_.block_device) return {};
  const std::uint64_t bytes = superblock_.geometry.total_bytes();
  if (auto ok = file_->resize(bytes); !ok) return ok;
  // Contiguous where the file system can, and a full disk is told now rather than after minutes of writing.
  if (::fallocate(file_->fd(), 0, 0, static_cast<off_t>(bytes)) != 0 && (errno == ENOSPC || errno == EFBIG || errno == EDQUOT))
    return fail_errno(request_.path, fmt::format("the file system has no room for {}", size_text(bytes)).c_str(), errno);
  return {};
}

Result<void> Formatter::write_everything() {
  const std::uint64_t total = superblock_.geometry.total_bytes();
  const AlignedBuffer zeros(kChunk);
  std::atomic<std::uint64_t> next{0}, done{0};
  std::atomic<bool> stop{false};
  std::mutex mutex;
  std::optional<Error> error;
  const auto write_one = [&]() -> bool {
    const std::uint64_t at = next.fetch_add(kChunk);
    if (at >= total || stop) return false;
    const std::size_t size = static_cast<std::size_t>(std::min<std::uint64_t>(kChunk, total - at));
    if (auto ok = file_->write(at, ConstBytes(zeros.span()).first(size)); !ok) {
      std::lock_guard lock(mutex);
      if (!error) error = ok.error();
      stop = true;
      return false;
    }
    done += size;
    return true;
  };
  {
    std::vector<std::jthread> helpers;
    for (int i = 1; i < kWriters; ++i)
      helpers.emplace_back([&] {
        while (write_one()) {
        }
      });
    while (write_one())
      if (request_.progress && !request_.progress(done, total)) {
        std::lock_guard lock(mutex);
        if (!error) error = Error{ECANCELED, fmt::format("{}: stopped before it was formatted; it holds no storage now", request_.path)};
        stop = true;
      }
  }
  if (error) return std::unexpected(*error);
  if (auto ok = file_->sync(); !ok) return ok;
  if (request_.progress) request_.progress(total, total);
  return {};
}

Result<void> Formatter::write_leases() {
  const Geometry& g = superblock_.geometry;
  const AlignedBuffer leases(static_cast<std::size_t>(g.hosts) * g.block_size);
  for (Slot slot = 0; slot < g.hosts; ++slot) {
    Lease lease;
    lease.owner = {.slot = slot, .incarnation = 0, .nonce = 0};
    lease.state = LeaseState::kFree;
    encode_lease(leases.span().subspan(static_cast<std::size_t>(slot) * g.block_size, g.block_size), lease, superblock_.uuid, g);
  }
  if (auto ok = file_->write(g.lease_first * g.block_size, leases.span()); !ok) return ok;
  return file_->sync();
}

Result<void> Formatter::write_superblocks() {
  const Geometry& g = superblock_.geometry;
  const AlignedBuffer block(g.block_size);
  for (const std::uint64_t place : {g.superblock_copy(), std::uint64_t{0}}) {
    encode_superblock(block.span(), superblock_, place);
    if (auto ok = file_->write(place * g.block_size, block.span()); !ok) return ok;
    if (auto ok = file_->sync(); !ok) return ok;
  }
  return {};
}

Result<Superblock> Formatter::run() {
  auto uuid = random_uuid();
  if (!uuid) return std::unexpected(uuid.error());
  superblock_.uuid = *uuid;
  superblock_.formatted_ms = static_cast<std::uint64_t>(
      std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::system_clock::now().time_since_epoch()).count());
  using Step = Result<void> (Formatter::*)();
  constexpr Step kSteps[] = {&Formatter::check_names,        &Formatter::open_target,  &Formatter::choose_medium,
                             &Formatter::refuse_if_occupied, &Formatter::plan,         &Formatter::destroy_old,
                             &Formatter::allocate,           &Formatter::write_everything, &Formatter::write_leases,
                             &Formatter::write_superblocks};
  for (const Step step : kSteps) {
    auto ok = (this->*step)();
    if (ok) continue;
    if (created_) ::unlink(request_.path.c_str());
    return std::unexpected(ok.error());
  }
  return superblock_;
}

}  // namespace

Result<Superblock> format_storage(const FormatRequest& request) { return Formatter(request).run(); }

}  // namespace stp
