#include "tools/ftp_transfer.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <optional>
#include <thread>

#include "tools/bounded_queue.h"

namespace stp::ftp {

namespace {

constexpr std::uint64_t kOverlapFrom = std::uint64_t{2} << 20;
constexpr std::size_t kBuffers = 4;
// Written data is handed to the disk in such pieces, so that fsync at the end finds little left.
constexpr std::uint64_t kWriteOut = std::uint64_t{8} << 20;

using BufferPtr = std::unique_ptr<DataBuffer>;

std::unexpected<Failure> changed(const std::string& shown) {
  return failure(FailureCode::kChanged, fmt::format("\"{}\" changed while it was read; run the command again", printable(shown)));
}

// Fills the buffer from the file. kChanged at an early end.
Outcome<void> read_chunk(int fd, std::uint64_t position, std::uint64_t end, const std::string& shown, DataBuffer& buffer) {
  const auto want = static_cast<std::size_t>(std::min<std::uint64_t>(buffer.capacity(), end - position));
  buffer.size = 0;
  while (buffer.size < want) {
    const ssize_t n = ::pread(fd, buffer.data() + buffer.size, want - buffer.size, static_cast<off_t>(position + buffer.size));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return file_failure(errno, fmt::format("cannot read \"{}\"", printable(shown)));
    if (n == 0) return changed(shown);
    buffer.size += static_cast<std::size_t>(n);
  }
  return {};
}

Outcome<void> write_chunk(int fd, std::uint64_t position, ConstBytes bytes, const std::string& shown) {
  while (!bytes.empty()) {
    const ssize_t n = ::pwrite(fd, bytes.data(), bytes.size(), static_cast<off_t>(position));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && code_of_errno(errno) == FailureCode::kDiskFull)
      return failure(FailureCode::kDiskFull, fmt::format("cannot write \"{}\": {}; make room and run the same command again, it resumes", printable(shown),
                                                         errno == EFBIG ? "the file size limit is reached" : errno == EDQUOT ? "the quota is used up" : "the disk is full"));
    if (n < 0) return file_failure(errno, fmt::format("cannot write \"{}\"", printable(shown)));
    position += static_cast<std::uint64_t>(n);
    bytes = bytes.subspan(static_cast<std::size_t>(n));
    if (position / kWriteOut != (position - static_cast<std::uint64_t>(n)) / kWriteOut)
      (void)::sync_file_range(fd, static_cast<off_t>(position - kWriteOut), static_cast<off_t>(kWriteOut), SYNC_FILE_RANGE_WRITE);
  }
  return {};
}

bool unchanged(int fd, const SourceIdentity& source) {
  struct stat status {};
  if (::fstat(fd, &status) != 0) return false;
  const FileEntry now = entry_of("", status);
  return now.size == source.size && now.mtime_ns == source.mtime_ns;
}

}  // namespace

Outcome<void> hash_prefix(int fd, std::uint64_t length, const std::string& shown, const std::atomic<bool>* cancelled, Sha256* hash) {
  DataBuffer buffer(std::min<std::uint64_t>(kMaxData, length));
  for (std::uint64_t position = 0; position < length; position += buffer.size) {
    if (cancelled != nullptr && cancelled->load()) return failure(FailureCode::kInterrupted, "interrupted");
    if (auto done = read_chunk(fd, position, length, shown, buffer); !done) return done;
    hash->update(buffer.bytes());
  }
  return {};
}

