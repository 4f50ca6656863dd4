// Frames over an STP stream. Small frames are gathered and go out together: by flush(), before anything is received, or when enough
// are there; so requests sent ahead cost few sends. One thread uses a channel.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "tools/ftp_protocol.h"
#include "tools/stream.h"

namespace stp::ftp {

// A buffer for a kData frame: room for the header, then the bytes, so that a frame is one send without a copy.
class DataBuffer {
 public:
  explicit DataBuffer(std::size_t capacity = kMaxData)
      : capacity_(capacity), memory_(std::make_unique_for_overwrite<std::byte[]>(kHeaderSize + capacity)) {}
  std::size_t capacity() const { return capacity_; }
  std::byte* data() { return memory_.get() + kHeaderSize; }
  ConstBytes bytes() const { return ConstBytes(memory_.get() + kHeaderSize, size); }
  std::byte* frame() { return memory_.get(); }

  std::size_t size = 0;

 private:
  std::size_t capacity_;
  std::unique_ptr<std::byte[]> memory_;
};

class Channel {
 public:
  explicit Channel(Stream stream) : stream_(std::move(stream)), inbox_(kInbox) {}

  Outcome<void> send(FrameType type, ConstBytes payload = {});
  Outcome<void> send_data(DataBuffer& buffer);
  Outcome<void> flush();

  Outcome<FrameHeader> receive_header();
  // The payload of the header just received.
  Outcome<void> receive_payload(Bytes into) { return receive(into); }
  struct Frame {
    FrameType type;
    Payload payload;
  };
  // Header and payload. kData frames are not expected here, and are kProtocol.
  Outcome<Frame> receive_frame();
  // Reads and drops.
  Outcome<void> skip(std::size_t length);
  // The stream's end where a frame would begin: the peer left in good order. Waits for either.
  Outcome<bool> at_end();
  // Is something there to receive without waiting?
  bool readable() const { return begin_ != end_ || stream_.readable(); }

  Stream& stream() { return stream_; }

 private:
  static constexpr std::size_t kInbox = std::size_t{64} << 10;
  static constexpr std::size_t kOutboxLimit = std::size_t{256} << 10;
  Outcome<void> receive(Bytes into);

  Stream stream_;
  std::vector<std::byte> outbox_;
  std::vector<std::byte> inbox_;
  std::size_t begin_ = 0;
  std::size_t end_ = 0;
};

}  // namespace stp::ftp
