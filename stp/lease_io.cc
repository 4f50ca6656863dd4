#include "stp/lease_io.h"

#include <algorithm>
#include <array>
#include <mutex>
#include <utility>

namespace stp {
namespace {

constexpr std::uint64_t kReadToken = 1;
constexpr std::uint64_t kWriteToken = 2;
constexpr std::uint64_t kSweepToken = 1ull << 32;  // + first slot of the request

// Buffers that a medium may still write to belong to nobody any more; they stay reachable, and are never freed.
void abandon(AlignedBuffer buffer) {
  static std::mutex mutex;
  static auto* graves = new std::vector<AlignedBuffer>;
  std::lock_guard lock(mutex);
  graves->push_back(std::move(buffer));
}

}  // namespace

bool LeaseSweep::any_read() const {
  return std::ranges::any_of(slots, [](const LeaseReading& r) { return r.error == 0; });
}

LeaseIo::LeaseIo(const Superblock& superblock, Medium& medium)
    : uuid_(superblock.uuid),
      geometry_(superblock.geometry),
      medium_(medium),
      block_size_(superblock.geometry.block_size),
      sweep_buffer_(std::size_t{superblock.geometry.hosts} * superblock.geometry.block_size),
      read_buffer_(block_size_),
      write_buffer_(block_size_),
      sweep_errors_(superblock.geometry.hosts) {}

LeaseIo::~LeaseIo() {
  if (sweeping()) abandon(std::move(sweep_buffer_));
  if (reading_) abandon(std::move(read_buffer_));
  if (writing_) abandon(std::move(write_buffer_));
}

void LeaseIo::sweep(Nanos now) {
  if (sweeping()) return;
  sweep_submitted_ = now;
  sweep_stride_ = one_by_one_ ? 1 : static_cast<Slot>(std::max<std::size_t>(1, kMaxRequestBytes / block_size_));
  std::ranges::fill(sweep_errors_, 0);
  for (Slot first = 0; first < geometry_.hosts; first += sweep_stride_) {
    const std::uint32_t blocks = std::min(sweep_stride_, geometry_.hosts - first);
    ++sweep_pending_;
    medium_.submit({.op = IoRequest::Op::kRead,
                    .block = geometry_.lease(first),
                    .blocks = blocks,
                    .buffer = sweep_block(first).data(),
                    .token = kSweepToken + first});
  }
  unflushed_ = true;
}

void LeaseIo::read(Slot slot, Nanos now) {
  if (reading_) return;
  reading_ = true;
  read_ = {.submitted = now, .slot = slot, .reading = {}};
  medium_.submit(
      {.op = IoRequest::Op::kRead, .block = geometry_.lease(slot), .blocks = 1, .buffer = read_buffer_.data(), .token = kReadToken});
  unflushed_ = true;
}

void LeaseIo::write(const Lease& lease, Nanos now) {
  if (writing_) return;
  writing_ = true;
  write_ = {.submitted = now, .error = 0};
  encode_lease(write_buffer_.span().first(block_size_), lease, uuid_, geometry_);
  medium_.submit({.op = IoRequest::Op::kWrite,
                  .block = geometry_.lease(lease.owner.slot),
                  .blocks = 1,
                  .buffer = write_buffer_.data(),
                  .token = kWriteToken});
  unflushed_ = true;
}

void LeaseIo::flush() {
  if (std::exchange(unflushed_, false)) medium_.flush();
}

void LeaseIo::reap() {
  std::array<IoCompletion, 32> completions;
  while (const std::size_t n = medium_.reap(completions)) {
    for (std::size_t i = 0; i < n; ++i) complete(completions[i]);
    if (n < completions.size()) break;
  }
}

void LeaseIo::complete(const IoCompletion& completion) {
  if (completion.token == kReadToken && reading_) {
    reading_ = false;
    read_.reading = decode(read_buffer_.span().first(block_size_), read_.slot, completion.error);
    read_done_ = read_;
  } else if (completion.token == kWriteToken && writing_) {
    writing_ = false;
    write_.error = completion.error;
    write_done_ = write_;
  } else if (completion.token >= kSweepToken && completion.token < kSweepToken + geometry_.hosts && sweeping()) {
    complete_sweep_part(static_cast<Slot>(completion.token - kSweepToken), completion.error);
  }
}

void LeaseIo::complete_sweep_part(Slot first, int error) {
  const Slot end = std::min(first + sweep_stride_, geometry_.hosts);
  for (Slot slot = first; slot < end; ++slot) sweep_errors_[slot] = error;
  if (--sweep_pending_ == 0) finish_sweep();
}

void LeaseIo::finish_sweep() {
  LeaseSweep done{.submitted = sweep_submitted_, .slots = {}};
  done.slots.reserve(geometry_.hosts);
  for (Slot slot = 0; slot < geometry_.hosts; ++slot) done.slots.push_back(decode(sweep_block(slot), slot, sweep_errors_[slot]));
  // One bad block must not hide the others: after an error every block is read by itself, until all are readable again.
  one_by_one_ = std::ranges::any_of(sweep_errors_, [](int e) { return e != 0; });
  sweep_done_ = std::move(done);
}

LeaseReading LeaseIo::decode(ConstBytes block, Slot slot, int error) const {
  LeaseReading out;
  out.error = error;
  if (error != 0) return out;
  out.decoded = decode_lease(block, uuid_, geometry_, slot);
  if (out.decoded.fault == BlockFault::kUuid) {
    // A flipped bit in the UUID is damage; only a block that checks under its own UUID was written by another format.
    const OpenedBlock any = open_any_block(block, kLeaseMagic);
    out.reformatted = any.fault == BlockFault::kNone && any.header.place == geometry_.lease(slot) && any.header.writer.slot == slot;
  }
  return out;
}

}  // namespace stp