Outcome<SendEnd> send_file(Channel& channel, int fd, std::uint64_t offset, const SourceIdentity& source, const std::string& shown,
                           const std::function<bool()>& stop, const Advance& advance, Sha256* hash) {
  (void)::posix_fadvise(fd, static_cast<off_t>(offset), 0, POSIX_FADV_SEQUENTIAL);
  const auto send_one = [&](DataBuffer& buffer) -> Outcome<SendEnd> {
    if (stop()) return SendEnd::kStopped;
    if (auto sent = channel.send_data(buffer); !sent) return std::unexpected(sent.error());
    advance(buffer.size);
    return SendEnd::kAll;
  };

  if (source.size - offset < kOverlapFrom) {
    DataBuffer buffer(std::min<std::uint64_t>(kMaxData, source.size - offset));
    for (std::uint64_t position = offset; position < source.size; position += buffer.size) {
      if (auto done = read_chunk(fd, position, source.size, shown, buffer); !done) return std::unexpected(done.error());
      hash->update(buffer.bytes());
      if (auto end = send_one(buffer); !end || *end == SendEnd::kStopped) return end;
    }
    return unchanged(fd, source) ? Outcome<SendEnd>(SendEnd::kAll) : changed(shown);
  }

  BoundedQueue<BufferPtr> full(kBuffers), empty(kBuffers);
  for (std::size_t i = 0; i < kBuffers; ++i) empty.push(std::make_unique<DataBuffer>());
  std::optional<Failure> read_failure;  // the reader's until it is joined
  std::thread reader([&] {
    for (std::uint64_t position = offset; position < source.size;) {
      auto buffer = empty.pop();
      if (!buffer) break;
      if (auto done = read_chunk(fd, position, source.size, shown, **buffer); !done) {
        read_failure = done.error();
        break;
      }
      hash->update((*buffer)->bytes());
      position += (*buffer)->size;
      if (!full.push(std::move(*buffer))) break;
    }
    full.close();
  });
  Outcome<SendEnd> end = SendEnd::kAll;
  while (auto buffer = full.pop()) {
    end = send_one(**buffer);
    if (!end || *end == SendEnd::kStopped) break;
    empty.push(std::move(*buffer));
  }
  empty.close();
  full.close();
  reader.join();
  if (!end || *end == SendEnd::kStopped) return end;
  if (read_failure) return std::unexpected(*read_failure);
  if (!unchanged(fd, source)) return changed(shown);
  return end;
}

// The thread that hashes and writes what the caller received.
class FileReceiver::Overlap {
 public:
  explicit Overlap(FileReceiver& owner) : owner_(owner), full_(kBuffers), empty_(kBuffers) {
    for (std::size_t i = 0; i < kBuffers; ++i) empty_.push(std::make_unique<DataBuffer>());
    thread_ = std::thread([this, position = owner.position_]() mutable {
      while (auto buffer = full_.pop()) {
        if (!failed_) {
          owner_.hash_.update((*buffer)->bytes());
          if (auto done = write_chunk(owner_.fd_, position, (*buffer)->bytes(), owner_.shown_); !done) {
            owner_.failure_ = std::make_unique<Failure>(done.error());
            failed_ = true;
          }
          position += (*buffer)->size;
        }
        empty_.push(std::move(*buffer));
      }
    });
  }
  ~Overlap() {
    full_.close();
    thread_.join();
  }
  BufferPtr take() { return std::move(*empty_.pop()); }
  void give(BufferPtr buffer) { full_.push(std::move(buffer)); }
  bool failed() const { return failed_; }

 private:
  FileReceiver& owner_;
  BoundedQueue<BufferPtr> full_, empty_;
  std::atomic<bool> failed_ = false;
  std::thread thread_;
};

FileReceiver::FileReceiver(int fd, std::uint64_t offset, std::uint64_t expected, std::string shown, Sha256 hash)
    : fd_(fd), position_(offset), expected_(expected), shown_(std::move(shown)), hash_(std::move(hash)) {
  if (expected_ - position_ >= kOverlapFrom) overlap_ = std::make_unique<Overlap>(*this);
}

FileReceiver::~FileReceiver() = default;

bool FileReceiver::failed() const { return overlap_ ? overlap_->failed() : failure_ != nullptr; }

Outcome<void> FileReceiver::receive(Channel& channel, std::uint32_t length) {
  if (length > expected_ - position_)
    return failure(FailureCode::kProtocol, fmt::format("the peer sent more bytes of \"{}\" than it announced", printable(shown_)));
  if (length == 0) return {};
  BufferPtr buffer = overlap_ ? overlap_->take() : std::move(buffer_);
  if (!buffer || buffer->capacity() < length) buffer = std::make_unique<DataBuffer>(length);
  buffer->size = length;
  auto done = channel.receive_payload(Bytes(buffer->data(), length));
  if (done && overlap_) {
    overlap_->give(std::move(buffer));
  } else if (done && !failure_) {
    hash_.update(buffer->bytes());
    if (auto written = write_chunk(fd_, position_, buffer->bytes(), shown_); !written) failure_ = std::make_unique<Failure>(written.error());
  }
  if (!overlap_) buffer_ = std::move(buffer);
  if (done) position_ += length;
  return done;
}

Outcome<Digest> FileReceiver::finish() {
  overlap_.reset();  // waits
  if (failure_) return std::unexpected(*failure_);
  if (position_ != expected_)
    return failure(FailureCode::kProtocol, fmt::format("the peer sent fewer bytes of \"{}\" than it announced", printable(shown_)));
  return hash_.digest();
}

}  // namespace stp::ftp
