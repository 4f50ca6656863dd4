// The I/O of membership: reads of the whole lease array ("sweeps"), reads of one lease block, writes of one's own.
//
// At most one sweep, one single read and one write are in flight, so no block ever has two writes of ours in flight. A
// buffer is touched again only after its completion was reaped; destroying a LeaseIo with requests in flight gives their
// buffers up for good (the medium may still write to them). Called from the membership thread alone.
#pragma once

#include <optional>
#include <vector>

#include "stp/lease.h"
#include "stp/medium.h"
#include "stp/superblock.h"

namespace stp {

struct LeaseReading {
  int error = 0;  // errno of the read itself
  DecodedLease decoded;
  bool reformatted = false;  // a sound lease block of another storage UUID lies there

  bool good() const { return error == 0 && decoded.fault == BlockFault::kNone; }
  const Lease& lease() const { return decoded.lease; }
};

struct LeaseSweep {
  Nanos submitted = 0;
  std::vector<LeaseReading> slots;

  bool any_read() const;  // at least one block could be read (whatever lay there)
};

struct OwnRead {
  Nanos submitted = 0;
  Slot slot = kNoSlot;
  LeaseReading reading;
};

struct OwnWrite {
  Nanos submitted = 0;
  int error = 0;
};

class LeaseIo {
 public:
  LeaseIo(const Superblock& superblock, Medium& medium);
  ~LeaseIo();
  LeaseIo(const LeaseIo&) = delete;
  LeaseIo& operator=(const LeaseIo&) = delete;

  bool sweeping() const { return sweep_pending_ > 0; }
  bool reading() const { return reading_; }
  bool writing() const { return writing_; }
  bool idle() const { return !sweeping() && !reading_ && !writing_; }

  // Each only while its predecessor is not in flight.
  void sweep(Nanos now);
  void read(Slot slot, Nanos now);
  void write(const Lease& lease, Nanos now);
  void flush();

  // Takes completions; what ended is then there to be taken.
  void reap();
  std::optional<LeaseSweep> take_sweep() { return std::exchange(sweep_done_, std::nullopt); }
  std::optional<OwnRead> take_read() { return std::exchange(read_done_, std::nullopt); }
  std::optional<OwnWrite> take_write() { return std::exchange(write_done_, std::nullopt); }

 private:
  void complete(const IoCompletion& completion);
  void complete_sweep_part(Slot first, int error);
  void finish_sweep();
  LeaseReading decode(ConstBytes block, Slot slot, int error) const;
  Bytes sweep_block(Slot slot) const { return sweep_buffer_.span().subspan(std::size_t{slot} * block_size_, block_size_); }

  Uuid uuid_;
  Geometry geometry_;
  Medium& medium_;
  std::uint32_t block_size_;
  AlignedBuffer sweep_buffer_, read_buffer_, write_buffer_;

  Nanos sweep_submitted_ = 0;
  Slot sweep_stride_ = 0;            // slots a request
  std::uint32_t sweep_pending_ = 0;  // requests not reaped yet
  std::vector<int> sweep_errors_;    // by slot
  bool one_by_one_ = false;          // a request failed: find out which block it is

  bool reading_ = false;
  bool writing_ = false;
  bool unflushed_ = false;
  OwnRead read_;
  OwnWrite write_;

  std::optional<LeaseSweep> sweep_done_;
  std::optional<OwnRead> read_done_;
  std::optional<OwnWrite> write_done_;
};

}  // namespace stp
