#include "tools/ftp_channel.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>

namespace stp::ftp {

Outcome<void> Channel::send(FrameType type, ConstBytes payload) {
  const std::size_t at = outbox_.size();
  outbox_.resize(at + kHeaderSize);
  encode_header({type, static_cast<std::uint32_t>(payload.size())}, outbox_.data() + at);
  outbox_.insert(outbox_.end(), payload.begin(), payload.end());
  return outbox_.size() >= kOutboxLimit ? flush() : Outcome<void>();
}

Outcome<void> Channel::send_data(DataBuffer& buffer) {
  // Small enough to travel with its neighbours.
  if (buffer.size < kInbox) return send(FrameType::kData, buffer.bytes());
  if (auto done = flush(); !done) return done;
  encode_header({FrameType::kData, static_cast<std::uint32_t>(buffer.size)}, buffer.frame());
  return stream_.send_all(ConstBytes(buffer.frame(), kHeaderSize + buffer.size));
}

Outcome<void> Channel::flush() {
  if (outbox_.empty()) return {};
  auto done = stream_.send_all(outbox_);
  outbox_.clear();
  return done;
}

Outcome<void> Channel::receive(Bytes into) {
  if (auto done = flush(); !done) return done;
  while (!into.empty()) {
    if (begin_ == end_ && into.size() >= kInbox) return stream_.receive_exactly(into);
    if (begin_ == end_) {
      const auto n = stream_.receive_some(inbox_);
      if (!n) return std::unexpected(n.error());
      if (*n == 0) return failure(FailureCode::kPeerGone, fmt::format("{} ended the connection in the middle of the work", stream_.peer()));
      begin_ = 0;
      end_ = *n;
    }
    const std::size_t part = std::min(into.size(), end_ - begin_);
    std::memcpy(into.data(), inbox_.data() + begin_, part);
    begin_ += part;
    into = into.subspan(part);
  }
  return {};
}

Outcome<FrameHeader> Channel::receive_header() {
  std::array<std::byte, kHeaderSize> header;
  if (auto done = receive(header); !done) return std::unexpected(done.error());
  return decode_header(header);
}

Outcome<Channel::Frame> Channel::receive_frame() {
  const auto header = receive_header();
  if (!header) return std::unexpected(header.error());
  if (header->length > kMaxPayload) return failure(FailureCode::kProtocol, "the peer broke the file transfer protocol: data out of place");
  Frame frame{header->type, Payload(header->length)};
  if (auto done = receive(frame.payload); !done) return std::unexpected(done.error());
  return frame;
}

Outcome<void> Channel::skip(std::size_t length) {
  std::array<std::byte, 4096> sink;
  while (length > 0) {
    const std::size_t part = std::min(length, sink.size());
    if (auto done = receive(std::span(sink).first(part)); !done) return done;
    length -= part;
  }
  return {};
}

Outcome<bool> Channel::at_end() {
  if (begin_ != end_) return false;
  if (auto done = flush(); !done) return std::unexpected(done.error());
  const auto n = stream_.receive_some(inbox_);
  if (!n) return std::unexpected(n.error());
  begin_ = 0;
  end_ = *n;
  return *n == 0;
}

}  // namespace stp::ftp
