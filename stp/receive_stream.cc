#include "stp/receive_stream.h"

#include <algorithm>
#include <cstring>

#include "stp/cache_region.h"
#include "stp/checksum.h"
#include "stp/copy.h"
#include "stp/cpu_cache.h"
#include "stp/plant.h"

namespace stp {

ReceiveStream::ReceiveStream(Core& core, MemoryBudget& budget, Slot peer, std::uint32_t most_window, Changed changed)
    : core_(core), budget_(budget), peer_(peer), changed_(std::move(changed)), most_window_(std::max(most_window, kFloorWindow)) {
  window_ = kFloorWindow;
  budget_.take_always(window_);
  const bool ample = budget_.left() > 3 * budget_.used();
  const std::uint32_t first = std::min(ample ? kAmpleFirstWindow : kFirstWindow, most_window_);
  // The second half of the budget is for those who read: thousands of idle sockets must not starve a busy one.
  const bool plenty = budget_.left() > budget_.used();
  if (plenty && first > window_ && budget_.take(first - window_)) window_ = first;
}

ReceiveStream::~ReceiveStream() { budget_.give_back(window_); }

std::uint64_t ReceiveStream::limit_for_open() {
  granted_ = mark_ = limit();
  mark_at_ = core_.now;
  return granted_;
}

bool ReceiveStream::on_data(std::uint64_t offset, ConstBytes bytes) {
  if (offset != expected_ || fin_ || bytes.empty() || offset + bytes.size() > granted_) return false;
  const bool nothing_missing = ready_ == expected_;
  std::size_t done = 0;
  while (done < bytes.size()) {
    const bool tail_takes = !pieces_.empty() && !pieces_.back()->extent && pieces_.back()->length < pieces_.back()->buffer.size();
    if (!tail_takes) {
      auto piece = std::make_shared<Piece>();
      piece->offset = expected_;
      piece->buffer = core_.buffers.take(pieces_.empty() ? bytes.size() - done : 16 * 1024);
      pieces_.push_back(std::move(piece));
    }
    Piece& tail = *pieces_.back();
    const std::size_t n = std::min(bytes.size() - done, tail.buffer.size() - tail.length);
    std::memcpy(tail.buffer.data() + tail.length, bytes.data() + done, n);
    tail.length += static_cast<std::uint32_t>(n);
    expected_ += n;
    done += n;
  }
  if (nothing_missing) ready_ = expected_;
  if (discarding_) drop_ready();
  return true;
}

bool ReceiveStream::on_extent(const ExtentMessage& m) {
  if (m.length < kMinBlockSize || m.length > kExtentBytes) return false;
  if (extent_of_block(core_.geometry(), peer_, m.place) == CacheRegion::kNone) return false;
  if (m.offset < expected_) {
    // Written again elsewhere, as asked.
    for (const PiecePtr& piece : pieces_) {
      if (piece->offset != m.offset || !piece->extent) continue;
      if (piece->state != Piece::State::kNacked || piece->length != m.length || m.attempt != piece->attempt + 1) return false;
      piece->state = Piece::State::kWaiting;
      piece->place = m.place;
      piece->hash = m.hash;
      piece->attempt = m.attempt;
      piece->reads = 0;
      return true;
    }
    return false;
  }
  if (m.offset != expected_ || fin_ || m.offset + m.length > granted_) return false;
  auto piece = std::make_shared<Piece>();
  piece->offset = m.offset;
  piece->length = m.length;
  piece->state = Piece::State::kWaiting;
  piece->extent = true;
  piece->place = m.place;
  piece->hash = m.hash;
  piece->attempt = m.attempt;
  pieces_.push_back(std::move(piece));
  ++extents_waiting_;
  expected_ += m.length;
  if (planted(Plant::kConsumedTooEarly)) consumed_due_ = true;
  return true;
}

bool ReceiveStream::on_fin(std::uint64_t total) {
  if (fin_ || total != expected_) return false;
  fin_ = total;
  if (planted(Plant::kFinWithoutTotal)) fin_early_ = true;
  return true;
}

ReceiveStream::PiecePtr ReceiveStream::next_piece() const {
  if (extents_waiting_ == 0) return nullptr;
  for (const PiecePtr& piece : pieces_)
    if (piece->state == Piece::State::kWaiting) return piece;
  return nullptr;
}

bool ReceiveStream::start_read(std::function<void()> done) {
  const PiecePtr piece = next_piece();
  if (piece == nullptr) return false;
  const std::uint32_t block = core_.geometry().block_size;
  const std::uint32_t blocks = (piece->length + block - 1) / block;
  piece->state = Piece::State::kReading;
  ++piece->reads;
  find_place(*piece, blocks);
  core_.io.read(piece->place, blocks, piece->data(), [self = shared_from_this(), piece, done = std::move(done)](int error) {
    done();
    self->core_.computing.emplace_back([self, piece, error] {
      if (self->changed_ == nullptr) {
        self->let_go(*piece);
        return;
      }
      self->on_read(piece, error);
      self->tell_changed();
    });
  });
  return true;
}

// Where an extent is read to, with what lies behind its bytes in its last block: where it will be delivered to, if it ends there.
void ReceiveStream::find_place(Piece& piece, std::uint32_t blocks) {
  if (piece.data() != nullptr) return;
  const std::size_t bytes = static_cast<std::size_t>(blocks) * core_.geometry().block_size;
  if (landing_ != nullptr && !discarding_ && bytes == piece.length) piece.landed = landing_->place(piece.offset - read_, bytes);
  if (piece.landed != nullptr) {
    piece.landing = landing_;
    if (core_.config.evict_received) evict_from_cpu_cache({piece.landed, piece.length});
  } else {
    piece.buffer = core_.buffers.take(bytes);
  }
}

void ReceiveStream::let_go(Piece& piece) {
  core_.buffers.give_back(std::move(piece.buffer));
  piece.landed = nullptr;
  piece.landing.reset();
}

void ReceiveStream::on_read(const PiecePtr& piece, int error) {
  const bool good = error == 0 && (planted(Plant::kSkipExtentHash) || hash64(piece->offset, {piece->data(), piece->length}) == piece->hash);
  if (good) {
    piece->state = Piece::State::kReady;
    --extents_waiting_;
    ++core_.counters.extents_taken;
    if (piece->landed != nullptr) ++core_.counters.extents_landed;
    advance();
    return;
  }
  if (error != 0) return rest_after_error(piece);
  piece->failing_since = 0;
  ++core_.counters.damaged_extents;
  read_again(piece);
}

// The storage failed, not the data: it is waited for as long as a host may be silent.
void ReceiveStream::rest_after_error(const PiecePtr& piece) {
  if (piece->failing_since == 0) piece->failing_since = core_.now;
  --piece->reads;
  if (core_.now - piece->failing_since > patience()) {
    failed_ = true;
    return;
  }
  rest(piece, kErrorRest);
}

void ReceiveStream::rest(const PiecePtr& piece, Nanos span) {
  piece->state = Piece::State::kResting;
  core_.timers.at(core_.now + span, [self = shared_from_this(), piece] {
    if (piece->state == Piece::State::kResting) piece->state = Piece::State::kWaiting;
    self->tell_changed();
  });
}

Nanos ReceiveStream::patience() const { return static_cast<Nanos>(core_.superblock().timing.detection_ms()) * kMillisecond; }

// A copy is called: what it does may end this stream.
void ReceiveStream::tell_changed() {
  if (const Changed changed = changed_) changed();
}

void ReceiveStream::read_again(const PiecePtr& piece) {
  if (piece->landed != nullptr) {
    // Whoever the room belongs to may have written there meanwhile: once, and not at each extent.
    landing_.reset();
    let_go(*piece);
  }
  if (piece->reads < kMostReads) {
    rest(piece, kFirstRest << (2 * piece->reads));
    return;
  }
  if (piece->attempt + 1 >= kMostAttempts) {
    failed_ = true;
    return;
  }
  piece->state = Piece::State::kNacked;
  nacks_.push_back({.offset = piece->offset, .length = piece->length, .attempt = piece->attempt});
  // The peer may never answer: then the session ends, in bounded time.
  core_.timers.at(core_.now + patience(), [self = shared_from_this(), piece, attempt = piece->attempt] {
    if (piece->state != Piece::State::kNacked || piece->attempt != attempt || self->changed_ == nullptr) return;
    self->failed_ = true;
    self->tell_changed();
  });
}

void ReceiveStream::advance() {
  const std::uint64_t before = ready_;
  bool extent = false;
  for (const PiecePtr& piece : pieces_) {
    if (piece->end() <= ready_) continue;
    if (piece->state != Piece::State::kReady) break;
    ready_ = piece->end();
    extent |= piece->extent;
  }
  if (extent) consumed_due_ = true;
  if (discarding_ && ready_ > before) drop_ready();
}

std::size_t ReceiveStream::read(Bytes into, bool peek) {
  std::size_t done = 0;
  std::uint64_t at = read_;
  for (auto it = pieces_.begin(); it != pieces_.end() && done < into.size() && at < ready_; ++it) {
    Piece& piece = **it;
    if (piece.state != Piece::State::kReady) break;
    const auto from = static_cast<std::uint32_t>(at - piece.offset);
    const std::size_t n = std::min<std::size_t>(into.size() - done, piece.length - from);
    if (piece.landed == nullptr)
      copy_bytes(into.data() + done, {piece.buffer.data() + from, n});
    else if (piece.landed + from != into.data() + done)
      std::memmove(into.data() + done, piece.landed + from, n);
    done += n;
    at += n;
  }
  if (peek) return done;
  read_ = at;
  forget_read();
  grow_window();
  return done;
}

// Lets go of the pieces that the program has taken whole.
void ReceiveStream::forget_read() {
  while (!pieces_.empty() && pieces_.front()->state == Piece::State::kReady && pieces_.front()->end() <= read_) {
    Piece& piece = *pieces_.front();
    if (piece.buffer && piece.extent && core_.config.evict_received) evict_from_cpu_cache({piece.buffer.data(), piece.length});
    let_go(piece);
    pieces_.pop_front();
  }
}

void ReceiveStream::discard() {
  discarding_ = true;
  drop_ready();
}

void ReceiveStream::drop_ready() {
  dropped_ += ready_ - read_;
  read_ = ready_;
  forget_read();
}

void ReceiveStream::abandon() {
  changed_ = nullptr;
  budget_.give_back(window_);
  window_ = 0;
  for (const PiecePtr& piece : pieces_)
    if (piece->state != Piece::State::kReading) let_go(*piece);
  pieces_.clear();
  landing_.reset();
  extents_waiting_ = 0;
}

// Whether a limit was reached soon after it was sent. Of a program that reads at once, credit looks unused: what the sender has
// used of it comes back as new credit meanwhile.
bool ReceiveStream::used_up_quickly() {
  if (expected_ < mark_) return false;
  const bool quickly = core_.now - mark_at_ <= kQuick;
  mark_ = granted_;
  mark_at_ = core_.now;
  return quickly;
}

// A sender that uses up most of its credit while the program keeps reading gets more of it.
void ReceiveStream::grow_window() {
  const bool quick = used_up_quickly();
  if (window_ >= most_window_) return;
  // Below a few extents credit never runs out, because nothing but packets fits into it: there what was read counts.
  const bool young = window_ < 2 * kExtentBytes && read_ >= window_;
  if (!young && !quick && granted_ - expected_ > window_ / 4) return;
  const std::uint32_t more = std::min(window_, most_window_ - window_);
  if (budget_.take(more)) window_ += more;
}

bool ReceiveStream::credit_due() const {
  if (fin_) return false;
  return limit() >= granted_ + std::max(window_ / 4, 1u);
}

bool ReceiveStream::emit(PacketBuilder& packet, SessionId session) {
  bool any = false;
  if (consumed_due_ && packet.append(session, ConsumedMessage{planted(Plant::kConsumedTooEarly) ? expected_ : ready_})) {
    consumed_due_ = false;
    any = true;
  }
  if (credit_due() && packet.append(session, CreditMessage{limit()})) {
    granted_ = limit();
    any = true;
  }
  while (!nacks_.empty() && packet.append(session, nacks_.front())) {
    nacks_.pop_front();
    any = true;
  }
  return any;
}

}  // namespace stp
