// The bytes of one file between a descriptor and a channel, hashed on the way. Large files overlap: one thread reads (or writes) the
// file and hashes, the caller's sends (or receives); a few buffers of 1 MiB travel between them. Small files stay in the caller's thread.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "tools/ftp_channel.h"

namespace stp::ftp {

// Called from the caller's thread with the number of bytes just sent or received.
using Advance = std::function<void(std::uint64_t bytes)>;

// Adds the first `length` bytes of the file to the hash. `shown` names the file in messages. kChanged: it is shorter.
Outcome<void> hash_prefix(int fd, std::uint64_t length, const std::string& shown, const std::atomic<bool>* cancelled, Sha256* hash);

enum class SendEnd { kAll, kStopped };
// Sends bytes [offset, source.size) as kData frames; `hash` covers what was before offset and goes on. Before each frame `stop` is asked: true
// ends it with kStopped. The caller sends kEnd or kAbort. kChanged: the file is no longer what `source` says. kIo: it cannot be read.
Outcome<SendEnd> send_file(Channel& channel, int fd, std::uint64_t offset, const SourceIdentity& source, const std::string& shown,
                           const std::function<bool()>& stop, const Advance& advance, Sha256* hash);

// Takes in the bytes of a file, in order. After a failure of write() further bytes need not be offered.
class FileReceiver {
 public:
  // `shown` names the file in messages; `expected` bytes in all, of which `offset` are there and in the hash.
  FileReceiver(int fd, std::uint64_t offset, std::uint64_t expected, std::string shown, Sha256 hash);
  FileReceiver(const FileReceiver&) = delete;
  FileReceiver& operator=(const FileReceiver&) = delete;
  ~FileReceiver();

  // Receives the payload of a kData frame. A failure of the file (kDiskFull, kIo) is kept for finish(): the rest is received and dropped. What is
  // returned is a failure of the channel, or kProtocol for more bytes than expected.
  Outcome<void> receive(Channel& channel, std::uint32_t length);
  // Did writing the file fail already? Then there is no point in going on.
  bool failed() const;
  // Waits until all is written. The digest of the whole file; kProtocol when bytes are missing.
  Outcome<Digest> finish();

 private:
  class Overlap;
  int fd_;
  std::uint64_t position_;
  std::uint64_t expected_;
  std::string shown_;
  Sha256 hash_;
  std::unique_ptr<Failure> failure_;
  std::unique_ptr<DataBuffer> buffer_;
  std::unique_ptr<Overlap> overlap_;
};

}  // namespace stp::ftp
