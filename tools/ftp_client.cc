#include "tools/ftp_client.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include <cerrno>
#include <utility>

namespace stp::ftp {

namespace {

constexpr std::size_t kAskAhead = 16;
constexpr std::size_t kPutAhead = 32;
constexpr std::uint64_t kWholeLimit = std::uint64_t{1} << 20;  // up to this size a file is sent without asking first
constexpr std::size_t kMaxListing = 4'000'000;

bool ends_job(const Failure& why) {
  switch (why.code) {
    case FailureCode::kPeerGone:
    case FailureCode::kInterrupted:
    case FailureCode::kProtocol:
    case FailureCode::kDiskFull:
    case FailureCode::kCannotConnect:
      return true;
    default:
      return false;
  }
}

std::unexpected<Failure> broken(std::string_view what) {
  return failure(FailureCode::kProtocol, fmt::format("the server broke the file transfer protocol: {}", what));
}

}  // namespace

// A get that was sent: its part file is open and locked, and the digest of what is there is known.
struct Client::Asked {
  const GetItem* item;
  PartFile part;
  Sha256 prefix;
};

struct Client::Awaited {
  std::string name;
  std::uint64_t size;
  Digest digest;
  std::optional<Failure> local;  // it was given up for this reason
};

// Counts what failed in a transfer of one or several files, and keeps the observer informed.
class Client::Job {
 public:
  Job(std::size_t files, std::uint64_t bytes, TransferObserver& observer) : files_(files), observer_(observer) { observer_.begin_job(files, bytes); }
  ~Job() { observer_.end_job(); }
  Job(const Job&) = delete;
  Job& operator=(const Job&) = delete;

  TransferObserver& observer() { return observer_; }
  // The failure, when the job is over with it.
  Outcome<void> settle(const std::string& name, std::uint64_t size, const Outcome<Digest>& result) {
    if (result) {
      observer_.file_done(name, size, *result);
      return {};
    }
    ++failed_;
    if (files_ == 1 || ends_job(result.error())) return std::unexpected(result.error());
    observer_.file_failed(name, result.error());
    return {};
  }
  Outcome<void> result() const {
    if (failed_ == 0) return {};
    return failure(FailureCode::kSomeFailed, fmt::format("{} of {} files failed", failed_, files_));
  }

