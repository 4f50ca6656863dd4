#include "tests/sim/sim_transfer.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "tests/sim/sim_streams.h"

namespace stp::sim {
namespace {

constexpr std::uint16_t kPort = 300;
constexpr std::size_t kChunk = 96 * 1024;
constexpr Nanos kLookEvery = 2 * kMillisecond;
constexpr Nanos kTryAgainAfter = 200 * kMillisecond;

}  // namespace

void SimTransfer::send_to(std::string host) {
  to_ = std::move(host);
  look_again();
}

void SimTransfer::receive() { look_again(); }

void SimTransfer::look_again() {
  context_.world.after(kLookEvery, [this] { look(); });
}

void SimTransfer::look() {
  if (!process_.running() || process_.engine() == nullptr || over_) return;
  Engine& engine = *process_.engine();
  if (context_.world.now() >= not_before_) {
    if (to_.empty())
      look_as_receiver(engine);
    else
      look_as_sender(engine);
    process_.wake_engine();
  }
  look_again();
}

void SimTransfer::give_up(Engine& engine) {
  if (socket_) engine.close(*socket_, true, process_.local_now());
  socket_.reset();
  connected_ = shut_ = false;
  offset_moved_ = 0;
  not_before_ = context_.world.now() + kTryAgainAfter;
}

void SimTransfer::look_as_sender(Engine& engine) {
  if (!socket_) {
    auto made = engine.open(process_.local_now());
    if (!made) return;
    socket_ = *made;
    ++file_.connections;
    auto result = engine.connect(*socket_, {.host = to_, .stg = "", .port = kPort}, false, process_.local_now());
    if (!result && result.error().code != EINPROGRESS) return give_up(engine);
  }
  if (!connected_) {
    const auto info = engine.info(*socket_);
    if (!info || engine.take_error(*socket_).code != 0 || info->state == ScbState::kClosed) return give_up(engine);
    connected_ = info->state == ScbState::kEstablished;
    return;
  }
  if (offset_moved_ < offset_.size()) return learn_offset(engine);
  push(engine);
}

void SimTransfer::learn_offset(Engine& engine) {
  auto got = engine.receive(*socket_, Bytes(offset_).subspan(offset_moved_), false, process_.local_now());
  if (!got && got.error().code == EAGAIN) return;
  if (!got || *got == 0) return give_up(engine);
  offset_moved_ += *got;
  if (offset_moved_ < offset_.size()) return;
  at_ = file_.resumed_at = load_le<std::uint64_t>(offset_.data());
  if (at_ > file_.size) context_.world.fail("a resumed transfer goes on where it ended", fmt::format("{} is to go on at {} of {} bytes", process_.label(), at_, file_.size));
}

void SimTransfer::push(Engine& engine) {
  std::vector<std::byte> data(kChunk);
  while (at_ < file_.size) {
    const Bytes chunk = Bytes(data).first(static_cast<std::size_t>(std::min<std::uint64_t>(kChunk, file_.size - at_)));
    fill_stream(file_.id, true, at_, chunk);
    auto taken = engine.send(*socket_, chunk, process_.local_now());
    if (!taken && taken.error().code == EAGAIN) return;
    if (!taken) return give_up(engine);
    at_ += *taken;
  }
  if (!std::exchange(shut_, true) && !engine.shut(*socket_, false, true, process_.local_now())) return give_up(engine);
  // The receiver closes when it has everything.
  std::byte nothing[8];
  auto got = engine.receive(*socket_, nothing, false, process_.local_now());
  if (!got && got.error().code == EAGAIN) return;
  if (!got) return give_up(engine);
  if (*got != 0) return context_.world.fail("what is received was sent", fmt::format("{} got {} bytes that nobody sent", process_.label(), *got));
  if (!file_.whole) context_.world.fail("the end is the true end", fmt::format("{} was told that all {} bytes are there; {} are", process_.label(), file_.size, file_.kept));
  over_ = true;
  engine.close(*socket_, false, process_.local_now());
}

void SimTransfer::look_as_receiver(Engine& engine) {
  if (!listener_) {
    auto made = engine.open(process_.local_now());
    if (!made) return;
    if (!engine.bind(*made, kPort) || !engine.listen(*made, 4)) return engine.close(*made, true, process_.local_now());
    listener_ = *made;
  }
  if (!socket_) {
    auto accepted = engine.accept(*listener_, process_.local_now());
    if (!accepted && accepted.error().code == EAGAIN) return;
    if (!accepted) {  // the listener went with the incarnation
      engine.close(*listener_, true, process_.local_now());
      listener_.reset();
      return;
    }
    socket_ = *accepted;
    store_le<std::uint64_t>(offset_.data(), file_.kept);
  }
  while (offset_moved_ < offset_.size()) {
    auto sent = engine.send(*socket_, ConstBytes(offset_).subspan(offset_moved_), process_.local_now());
    if (!sent && sent.error().code == EAGAIN) return;
    if (!sent) return give_up(engine);
    offset_moved_ += *sent;
  }
  pull(engine);
}

void SimTransfer::pull(Engine& engine) {
  std::vector<std::byte> data(kChunk);
  for (;;) {
    auto got = engine.receive(*socket_, data, false, process_.local_now());
    if (!got && got.error().code == EAGAIN) return;
    if (!got) return give_up(engine);
    if (*got == 0) break;
    const ConstBytes bytes = ConstBytes(data).first(*got);
    if (file_.kept + *got > file_.size || match_stream(file_.id, true, file_.kept, bytes) != *got)
      return context_.world.fail("what is received was sent", fmt::format("{}: not the bytes of the file at {} of {}", process_.label(), file_.kept, file_.size));
    file_.kept += *got;
  }
  if (file_.kept != file_.size)
    return context_.world.fail("the end is the true end", fmt::format("{}: the end of the file after {} of {} bytes", process_.label(), file_.kept, file_.size));
  file_.whole = true;
  engine.close(*socket_, false, process_.local_now());
  socket_.reset();
  offset_moved_ = 0;  // another connection may come, of a sender that does not know yet
}

}  // namespace stp::sim
