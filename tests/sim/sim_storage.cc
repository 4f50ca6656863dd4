#include "tests/sim/sim_storage.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "stp/checksum.h"
#include "tests/sim/sim_medium.h"

namespace stp::sim {
namespace {

constexpr unsigned kSectors = 8;  // of a block, which is one of 4096
constexpr std::uint8_t kAllSectors = 0xff;
constexpr Nanos kStallSpread = 5 * kMillisecond;

}  // namespace

// A part of a write: blocks first .. first + blocks - 1 of the request; of them only some sectors.
struct SimStorage::Part {
  std::uint32_t first = 0;
  std::uint32_t blocks = 0;
  std::uint8_t sectors = kAllSectors;
  Nanos lands = 0;
  bool over = false;  // landed or lost
};

struct SimStorage::Io {
  std::uint64_t id = 0;
  IoRequest request;
  SimMedium* medium = nullptr;  // none any more when its process died
  ProcessId process = 0;
  MachineId machine = 0;
  Nanos submitted = 0;
  Nanos completes = 0;
  Nanos latest = kNever;  // a write of the dead lands by then, stall or not
  RequestFate fate;
  bool done = false;
  std::vector<std::byte> data;       // what is written
  std::vector<Part> parts;
};

void StorageMemory::reset(std::uint32_t block_size, std::uint64_t total_blocks) {
  const std::size_t size = static_cast<std::size_t>(total_blocks) * block_size;
  if (block_size == block_size_ && bytes_.size() >= size) {
    for (std::uint64_t block : dirty_) {
      std::memset(at(block), 0, block_size);
      is_dirty_[block] = false;
    }
  } else {
    bytes_.assign(size, std::byte{0});
    is_dirty_.assign(total_blocks, false);
    block_size_ = block_size;
  }
  dirty_.clear();
}

std::byte* StorageMemory::touch(std::uint64_t block) {
  if (!is_dirty_[block]) {
    is_dirty_[block] = true;
    dirty_.push_back(block);
  }
  return at(block);
}

SimStorage::SimStorage(SimWorld& world, StorageMemory& memory, std::uint32_t block_size, std::uint64_t total_blocks)
    : world_(world), memory_(memory), block_size_(block_size), total_blocks_(total_blocks), random_(world.random().split()) {
  memory_.reset(block_size, total_blocks);
}

void SimStorage::put(std::uint64_t block, ConstBytes data) {
  keep_for_views(block);
  std::memcpy(memory_.touch(block), data.data(), std::min<std::size_t>(data.size(), block_size_));
  world_.trace(block, hash64(0, data));
}

void SimStorage::check_request(const SimMedium& medium, const IoRequest& r) {
  const std::uint64_t bytes = static_cast<std::uint64_t>(r.blocks) * block_size_;
  if (r.blocks == 0 || bytes > kMaxRequestBytes || r.block >= total_blocks_ || r.blocks > total_blocks_ - r.block)
    return world_.fail("request bounds", fmt::format("{} blocks at {}", r.blocks, r.block));
  if (reinterpret_cast<std::uintptr_t>(r.buffer) % kBufferAlignment != 0)
    return world_.fail("buffer alignment", fmt::format("request at block {}", r.block));
  for (const IoPtr& io : in_flight_) {
    if (io->process != medium.process() || io->medium == nullptr || io->done) continue;
    const bool blocks_meet = r.block < io->request.block + io->request.blocks && io->request.block < r.block + r.blocks;
    const bool writes = r.op == IoRequest::Op::kWrite && io->request.op == IoRequest::Op::kWrite;
    if (blocks_meet && writes)
      return world_.fail("one write in flight a block",
                         fmt::format("process {} writes {} blocks at {} while its write of {} at {} is in flight", medium.process(),
                                     r.blocks, r.block, io->request.blocks, io->request.block));
    const std::byte* end = r.buffer + bytes;
    const std::byte* other_end = io->request.buffer + static_cast<std::uint64_t>(io->request.blocks) * block_size_;
    const bool buffers_meet = r.buffer < other_end && io->request.buffer < end;
    if (buffers_meet && !(r.op == IoRequest::Op::kWrite && io->request.op == IoRequest::Op::kWrite))
      return world_.fail("buffer in use", fmt::format("process {} uses the buffer of its request at block {} for one at {}",
                                                      medium.process(), io->request.block, r.block));
  }
}

void SimStorage::submit(SimMedium& medium, const IoRequest& request) {
  check_request(medium, request);
  if (world_.failed()) return;
  auto io = std::make_shared<Io>();
  io->id = counters_.reads + counters_.writes + 1;
  io->request = request;
  io->medium = &medium;
  io->process = medium.process();
  io->machine = medium.machine();
  io->submitted = world_.now();
  io->fate = fate_of(request);
  const Nanos takes = random_.log_between(faults_.fastest, faults_.slowest) + io->fate.delay;
  io->completes = world_.now() + takes;
  if (io->fate.error != 0) ++counters_.errors;
  counters_.flips += io->fate.flips.size();
  in_flight_.push_back(io);
  world_.trace(request.block * 2 + (request.op == IoRequest::Op::kWrite ? 1 : 0), static_cast<std::uint64_t>(takes));
  if (request.op == IoRequest::Op::kWrite) {
    ++counters_.writes;
    start_write(io);
  } else {
    ++counters_.reads;
    start_read(io);
  }
}

RequestFate SimStorage::fate_of(const IoRequest& request) {
  FaultPlan plan = faults_.requests;
  if (request.blocks > 1) plan.delay.longest = std::max(plan.delay.longest, faults_.bulk_delay_max);
  return draw_fate(random_, plan, request, block_size_, total_blocks_);
}

void SimStorage::harm(std::uint64_t block, std::uint32_t blocks) {
  if (watcher_ == nullptr) return;
  for (std::uint32_t i = 0; i < blocks; ++i) watcher_->block_harmed(block + i);
}

// Near, as it was drawn, or on something that is in use.
void SimStorage::misdirect(Io& io) {
  const IoRequest& r = io.request;
  const auto& used = memory_.written();
  if (random_.chance(0.5) && !used.empty()) io.fate.place = used[random_.below(used.size())];
  if (io.fate.place + r.blocks > total_blocks_) io.fate.place = r.block;
  if (io.fate.place == r.block) return;
  ++counters_.misdirected;
  harm(r.block, r.blocks);
  harm(io.fate.place, r.blocks);
}

void SimStorage::start_write(const IoPtr& io) {
  const IoRequest& r = io->request;
  io->data.assign(r.buffer, r.buffer + static_cast<std::size_t>(r.blocks) * block_size_);
  world_.trace(hash64(0, io->data));
  if (watcher_ != nullptr)
    for (std::uint32_t i = 0; i < r.blocks; ++i)
      watcher_->write_submitted(io->process, r.block + i, ConstBytes(io->data).subspan(static_cast<std::size_t>(i) * block_size_, block_size_));
  if (io->fate.place != r.block) misdirect(*io);
  if (!io->fate.missing.empty()) {
    if (io->fate.error == 0) ++counters_.torn;
    harm(r.block, r.blocks);
  }
  flip_bits(io->data, io->fate.flips);
  cut(*io);
  for (std::size_t i = 0; i < io->parts.size(); ++i) world_.at(io->parts[i].lands, [this, io, i] { land(io, i); });
  world_.at(io->completes, [this, io] { complete(io); });
}

// Cuts a write into parts, each with its time to land.
void SimStorage::cut(Io& io) {
  const std::uint32_t blocks = io.request.blocks;
  std::uint32_t first = 0;
  while (first < blocks) {
    const bool last = io.parts.size() >= 3;
    const std::uint32_t n = last ? blocks - first : static_cast<std::uint32_t>(random_.between(1, blocks - first));
    io.parts.push_back({.first = first, .blocks = n, .lands = random_.between(io.submitted, io.completes)});
    first += n;
  }
  if (faults_.sector_tears && random_.chance(0.3)) {
    Part& torn = io.parts[random_.below(io.parts.size())];
    const auto sectors = static_cast<std::uint8_t>(random_.next());
    Part rest = torn;
    torn.sectors = sectors;
    rest.sectors = static_cast<std::uint8_t>(~sectors);
    rest.lands = random_.between(io.submitted, io.completes);
    io.parts.push_back(rest);
  }
  if (io.fate.error == 0) return;
  harm(io.request.block, io.request.blocks);
  // A part of a failed write may land after the program has been told that it did not.
  for (Part& part : io.parts) {
    if (faults_.late_max <= 0 || !random_.chance(0.15)) continue;
    part.lands = std::max(io.completes, io.submitted + random_.between(0, faults_.late_max));
    ++counters_.late;
  }
}

void SimStorage::start_read(const IoPtr& io) {
  // Whoever looks before the completion is reaped sees rubbish.
  for (std::uint32_t i = 0; i < io->request.blocks; ++i)
    std::memset(io->request.buffer + static_cast<std::size_t>(i) * block_size_, 0xdb, 64);
  world_.at(random_.between(io->submitted, io->completes), [this, io] {
    if (io->medium != nullptr && stalled_until(io->machine) <= world_.now()) take(*io, true);
  });
  world_.at(io->completes, [this, io] { complete(io); });
}

Nanos SimStorage::stalled_until(MachineId machine) const {
  auto at = stalls_.find(machine);
  return std::max(stall_all_, at == stalls_.end() ? 0 : at->second);
}

void SimStorage::stall(MachineId machine, Nanos until) {
  if (machine == kEverybody)
    stall_all_ = std::max(stall_all_, until);
  else
    stalls_[machine] = std::max(stalls_[machine], until);
}

void SimStorage::land(const IoPtr& io, std::size_t index) {
  Part& part = io->parts[index];
  if (part.over || part.lands > world_.now()) return;
  const Nanos until = stalled_until(io->machine);
  if (until > world_.now() && world_.now() < io->latest) {
    part.lands = std::min(io->latest, until + random_.between(0, kStallSpread));
    world_.at(part.lands, [this, io, index] { land(io, index); });
    return;
  }
  land_now(*io, part);
  if (io->medium == nullptr) part_over(*io);
}

namespace {
thread_local std::map<const std::byte*, std::size_t> unruly;
}

UnrulyMemory::UnrulyMemory(ConstBytes memory) : begin_(memory.data()) { unruly[begin_] = memory.size(); }
UnrulyMemory::~UnrulyMemory() { unruly.erase(begin_); }

bool UnrulyMemory::holds(const std::byte* at) {
  auto next = unruly.upper_bound(at);
  if (next == unruly.begin()) return false;
  --next;
  return static_cast<std::size_t>(at - next->first) < next->second;
}

void SimStorage::land_now(Io& io, Part& part) {
  part.over = true;
  const std::size_t from = static_cast<std::size_t>(part.first) * block_size_;
  const std::size_t size = static_cast<std::size_t>(part.blocks) * block_size_;
  const bool there = io.medium != nullptr && !io.done && io.fate.flips.empty();
  if (there && UnrulyMemory::holds(io.request.buffer)) std::memcpy(io.data.data() + from, io.request.buffer + from, size);
  if (there && std::memcmp(io.request.buffer + from, io.data.data() + from, size) != 0)
    return world_.fail("buffer changed in flight",
                       fmt::format("process {}, write of {} blocks at {}", io.process, io.request.blocks, io.request.block));
  for (std::uint32_t i = 0; i < part.blocks; ++i)
    land_block(io.machine, io.fate.place + part.first + i, io.data.data() + from + static_cast<std::size_t>(i) * block_size_,
               landing(io, part.first + i, part.sectors));
  world_.trace(io.id, part.first * 256u + part.sectors);
}

// Of these sectors of one block of a write those that are not missing.
std::uint8_t SimStorage::landing(const Io& io, std::uint32_t block, std::uint8_t sectors) const {
  if (io.fate.missing.empty()) return sectors;
  for (unsigned s = 0; s < kSectors; ++s)
    if (io.fate.missing[block * kSectors + s]) sectors = static_cast<std::uint8_t>(sectors & ~(1u << s));
  return sectors;
}

void SimStorage::land_block(MachineId machine, std::uint64_t block, const std::byte* data, std::uint8_t sectors) {
  if (sectors == 0) return;
  std::byte* to = nullptr;
  auto view = views_.find(machine);
  if (view != views_.end() && view->second.kind == OtherView::kOtherDisk) {
    auto [at, fresh] = view->second.old.try_emplace(block);
    if (fresh) at->second.assign(memory_.at(block), memory_.at(block) + block_size_);
    to = at->second.data();
  } else {
    keep_for_views(block);
    to = memory_.touch(block);
  }
  if (sectors == kAllSectors) {
    std::memcpy(to, data, block_size_);
    return;
  }
  const std::size_t sector = block_size_ / kSectors;
  for (unsigned s = 0; s < kSectors; ++s)
    if ((sectors >> s & 1) != 0) std::memcpy(to + s * sector, data + s * sector, sector);
}

void SimStorage::keep_for_views(std::uint64_t block) {
  for (auto& [machine, view] : views_) {
    auto [at, fresh] = view.old.try_emplace(block);
    if (fresh) at->second.assign(memory_.at(block), memory_.at(block) + block_size_);
  }
}

void SimStorage::see_other_view(MachineId machine, OtherView kind) { views_[machine] = View{.kind = kind, .old = {}}; }

// Reads the even or the odd half of the blocks, as they are now.
void SimStorage::take(Io& io, bool even) {
  const IoRequest& r = io.request;
  auto view = views_.find(io.machine);
  for (std::uint32_t i = 0; i < r.blocks; ++i) {
    // Which blocks come first differs from request to request.
    if (((mix64(io.id + i) & 1) == 0) != even) continue;
    const std::byte* from = memory_.at(r.block + i);
    if (view != views_.end()) {
      auto at = view->second.old.find(r.block + i);
      if (at != view->second.old.end()) from = at->second.data();
    }
    std::memcpy(r.buffer + static_cast<std::size_t>(i) * block_size_, from, block_size_);
  }
}

void SimStorage::complete(const IoPtr& io) {
  if (io->medium == nullptr || io->done) return;
  const Nanos until = stalled_until(io->machine);
  if (until > world_.now()) {
    io->completes = until + random_.between(0, kStallSpread);
    world_.at(io->completes, [this, io] { complete(io); });
    return;
  }
  const IoRequest& r = io->request;
  if (r.op == IoRequest::Op::kWrite) {
    for (Part& part : io->parts)
      if (!part.over && part.lands <= io->completes) land_now(*io, part);
  } else {
    take(*io, false);
    // The other half was read before, unless a stall came between.
    if (mix64(io->id) % 4 == 0 || until >= io->submitted) take(*io, true);
    flip_bits({r.buffer, static_cast<std::size_t>(r.blocks) * block_size_}, io->fate.flips);
    if (io->fate.error != 0) std::memset(r.buffer, 0xdb, 64);
    world_.trace(io->id, hash64(0, ConstBytes(r.buffer, std::min<std::size_t>(block_size_, 512))));
  }
  if (world_.failed()) return;
  io->done = true;
  std::erase(in_flight_, io);
  if (r.op == IoRequest::Op::kWrite && io->fate.error == 0) maybe_undo(io);
  io->medium->completed({.token = r.token, .error = io->fate.error});
}

void SimStorage::maybe_undo(const IoPtr& io) {
  if (io->fate.undo_after == 0) return;
  const Nanos latest = io->submitted + faults_.requests.undo.longest;
  if (latest <= world_.now()) return;
  const auto index = static_cast<std::uint32_t>(random_.below(io->request.blocks));
  const bool whole = random_.chance(0.5);
  world_.at(std::min(world_.now() + io->fate.undo_after, latest), [this, io, index, whole] {
    ++counters_.undone;
    for (std::uint32_t i = whole ? 0 : index; i < (whole ? io->request.blocks : index + 1); ++i) {
      harm(io->fate.place + i, 1);
      land_block(io->machine, io->fate.place + i, io->data.data() + static_cast<std::size_t>(i) * block_size_, landing(*io, i, kAllSectors));
    }
    world_.trace(io->id, index);
  });
}

void SimStorage::orphan(SimMedium& medium, Death death) {
  std::vector<IoPtr> mine;
  for (const IoPtr& io : in_flight_)
    if (io->medium == &medium) mine.push_back(io);
  for (const IoPtr& io : mine) {
    if (!landings_.empty() && io->request.op == IoRequest::Op::kWrite)
      orphan_as_chosen(io, next_landing_ < landings_.size() ? landings_[next_landing_++] : Landing::kWhole);
    else
      for (std::size_t i = 0; i < io->parts.size(); ++i)
        if (!io->parts[i].over) orphan_part(io, i, death);
    io->medium = nullptr;
    std::erase(in_flight_, io);
  }
}

void SimStorage::choose_landings(std::vector<Landing> landings) {
  landings_ = std::move(landings);
  next_landing_ = 0;
}

std::size_t SimStorage::writes_in_flight(ProcessId process) const {
  return static_cast<std::size_t>(std::ranges::count_if(in_flight_, [process](const IoPtr& io) {
    return io->process == process && io->request.op == IoRequest::Op::kWrite;
  }));
}

// What has landed of it before stays.
void SimStorage::orphan_as_chosen(const IoPtr& io, Landing landing) {
  for (std::size_t i = 0; i < io->parts.size(); ++i) {
    Part& part = io->parts[i];
    if (part.over) continue;
    ++orphans_[io->process];
    if (landing == Landing::kTorn) part.sectors = static_cast<std::uint8_t>(part.sectors & random_.next());
    if (landing == Landing::kLost || part.sectors == 0)
      lose_part(io, part);
    else
      world_.at(part.lands, [this, io, i] { land(io, i); });
  }
}

void SimStorage::lose_part(const IoPtr& io, Part& part) {
  ++counters_.lost;
  part.over = true;
  world_.after(0, [this, io] { part_over(*io); });
}

void SimStorage::orphan_part(const IoPtr& io, std::size_t index, Death death) {
  Part& part = io->parts[index];
  // The memory may change hands now: what is not yet written is taken from it as it was.
  ++orphans_[io->process];
  if (death == Death::kMachine && random_.chance(faults_.lost_chance)) return lose_part(io, part);
  if (faults_.late_max > 0) {
    io->latest = io->submitted + faults_.late_max;
    if (random_.chance(faults_.late_chance) && io->latest > world_.now()) {
      ++counters_.late;
      part.lands = world_.now() + random_.log_between(kMillisecond, io->latest - world_.now());
    }
  }
  // (An earlier event for this part does nothing: it sees that its time has moved.)
  world_.at(part.lands, [this, io, index] { land(io, index); });
}

void SimStorage::part_over(Io& io) {
  auto at = orphans_.find(io.process);
  if (at == orphans_.end() || --at->second > 0) return;
  orphans_.erase(at);
  if (watcher_ != nullptr) watcher_->process_quiet(io.process);
}

}  // namespace stp::sim