 private:
  std::size_t files_;
  std::size_t failed_ = 0;
  TransferObserver& observer_;
};

Outcome<void> Client::connect(const Server& server) {
  leave();
  server_ = server;
  return ensure_connected();
}

void Client::leave() {
  if (channel_) (void)channel_->stream().close();
  channel_.reset();
}

void Client::disconnect() {
  if (channel_) channel_->stream().abort();
  channel_.reset();
}

Outcome<void> Client::ensure_connected() {
  if (channel_) return {};
  if (!server_) return failure(FailureCode::kCannotConnect, "not connected: say open HOST first");
  auto stream = connect_stream(server_->host, server_->port, server_->wait, cancelled_);
  if (!stream) return std::unexpected(stream.error());
  channel_.emplace(std::move(*stream));
  auto greeted = greet();
  if (!greeted) disconnect();
  return greeted;
}

Outcome<void> Client::greet() {
  if (auto sent = channel_->send(FrameType::kHello, encode(Hello{})); !sent) return sent;
  const auto frame = channel_->receive_frame();
  if (!frame) return std::unexpected(frame.error());
  if (frame->type == FrameType::kError) {
    const Failure why = decode_error(frame->payload);
    const FailureCode code = why.code == FailureCode::kBusy ? FailureCode::kCannotConnect : why.code;
    return failure(code, fmt::format("{}: {}", channel_->stream().peer(), why.text));
  }
  if (frame->type != FrameType::kWelcome) return broken("no welcome");
  const auto welcome = decode_welcome(frame->payload);
  if (!welcome) return std::unexpected(welcome.error());
  return {};
}

bool Client::usable_after(const Failure& why) const {
  return channel_.has_value() && why.code != FailureCode::kPeerGone && why.code != FailureCode::kInterrupted && why.code != FailureCode::kProtocol;
}

std::unexpected<Failure> Client::lost(Failure why) {
  if (!usable_after(why)) disconnect();
  return std::unexpected(std::move(why));
}

Outcome<Payload> Client::take_answer(FrameType answer) {
  auto frame = channel_->receive_frame();
  if (!frame) return std::unexpected(frame.error());
  if (frame->type == answer) return std::move(frame->payload);
  if (frame->type == FrameType::kError) return std::unexpected(decode_error(frame->payload));
  return broken("an answer that fits no question");
}

Outcome<Payload> Client::ask(FrameType request, ConstBytes payload, FrameType answer) {
  if (auto ready = ensure_connected(); !ready) return std::unexpected(ready.error());
  if (auto sent = channel_->send(request, payload); !sent) return lost(sent.error());
  auto taken = take_answer(answer);
  if (!taken) return lost(taken.error());
  return taken;
}

Outcome<void> Client::change(FrameType request, ConstBytes payload) {
  const auto done = ask(request, payload, FrameType::kOk);
  if (!done) return std::unexpected(done.error());
  return {};
}

Outcome<std::vector<FileEntry>> Client::list(const std::string& path) {
  std::vector<FileEntry> all;
  auto payload = ask(FrameType::kList, encode(PathRequest{path}), FrameType::kEntries);
  while (true) {
    if (!payload) return lost(payload.error());
    auto part = decode_entries(*payload);
    if (!part) return lost(part.error());
    if (all.size() + part->entries.size() > kMaxListing) return lost(broken("a listing without end").error());
    for (FileEntry& entry : part->entries) {
      if (!valid_file_name(entry.name)) return lost(broken("a listing with a nameless entry").error());
      all.push_back(std::move(entry));
    }
    if (part->last) return all;
    if (part->entries.empty()) return lost(broken("a listing that does not go on").error());
    payload = take_answer(FrameType::kEntries);
  }
}

Outcome<FileEntry> Client::stat(const std::string& path) {
  const auto payload = ask(FrameType::kStat, encode(PathRequest{path}), FrameType::kEntries);
  if (!payload) return std::unexpected(payload.error());
  auto part = decode_entries(*payload);
  if (!part) return lost(part.error());
  if (part->entries.size() != 1 || !part->last) return lost(broken("not one entry for one name").error());
  return std::move(part->entries.front());
}

Outcome<void> Client::make_directory(const std::string& path, std::uint32_t mode, bool may_exist) {
  return change(FrameType::kMkdir, encode(Mkdir{mode, may_exist, path}));
}

Outcome<void> Client::remove_directory(const std::string& path) {
  return change(FrameType::kRmdir, encode(PathRequest{path}));
}

Outcome<void> Client::remove_file(const std::string& path) {
  return change(FrameType::kRemove, encode(PathRequest{path}));
}

Outcome<void> Client::rename(const std::string& from, const std::string& to) {
  return change(FrameType::kRename, encode(Rename{from, to}));
}

Outcome<void> Client::get(std::span<const GetItem> items, TransferObserver& observer) {
  std::uint64_t bytes = 0;
  for (const GetItem& item : items) bytes += item.entry.size;
  Job job(items.size(), bytes, observer);
  std::deque<Asked> asked;
  std::size_t next = 0;
  while (next < items.size() || !asked.empty()) {
    if (next < items.size() && asked.size() < kAskAhead) {
      const GetItem& item = items[next++];
      auto one = ask_for_file(item);
      if (one) {
        asked.push_back(std::move(*one));
      } else if (auto settled = job.settle(item.remote, item.entry.size, std::unexpected(one.error())); !settled) {
        if (!asked.empty() || !usable_after(settled.error())) disconnect();  // answers to what was asked ahead may be on their way
        return settled;
      }
      continue;
    }
    const auto digest = receive_file(asked.front(), observer);
    auto settled = job.settle(asked.front().item->remote, asked.front().part.source().size, digest);
    asked.pop_front();
    if (settled && !connected()) return std::unexpected(digest.error());
    if (!settled) {
      if (!asked.empty() || !usable_after(settled.error())) disconnect();
      return settled;
    }
  }
  return job.result();
}

Outcome<Client::Asked> Client::ask_for_file(const GetItem& item) {
  if (auto ready = ensure_connected(); !ready) return std::unexpected(ready.error());
  auto place = item.local->open_parent(item.local_path);
  if (!place) return std::unexpected(place.error());
  const SourceIdentity source{item.entry.size, item.entry.mtime_ns};
  auto part = PartFile::begin(std::move(*place), item.local_path, source);
  if (!part) return std::unexpected(part.error());
  Asked asked{&item, std::move(*part), Sha256()};
  Get request;
  request.source = source;
  request.path = item.remote;
  request.offset = asked.part.resumable();
  if (auto hashed = hash_prefix(asked.part.fd(), request.offset, item.local_path, cancelled_, &asked.prefix); !hashed)
    return std::unexpected(hashed.error());
  request.prefix = asked.prefix.digest();
  if (auto sent = channel_->send(FrameType::kGet, encode(request)); !sent) return std::unexpected(sent.error());
  return asked;
}

Outcome<Digest> Client::receive_file(Asked& asked, TransferObserver& observer) {
  auto payload = take_answer(FrameType::kStart);
  if (!payload) return std::unexpected(payload.error());
  const auto start = decode_start(*payload);
  if (!start) return std::unexpected(start.error());
  const bool same = start->source == asked.part.source();
  if (start->offset != 0 && (!same || start->offset != asked.part.resumable())) return broken("a start where nothing ends");
  // From here on bytes are on their way: a failure on this side leaves the connection of no use.
  Outcome<void> ready = same ? Outcome<void>() : asked.part.restart(start->source);
  if (ready) ready = asked.part.start_at(start->offset);
  if (!ready) {
    disconnect();
    return std::unexpected(ready.error());
  }
  observer.begin_file(asked.item->remote, start->source.size, start->offset);
  const auto digest = receive_bytes(asked, start->offset, start->offset == 0 ? Sha256() : std::move(asked.prefix), observer);
  if (!digest) return digest;
  if (auto committed = asked.part.commit(start->mode); !committed) return std::unexpected(committed.error());
  return digest;
}

Outcome<Digest> Client::receive_bytes(Asked& asked, std::uint64_t offset, Sha256 hash, TransferObserver& observer) {
  FileReceiver receiver(asked.part.fd(), offset, asked.part.source().size, asked.item->local_path, std::move(hash));
  while (true) {
    const auto header = channel_->receive_header();
    if (!header) return std::unexpected(header.error());
    if (header->type == FrameType::kData) {
      if (auto done = receiver.receive(*channel_, header->length); !done) return std::unexpected(done.error());
      observer.advance(header->length);
      if (!receiver.failed()) continue;
      disconnect();  // spares the server the rest
      return receiver.finish();
    }
    Payload payload(header->length);
    if (auto done = channel_->receive_payload(payload); !done) return std::unexpected(done.error());
    if (header->type == FrameType::kError) return std::unexpected(decode_error(payload));
    if (header->type != FrameType::kEnd) return broken("a frame out of place within a file");
    const auto end = decode_end(payload);
    if (!end) return std::unexpected(end.error());
    const auto digest = receiver.finish();
    if (!digest || *digest == end->digest) return digest;
    asked.part.discard();
    return failure(FailureCode::kChecksum, fmt::format("checksum mismatch: \"{}\" did not arrive as it was sent and was thrown away; run the command again",
                                                       printable(asked.item->remote)));
  }
}

Outcome<void> Client::put(std::span<const PutItem> items, TransferObserver& observer) {
  std::uint64_t bytes = 0;
  for (const PutItem& item : items) {
    struct stat status {};
    if (::stat(item.local.c_str(), &status) == 0 && S_ISREG(status.st_mode)) bytes += static_cast<std::uint64_t>(status.st_size);
  }
  Job job(items.size(), bytes, observer);
  std::deque<Awaited> awaited;
  Outcome<void> done;
  for (const PutItem& item : items) {
    done = put_one(item, job, awaited);
    while (done && (awaited.size() >= kPutAhead || (!awaited.empty() && channel_->readable()))) done = take_put_answer(job, awaited);
    if (!done) break;
  }
  while (done && !awaited.empty()) done = take_put_answer(job, awaited);
  if (done) return job.result();
  if (!awaited.empty() || !usable_after(done.error())) disconnect();
  return done;
}

Outcome<void> Client::put_one(const PutItem& item, Job& job, std::deque<Awaited>& awaited) {
  if (auto ready = ensure_connected(); !ready) return ready;
  // O_NONBLOCK: a FIFO without a writer must not hold us.
  const UniqueFd fd(::open(item.local.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
  struct stat status {};
  if (!fd || ::fstat(fd.get(), &status) != 0)
    return job.settle(item.local, 0, file_failure(errno, fmt::format("cannot open \"{}\"", printable(item.local))));
  const FileEntry entry = entry_of("", status);
  if (entry.kind != FileKind::kFile)
    return job.settle(item.local, 0, failure(FailureCode::kWrongKind, fmt::format("\"{}\" is {}", printable(item.local),
                                                                                entry.kind == FileKind::kDirectory ? "a directory; put -r copies it"
                                                                                                                   : "not a regular file")));
  if (entry.size <= kWholeLimit) return put_whole(item, fd.get(), entry, job, awaited);
  while (!awaited.empty())
    if (auto taken = take_put_answer(job, awaited); !taken) return taken;
  return job.settle(item.local, entry.size, put_large(item, fd.get(), entry, job.observer()));
}

Outcome<void> Client::put_whole(const PutItem& item, int fd, const FileEntry& entry, Job& job, std::deque<Awaited>& awaited) {
  const SourceIdentity source{entry.size, entry.mtime_ns};
  job.observer().begin_file(item.local, entry.size, 0);
  if (auto sent = channel_->send(FrameType::kPut, encode(Put{source, entry.mode & 0777, true, item.remote})); !sent) return sent;
  Sha256 hash;
  const auto end = send_file(
      *channel_, fd, 0, source, item.local, [] { return false; }, [&](std::uint64_t n) { job.observer().advance(n); }, &hash);
  Awaited one{item.local, entry.size, hash.digest(), std::nullopt};
  if (!end) {
    if (!usable_after(end.error())) return std::unexpected(end.error());
    one.local = end.error();
  }
  awaited.push_back(std::move(one));
  return end ? channel_->send(FrameType::kEnd, encode(End{awaited.back().digest})) : channel_->send(FrameType::kAbort);
}

Outcome<void> Client::take_put_answer(Job& job, std::deque<Awaited>& awaited) {
  const auto answer = take_answer(FrameType::kOk);
  if (!answer && !usable_after(answer.error())) return std::unexpected(answer.error());
  const Awaited one = std::move(awaited.front());
  awaited.pop_front();
  if (one.local) return job.settle(one.name, one.size, std::unexpected(*one.local));
  return job.settle(one.name, one.size, answer ? Outcome<Digest>(one.digest) : std::unexpected(answer.error()));
}

Outcome<Digest> Client::put_large(const PutItem& item, int fd, const FileEntry& entry, TransferObserver& observer) {
  const SourceIdentity source{entry.size, entry.mtime_ns};
  if (auto sent = channel_->send(FrameType::kPut, encode(Put{source, entry.mode & 0777, false, item.remote})); !sent)
    return std::unexpected(sent.error());
  const auto payload = take_answer(FrameType::kStart);
  if (!payload) return std::unexpected(payload.error());
  const auto start = decode_start(*payload);
  if (!start) return std::unexpected(start.error());
  if (start->source != source) return broken("a start of another file");
  Sha256 hash;
  std::uint64_t offset = 0;
  Outcome<SendEnd> end = SendEnd::kAll;
  if (start->offset > 0) {
    Sha256 prefix;
    if (auto hashed = hash_prefix(fd, start->offset, item.local, cancelled_, &prefix); !hashed) end = std::unexpected(hashed.error());
    if (end && prefix.digest() == start->prefix) {
      offset = start->offset;
      hash = std::move(prefix);
    }
  }
  if (end) {
    observer.begin_file(item.local, entry.size, offset);
    if (auto sent = channel_->send(FrameType::kBegin, encode(Begin{offset})); !sent) return std::unexpected(sent.error());
    end = send_file(
        *channel_, fd, offset, source, item.local, [&] { return channel_->readable(); }, [&](std::uint64_t n) { observer.advance(n); }, &hash);
  }
  if (!end && !usable_after(end.error())) return std::unexpected(end.error());
  const bool whole = end && *end == SendEnd::kAll;
  const Digest digest = hash.digest();
  if (auto sent = whole ? channel_->send(FrameType::kEnd, encode(End{digest})) : channel_->send(FrameType::kAbort); !sent)
    return std::unexpected(sent.error());
  const auto answer = take_answer(FrameType::kOk);
  if (!answer && !usable_after(answer.error())) return std::unexpected(answer.error());
  if (!end) return std::unexpected(end.error());
  if (!answer) return std::unexpected(answer.error());
  if (!whole) return broken("an answer before the end of a file");
  return digest;
}

}  // namespace stp::ftp
