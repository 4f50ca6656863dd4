#include "stp/send_stream.h"

#include <algorithm>
#include <bit>

#include "stp/checksum.h"
#include "stp/copy.h"
#include "stp/plant.h"

namespace stp {
namespace {
constexpr std::uint64_t kAlwaysAllowed = 16 * 1024;  // of a socket, whatever the budget says
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
  const std::uint64_t held = accepted_ - acked();
  const std::uint64_t most = std::min<std::uint64_t>(buffer_bytes_, budget_.share(budgeted_));
  if (held >= most) return 0;
  const std::uint64_t free = most - held;
  const std::uint64_t allowed = std::max(budget_.left(), held < kAlwaysAllowed ? kAlwaysAllowed - held : 0);
  return static_cast<std::size_t>(std::min(free, allowed));
}

void SendStream::add_segment(std::size_t more) {
  auto segment = std::make_shared<Segment>();
  segment->offset = accepted_;
  const std::uint64_t waiting = accepted_ - emitted_;
  segment->bulk = more >= core_.config.inline_max_bytes || waiting >= core_.config.inline_max_bytes;
  // When memory runs short a whole extent's buffer is too much for a few bytes.
  const bool plenty = budget_.left() >= kExtentBytes;
  segment->buffer = core_.buffers.take(segment->bulk && plenty ? kExtentBytes : more);
  budget_.take_always(segment->buffer.size());
  budgeted_ += segment->buffer.size();
  pending_.push_back(std::move(segment));
}

std::size_t SendStream::take(ConstBytes data) {
  const std::size_t count = std::min(room(), data.size());
  std::size_t left = count;
  while (left > 0) {
    const bool tail_takes =
        !pending_.empty() && !pending_.back()->writing && !pending_.back()->landed && pending_.back()->filled < pending_.back()->buffer.size();
    if (!tail_takes) add_segment(left);
    Segment& tail = *pending_.back();
    const std::size_t n = std::min<std::size_t>(left, tail.buffer.size() - tail.filled);
    copy_bytes(tail.buffer.data() + tail.filled, data.subspan(count - left, n));
    tail.filled += static_cast<std::uint32_t>(n);
    accepted_ += n;
    left -= n;
    // Now, while they are in the cache, and not when the device is free for them.
    if (tail.bulk && tail.filled == kExtentBytes) hash(tail);
  }
  return count;
}

void SendStream::hash(Segment& segment) {
  segment.hash = hash64(segment.offset, {segment.buffer.data(), segment.filled});
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
    return;
  }
  if (segment->extent != CacheRegion::kNone) cache_.give_back(peer_, segment->extent);
  segment->extent = CacheRegion::kNone;
  let_go(*segment);
}

void SendStream::let_go(Segment& segment) {
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

bool SendStream::on_nack(std::uint64_t offset, std::uint32_t length, std::uint32_t attempt) {
  for (const SegmentPtr& segment : announced_) {
    if (segment->offset != offset) continue;
    if (segment->filled != length) return false;
    if (attempt < segment->attempt || segment->writing) return true;  // asked for before, under way
    if (attempt > segment->attempt || attempt >= kMostAttempts) return false;
    if (planted(Plant::kAnnounceTooEarly) || planted(Plant::kFreeExtentTooEarly)) return true;
    ++segment->attempt;
    segment->landed = false;
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
  if (n == 0 || !packet.append(session, DataMessage{start, {segment.buffer.data() + segment.sent, n}})) return false;
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
    const bool full = segment->filled == segment->buffer.size();
    // An extent that is not full waits for more as long as another write keeps the device busy.
    if (last && !full && !finished_ && writing_ > 0) return nullptr;
    return segment;
  }
  return nullptr;
}

bool SendStream::wants_write() const { return changed_ != nullptr && next_bulk() != nullptr; }

bool SendStream::start_write(std::function<void()> done) {
  const SegmentPtr segment = next_bulk();
  if (segment == nullptr) return false;
  const std::uint32_t extent = cache_.take(peer_);
  // A renewal goes to another place when there is one, else to the same: nothing of it is in flight any more.
  if (extent == CacheRegion::kNone && segment->extent == CacheRegion::kNone) return false;
  if (extent != CacheRegion::kNone) {
    if (segment->extent != CacheRegion::kNone) cache_.give_back(peer_, segment->extent);
    segment->extent = extent;
  }
  if (segment->hashed != segment->filled) hash(*segment);
  write(segment, std::move(done));
  return true;
}

void SendStream::write(const SegmentPtr& segment, std::function<void()> done) {
  const std::uint32_t block = core_.geometry().block_size;
  segment->writing = true;
  ++writing_;
  if (planted(Plant::kAnnounceTooEarly)) segment->landed = true;
  core_.io.write(cache_.block(segment->extent), (segment->filled + block - 1) / block, segment->buffer.data(),
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
