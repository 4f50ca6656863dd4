#include "stp/send_stream.h"

#include <algorithm>
#include <bit>

#include "stp/checksum.h"
#include "stp/copy.h"
#include "stp/plant.h"

namespace stp {
namespace {
constexpr std::uint64_t kAlwaysAllowed = 16 * 1024;  // of a socket, whatever the budget says

// How far into a block, or an extent, of memory it begins.
std::size_t in_its_block(ConstBytes data) { return reinterpret_cast<std::uintptr_t>(data.data()) % kBufferAlignment; }
std::size_t in_its_extent(ConstBytes data) { return reinterpret_cast<std::uintptr_t>(data.data()) % kExtentBytes; }

}  // namespace

SendStream::SendStream(Core& core, CacheRegion& cache, MemoryBudget& budget, Slot peer, std::uint32_t buffer_bytes, Changed changed)
    : core_(core), cache_(cache), budget_(budget), peer_(peer), changed_(std::move(changed)), buffer_bytes_(buffer_bytes) {}

SendStream::~SendStream() { budget_.give_back(budgeted_); }

std::uint64_t SendStream::acked() const {
  // An acknowledged packet behind an extent says nothing about the extent.
  const std::uint64_t in_packets = announced_.empty() ? inline_acked_ : std::min(inline_acked_, announced_.front()->offset);
  return std::max(consumed_, in_packets);
}

std::size_t SendStream::room() const {
  const std::uint64_t most = std::min<std::uint64_t>(buffer_bytes_, budget_.share(budgeted_));
  if (held() >= most) return 0;
  const std::uint64_t free = most - held();
  const std::uint64_t allowed = std::max(budget_.left(), held() < kAlwaysAllowed ? kAlwaysAllowed - held() : 0);
  return static_cast<std::size_t>(std::min(free, allowed));
}

// -- Taking --------------------------------------------------------------------------------------------------------

// A whole extent's is too much for a few bytes: when memory runs short, and where small sends came to be bulk because many of them wait.
// A thousand such streams would take fresh memory all the time; each grows with what waits. Blocks are written whole.
std::size_t SendStream::bulk_buffer_bytes(std::size_t more, std::uint64_t waiting) const {
  const std::size_t least = std::max<std::size_t>(std::min<std::size_t>(more, kExtentBytes), core_.geometry().block_size);
  if (budget_.left() < kExtentBytes) return least;
  if (more >= core_.config.inline_max_bytes) return kExtentBytes;
  return static_cast<std::size_t>(std::clamp<std::uint64_t>(2 * waiting, least, kExtentBytes));
}

void SendStream::add_segment(std::size_t more, bool before_loan) {
  auto segment = std::make_shared<Segment>();
  segment->offset = accepted_;
  const std::uint64_t waiting = accepted_ - emitted_;
  segment->bulk = more >= core_.config.inline_max_bytes || (waiting >= core_.config.inline_max_bytes && !before_loan);
  segment->buffer = core_.buffers.take(segment->bulk ? bulk_buffer_bytes(more, waiting) : more);
  segment->capacity = static_cast<std::uint32_t>(segment->buffer.size());
  // The next one begins at a multiple of a block.
  if (segment->bulk && segment->capacity == kExtentBytes) segment->capacity -= static_cast<std::uint32_t>(accepted_ % kBufferAlignment);
  budget_.take_always(segment->buffer.size());
  budgeted_ += segment->buffer.size();
  pending_.push_back(std::move(segment));
}

void SendStream::copy(ConstBytes data, bool before_loan) {
  while (!data.empty()) {
    const bool tail_takes = !pending_.empty() && pending_.back()->lent == nullptr && pending_.back()->takes_more();
    if (!tail_takes) add_segment(data.size(), before_loan);
    Segment& tail = *pending_.back();
    const std::size_t n = std::min<std::size_t>(data.size(), tail.capacity - tail.filled);
    copy_bytes(tail.buffer.data() + tail.filled, data.first(n));
    tail.filled += static_cast<std::uint32_t>(n);
    accepted_ += n;
    data = data.subspan(n);
    // Now, while they are in the cache, and not when the device is free for them.
    if (tail.bulk && tail.filled == tail.capacity) hash(tail);
  }
}

std::size_t SendStream::take(ConstBytes data) {
  const std::size_t count = std::min(room(), data.size());
  copy(data.first(count), false);
  return count;
}

// -- Lending

bool SendStream::tail_takes_loan(ConstBytes data) const {
  if (pending_.empty()) return false;
  const Segment& tail = *pending_.back();
  return tail.lent != nullptr && tail.sent == 0 && tail.takes_more() && tail.lent + tail.filled == data.data();
}

// How much there is in front of what is worth lending; all of it where nothing is.
std::size_t SendStream::copied_before_loan(ConstBytes data) const {
  if (tail_takes_loan(data)) return 0;
  std::size_t skipped = (kBufferAlignment - in_its_block(data)) % kBufferAlignment;
  const std::size_t to_grid = kExtentBytes - in_its_extent(data);
  if (to_grid - skipped < kLeastLoan) skipped = to_grid;
  return data.size() < skipped + kLeastLoan ? data.size() : skipped;
}

// Whole blocks, at most to where an extent of the lender's memory ends: extents of a ring fill it without a seam.
std::size_t SendStream::lend(ConstBytes data, const Keeper& keeper) {
  const std::size_t to_grid = kExtentBytes - in_its_extent(data);
  const std::size_t n = std::min(data.size(), to_grid) / kBufferAlignment * kBufferAlignment;
  if (!tail_takes_loan(data)) {
    // What was copied in front of it gets no more: a few bytes are no extent.
    Segment* const before = pending_.empty() ? nullptr : pending_.back().get();
    if (before != nullptr && before->lent == nullptr && before->takes_more() && before->filled < core_.config.inline_max_bytes) before->bulk = false;
    auto segment = std::make_shared<Segment>();
    segment->offset = accepted_;
    segment->bulk = true;
    segment->capacity = static_cast<std::uint32_t>(to_grid);
    segment->lent = data.data();
    lent_before_ = true;
    segment->keeper = keeper;
    pending_.push_back(std::move(segment));
  }
  Segment& tail = *pending_.back();
  tail.filled += static_cast<std::uint32_t>(n);
  accepted_ += n;
  if (tail.filled == tail.capacity) hash(tail);
  return n;
}

std::size_t SendStream::take_lent(ConstBytes data, const Loan& loan) {
  // A lender that can lend less than what has to be under way would wait for the device, and the device for the lender.
  // And what is read for the last block of an extent must be its own.
  const bool lends = lends_ && loan.most_bytes >= budget_.enough(budgeted_) && core_.geometry().block_size <= kBufferAlignment;
  if (!lends) return take(data);
  const std::size_t most = buffer_bytes_ - std::min<std::uint64_t>(held(), buffer_bytes_);
  const std::size_t count = std::min(most, data.size());
  for (std::size_t done = 0; done < count;) {
    const ConstBytes rest = data.subspan(done, count - done);
    // Less than a block waits for the rest of it, until the extent that would take it is written.
    if (tail_takes_loan(rest) && rest.size() < kBufferAlignment) return done;
    if (const std::size_t n = copied_before_loan(rest); n > 0) {
      copy(rest.first(n), true);
      done += n;
    } else {
      done += lend(rest, loan.keeper);
    }
  }
  return count;
}

std::uint64_t SendStream::lent() const {
  if (!lent_before_) return 0;  // nor ever, of most
  std::uint64_t oldest = accepted_;
  for (const auto* list : {&doomed_, &announced_, &pending_}) {
    for (const SegmentPtr& segment : *list) {
      if (segment->lent == nullptr || (planted(Plant::kReturnTooEarly) && segment->landed)) continue;
      oldest = std::min(oldest, segment->offset);
      if (list != &doomed_) break;  // the others are in order
    }
  }
  return accepted_ - oldest;
}

// -- Letting go ----------------------------------------------------------------------------------------------------

void SendStream::hash(Segment& segment) {
  segment.hash = hash64(segment.offset, {segment.data(), segment.filled});
  segment.hashed = segment.filled;
}

void SendStream::abandon() {
  changed_ = nullptr;
  for (auto* list : {&pending_, &announced_}) {
    for (const SegmentPtr& segment : *list) release(segment);
    list->clear();
  }
  renewing_.clear();
  unacked_packets_.clear();
}

void SendStream::release(const SegmentPtr& segment) {
  if (segment->writing) {
    segment->doomed = true;
    if (segment->lent != nullptr) doomed_.push_back(segment);
    return;
  }
  if (segment->extent != CacheRegion::kNone) cache_.give_back(peer_, segment->extent);
  segment->extent = CacheRegion::kNone;
  let_go(*segment);
}

void SendStream::let_go(Segment& segment) {
  if (segment.lent != nullptr) {
    returned_ = true;
    std::erase_if(doomed_, [&](const SegmentPtr& each) { return each.get() == &segment; });
  }
  segment.lent = nullptr;
  segment.keeper.reset();
  budgeted_ -= segment.buffer.size();
  budget_.give_back(segment.buffer.size());
  core_.buffers.give_back(std::move(segment.buffer));
}

bool SendStream::on_consumed(std::uint64_t offset) {
  if (offset > emitted_) return false;
  if (offset <= consumed_) return true;
  consumed_ = offset;
  while (!announced_.empty() && announced_.front()->end() <= offset) {
    std::erase(renewing_, announced_.front());
    release(announced_.front());
    announced_.pop_front();
  }
  return true;
}

void SendStream::copy_loan(Segment& segment) {
  lends_ = false;
  AlignedBuffer own = core_.buffers.take(segment.filled);
  copy_bytes(own.data(), {segment.lent, segment.filled});
  let_go(segment);
  segment.buffer = std::move(own);
  segment.hashed = 0;
  budget_.take_always(segment.buffer.size());
  budgeted_ += segment.buffer.size();
}

bool SendStream::on_nack(std::uint64_t offset, std::uint32_t length, std::uint32_t attempt) {
  for (const SegmentPtr& segment : announced_) {
    if (segment->offset != offset) continue;
    if (segment->filled != length) return false;
    if (attempt < segment->attempt || segment->writing) return true;  // asked for before, under way
    if (attempt > segment->attempt || attempt >= kMostAttempts) return false;
    if (planted(Plant::kAnnounceTooEarly) || planted(Plant::kFreeExtentTooEarly)) return true;
    ++segment->attempt;
    segment->landed = false;
    // Whoever lent it may have changed it meanwhile: once, and not at each extent, nor at each attempt.
    if (segment->lent != nullptr) copy_loan(*segment);
    renewing_.push_back(segment);
    ++core_.counters.extents_renewed;
    return true;
  }
  return offset < consumed_;
}

void SendStream::on_packet_acked(std::uint64_t sequence) {
  while (!unacked_packets_.empty() && unacked_packets_.front().sequence <= sequence) {
    inline_acked_ = std::max(inline_acked_, unacked_packets_.front().end);
    unacked_packets_.pop_front();
  }
  if (fin_emitted_ && fin_sequence_ <= sequence) fin_acked_ = true;
}

// A segment meant for an extent goes in packets when it is a short tail with nothing ahead of it, or when the credit will
// not reach over it before the program at the other end has read what is there.
bool SendStream::goes_inline(const Segment& segment) const {
  if (!segment.bulk || segment.sent > 0) return true;
  if (segment.writing || segment.landed || &segment != pending_.front().get()) return false;
  const bool short_tail = segment.filled <= core_.config.inline_max_bytes && pending_.back().get() == &segment;
  if (short_tail && finished_) return true;
  if (writing_ > 0 || !announced_.empty()) return false;
  const bool beyond_credit = limit_ < segment.end() && limit_ > segment.offset;
  return short_tail || beyond_credit;
}

bool SendStream::inline_ready(const Segment& segment) const {
  return goes_inline(segment) && segment.sent < segment.filled && limit_ > segment.offset + segment.sent;
}

bool SendStream::has_messages() const {
  for (const SegmentPtr& segment : renewing_)
    if (segment->landed) return true;
  if (!pending_.empty()) return pending_.front()->landed || inline_ready(*pending_.front());
  return finished_ && !fin_emitted_;
}

bool SendStream::has_urgent_messages() const {
  if (!pending_.empty()) return inline_ready(*pending_.front());
  return finished_ && !fin_emitted_;
}

void SendStream::note_emitted(std::uint64_t sequence) {
  if (!unacked_packets_.empty() && unacked_packets_.back().sequence == sequence)
    unacked_packets_.back().end = emitted_;
  else
    unacked_packets_.push_back({sequence, emitted_});
}

bool SendStream::emit_inline(PacketBuilder& packet, SessionId session, std::uint64_t sequence) {
  Segment& segment = *pending_.front();
  const std::uint64_t start = segment.offset + segment.sent;
  const std::size_t n =
      static_cast<std::size_t>(std::min<std::uint64_t>({packet.data_room(), segment.filled - segment.sent, limit_ - start}));
  if (n == 0 || !packet.append(session, DataMessage{start, {segment.data() + segment.sent, n}})) return false;
  segment.sent += static_cast<std::uint32_t>(n);
  emitted_ = start + n;
  note_emitted(sequence);
  if (segment.sent == segment.filled) {
    if (segment.extent != CacheRegion::kNone) cache_.give_back(peer_, segment.extent);  // its write had failed
    let_go(segment);
    pending_.pop_front();
  }
  return true;
}

bool SendStream::emit_extent(PacketBuilder& packet, SessionId session) {
  const SegmentPtr segment = pending_.front();
  const ExtentMessage m{.offset = segment->offset, .place = cache_.block(segment->extent), .length = segment->filled,
                        .attempt = segment->attempt, .hash = segment->hash};
  if (!packet.append(session, m)) return false;
  emitted_ = segment->end();
  pending_.pop_front();
  announced_.push_back(segment);
  ++core_.counters.extents_sent;
  if (planted(Plant::kFreeExtentTooEarly) && !segment->writing) {
    cache_.give_back(peer_, segment->extent);
    segment->extent = CacheRegion::kNone;
  }
  return true;
}

bool SendStream::emit_renewed(PacketBuilder& packet, SessionId session) {
  bool any = false;
  for (auto it = renewing_.begin(); it != renewing_.end();) {
    const SegmentPtr segment = *it;
    if (!segment->landed) {
      ++it;
      continue;
    }
    const ExtentMessage m{.offset = segment->offset, .place = cache_.block(segment->extent), .length = segment->filled,
                          .attempt = segment->attempt, .hash = segment->hash};
    if (!packet.append(session, m)) return any;
    any = true;
    it = renewing_.erase(it);
  }
  return any;
}

bool SendStream::emit(PacketBuilder& packet, SessionId session, std::uint64_t sequence) {
  bool any = emit_renewed(packet, session);
  while (!pending_.empty()) {
    const bool appended = pending_.front()->landed ? emit_extent(packet, session)
                          : inline_ready(*pending_.front()) ? emit_inline(packet, session, sequence)
                                                            : false;
    if (!appended) break;
    any = true;
  }
  const bool overtakes = planted(Plant::kFinBeforeData) && announced_.empty() && finished_ && !fin_emitted_;
  if ((pending_.empty() || overtakes) && finished_ && !fin_emitted_ && packet.append(session, FinMessage{overtakes ? emitted_ : accepted_})) {
    fin_emitted_ = true;
    fin_sequence_ = sequence;
    any = true;
  }
  return any;
}

SendStream::SegmentPtr SendStream::next_bulk() const {
  for (const SegmentPtr& segment : renewing_)
    if (!segment->landed && !segment->writing && !segment->resting) return segment;
  for (std::size_t i = 0; i < pending_.size(); ++i) {
    const SegmentPtr& segment = pending_[i];
    if (!segment->bulk || segment->writing || segment->landed || segment->sent > 0) continue;
    if (segment->end() > limit_ || segment->filled < kMinBlockSize || segment->resting || goes_inline(*segment)) return nullptr;
    const bool last = i + 1 == pending_.size();
    const bool full = segment->filled == segment->capacity;
    // An extent that is not full waits for more as long as another write keeps the device busy.
    if (last && !full && !finished_ && writing_ > 0) return nullptr;
    return segment;
  }
  return nullptr;
}

bool SendStream::wants_write() const { return changed_ != nullptr && next_bulk() != nullptr; }

std::uint32_t SendStream::start_write(std::function<void()> done) {
  const SegmentPtr segment = next_bulk();
  if (segment == nullptr) return 0;
  const std::uint32_t extent = cache_.take(peer_);
  // A renewal goes to another place when there is one, else to the same: nothing of it is in flight any more.
  if (extent == CacheRegion::kNone && segment->extent == CacheRegion::kNone) return 0;
  if (extent != CacheRegion::kNone) {
    if (segment->extent != CacheRegion::kNone) cache_.give_back(peer_, segment->extent);
    segment->extent = extent;
  }
  if (segment->hashed != segment->filled) hash(*segment);
  write(segment, std::move(done));
  return segment->filled;
}

void SendStream::write(const SegmentPtr& segment, std::function<void()> done) {
  const std::uint32_t block = core_.geometry().block_size;
  if (segment->lent != nullptr) ++core_.counters.extents_lent;
  returned_ |= segment->lent != nullptr && segment->filled < segment->capacity;  // what waited for more may be taken
  segment->writing = true;
  ++writing_;
  if (planted(Plant::kAnnounceTooEarly)) segment->landed = true;
  core_.io.write(cache_.block(segment->extent), (segment->filled + block - 1) / block, segment->data(),
                 [self = shared_from_this(), segment, done = std::move(done)](int error) {
                   segment->writing = false;
                   --self->writing_;
                   if (segment->doomed)
                     self->release(segment);
                   else if (error == 0)
                     segment->landed = true;
                   else
                     self->rest(segment);
                   done();
                   self->tell_changed();
                 });
}

// A copy is called: what it does may end this stream.
void SendStream::tell_changed() {
  if (const Changed changed = changed_) changed();
}

// After an I/O error: tried again elsewhere, for as long as a host may be silent.
void SendStream::rest(const SegmentPtr& segment) {
  const Nanos bound = static_cast<Nanos>(core_.superblock().timing.detection_ms()) * kMillisecond;
  if (segment->errors == 0) segment->failing_since = core_.now;
  segment->errors = std::min(segment->errors + 1, kMostDoublings);
  if (core_.now - segment->failing_since > bound) {
    failed_ = true;
    return;
  }
  segment->resting = true;
  core_.timers.at(core_.now + (kFirstRest << segment->errors), [self = shared_from_this(), segment] {
    segment->resting = false;
    self->tell_changed();
  });
}

}  // namespace stp
