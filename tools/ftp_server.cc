#include "tools/ftp_server.h"

#include <fmt/format.h>

#include <cstdio>
#include <exception>
#include <thread>

#include "tools/ftp_transfer.h"

namespace stp::ftp {

namespace {

constexpr unsigned kMaxTurningAway = 8;
constexpr std::chrono::milliseconds kPartPatience{3000};

std::unexpected<Failure> out_of_place(std::string_view what) {
  return failure(FailureCode::kProtocol, fmt::format("the peer broke the file transfer protocol: {} out of place", what));
}

}  // namespace

Outcome<void> ServerSession::run() {
  if (auto done = greet(); !done) return done;
  while (true) {
    const auto end = channel_.at_end();
    if (!end) return std::unexpected(end.error());
    if (*end) return channel_.stream().close();
    const auto frame = channel_.receive_frame();
    auto done = frame ? handle(*frame) : std::unexpected(frame.error());
    if (done) continue;
    if (done.error().code == FailureCode::kProtocol) {
      // Tell before hanging up: an honest client of another version should be able to say why.
      (void)reply_failure(done.error());
      (void)channel_.flush();
    }
    return done;
  }
}

Outcome<void> ServerSession::greet() {
  const auto frame = channel_.receive_frame();
  if (!frame) return std::unexpected(frame.error());
  if (frame->type != FrameType::kHello) return out_of_place("the first frame");
  const auto hello = decode_hello(frame->payload);
  if (!hello) return std::unexpected(hello.error());
  if (hello->lowest > kVersion || hello->highest < kVersion) {
    const Failure why{FailureCode::kProtocol, fmt::format("this server speaks version {} of the protocol, the client {} to {}", kVersion,
                                                          hello->lowest, hello->highest)};
    (void)reply_failure(why);
    (void)channel_.flush();
    return std::unexpected(why);
  }
  Welcome welcome;
  welcome.read_only = options_.read_only;
  return channel_.send(FrameType::kWelcome, encode(welcome));
}

Outcome<void> ServerSession::handle(const Channel::Frame& frame) {
  ++requests_;
  switch (frame.type) {
    case FrameType::kList:
      return list(frame.payload);
    case FrameType::kStat:
      return stat(frame.payload);
    case FrameType::kMkdir:
    case FrameType::kRmdir:
    case FrameType::kRemove:
    case FrameType::kRename:
      return change(frame.type, frame.payload);
    case FrameType::kGet:
      return get(frame.payload);
    case FrameType::kPut:
      return put(frame.payload);
    default:
      return out_of_place("a frame");
  }
}

Outcome<void> ServerSession::reply(const Outcome<void>& result) {
  return result ? channel_.send(FrameType::kOk) : reply_failure(result.error());
}

Outcome<void> ServerSession::writable() const {
  if (options_.read_only) return failure(FailureCode::kRefused, "the server is read-only");
  return {};
}

// A request that cannot be decoded ends the session, except that a path which leads out of the root is only refused.
#define STP_FTP_DECODE(variable, call)                                                           \
  const auto variable = (call);                                                                  \
  if (!variable && variable.error().code != FailureCode::kRefused) return std::unexpected(variable.error()); \
  if (!variable) return reply_failure(variable.error())

Outcome<void> ServerSession::list(ConstBytes payload) {
  STP_FTP_DECODE(request, decode_path(payload));
  const auto entries = files_.list(request->path);
  if (!entries) return reply_failure(entries.error());
  for (const Payload& part : encode_listing(*entries))
    if (auto sent = channel_.send(FrameType::kEntries, part); !sent) return sent;
  return {};
}

Outcome<void> ServerSession::stat(ConstBytes payload) {
  STP_FTP_DECODE(request, decode_path(payload));
  const auto entry = files_.stat(request->path);
  if (!entry) return reply_failure(entry.error());
  return channel_.send(FrameType::kEntries, encode_listing({*entry}).front());
}

Outcome<void> ServerSession::change(FrameType type, ConstBytes payload) {
  if (type == FrameType::kMkdir) {
    STP_FTP_DECODE(request, decode_mkdir(payload));
    const auto may = writable();
    return reply(may ? files_.make_directory(request->path, request->mode, request->may_exist) : may);
  }
  if (type == FrameType::kRename) {
    STP_FTP_DECODE(request, decode_rename(payload));
    const auto may = writable();
    return reply(may ? files_.rename(request->from, request->to) : may);
  }
  STP_FTP_DECODE(request, decode_path(payload));
  const auto may = writable();
  if (!may) return reply(may);
  return reply(type == FrameType::kRmdir ? files_.remove_directory(request->path) : files_.remove_file(request->path));
}

Outcome<void> ServerSession::get(ConstBytes payload) {
  STP_FTP_DECODE(request, decode_get(payload));
  struct stat status {};
  const auto file = files_.open_for_reading(request->path, &status);
  if (!file) return reply_failure(file.error());
  const FileEntry entry = entry_of("", status);
  Start start;
  start.source = {entry.size, entry.mtime_ns};
  start.mode = entry.mode & 0777;
  Sha256 hash;
  if (request->offset > 0 && request->source == start.source) {
    Sha256 prefix;
    if (auto done = hash_prefix(file->get(), request->offset, request->path, stopping_, &prefix); !done)
      return done.error().code == FailureCode::kInterrupted ? done : reply_failure(done.error());
    if (prefix.digest() == request->prefix) {
      start.offset = request->offset;
      start.prefix = request->prefix;
      hash = std::move(prefix);
    }
  }
  if (auto sent = channel_.send(FrameType::kStart, encode(start)); !sent) return sent;
  const auto end = send_file(
      channel_, file->get(), start.offset, start.source, request->path, [] { return false; }, [](std::uint64_t) {}, &hash);
  if (end) return channel_.send(FrameType::kEnd, encode(End{hash.digest()}));
  const bool file_trouble = end.error().code != FailureCode::kPeerGone && end.error().code != FailureCode::kInterrupted;
  return file_trouble ? reply_failure(end.error()) : std::unexpected(end.error());
}

Outcome<void> ServerSession::put(ConstBytes payload) {
  const auto request = decode_put(payload);
  if (!request) return std::unexpected(request.error());
  auto part = begin_put(*request);
  if (!part) {
    if (auto sent = reply_failure(part.error()); !sent) return sent;
    return request->whole ? drop_rest_of_put() : Outcome<void>();
  }
  Sha256 hash;
  const auto offset = agree_on_offset(*request, *part, &hash);
  if (!offset) return std::unexpected(offset.error());
  if (!*offset) return {};
  return receive_put(*request, *part, **offset, std::move(hash));
}

Outcome<PartFile> ServerSession::begin_put(const Put& request) {
  if (auto may = writable(); !may) return std::unexpected(may.error());
  auto place = files_.open_parent(request.path);
  if (!place) return std::unexpected(place.error());
  return PartFile::begin(std::move(*place), request.path, request.source, kPartPatience);
}

Outcome<std::optional<std::uint64_t>> ServerSession::agree_on_offset(const Put& request, const PartFile& part, Sha256* hash) {
  if (request.whole) return 0;
  Start start;
  start.offset = part.resumable();
  start.source = request.source;
  Sha256 prefix;
  if (auto done = hash_prefix(part.fd(), start.offset, request.path, stopping_, &prefix); !done) {
    if (done.error().code == FailureCode::kInterrupted) return std::unexpected(done.error());
    if (auto sent = reply_failure(done.error()); !sent) return std::unexpected(sent.error());
    return std::nullopt;
  }
  start.prefix = prefix.digest();
  if (auto sent = channel_.send(FrameType::kStart, encode(start)); !sent) return std::unexpected(sent.error());
  const auto frame = channel_.receive_frame();
  if (!frame) return std::unexpected(frame.error());
  if (frame->type == FrameType::kAbort) {
    if (auto sent = reply_failure({FailureCode::kOther, "the client gave up"}); !sent) return std::unexpected(sent.error());
    return std::nullopt;
  }
  if (frame->type != FrameType::kBegin) return out_of_place("a frame within a put");
  const auto begin = decode_begin(frame->payload);
  if (!begin) return std::unexpected(begin.error());
  if (begin->offset != 0 && begin->offset != start.offset) return out_of_place("the begin of a put");
  if (begin->offset != 0) *hash = std::move(prefix);
  return begin->offset;
}

Outcome<void> ServerSession::receive_put(const Put& request, PartFile& part, std::uint64_t offset, Sha256 hash) {
  if (auto started = part.start_at(offset); !started) {
    if (auto sent = reply_failure(started.error()); !sent) return sent;
    return drop_rest_of_put();
  }
  FileReceiver receiver(part.fd(), offset, request.source.size, request.path, std::move(hash));
  while (true) {
    const auto header = channel_.receive_header();
    if (!header) return std::unexpected(header.error());
    if (header->type == FrameType::kData) {
      if (auto done = receiver.receive(channel_, header->length); !done) return done;
      if (!receiver.failed()) continue;
      const auto why = receiver.finish();
      if (auto sent = reply_failure(why.error()); !sent) return sent;
      if (auto sent = channel_.flush(); !sent) return sent;  // now: the client can spare itself the rest
      return drop_rest_of_put();
    }
    Payload payload(header->length);
    if (auto done = channel_.receive_payload(payload); !done) return done;
    if (header->type == FrameType::kAbort) {
      (void)receiver.finish();
      return reply_failure({FailureCode::kOther, fmt::format("the client gave up on \"{}\"", printable(request.path))});
    }
    if (header->type != FrameType::kEnd) return out_of_place("a frame within a put");
    const auto end = decode_end(payload);
    if (!end) return std::unexpected(end.error());
    return finish_put(request, part, receiver.finish(), end->digest);
  }
}

Outcome<void> ServerSession::finish_put(const Put& request, PartFile& part, const Outcome<Digest>& arrived, const Digest& sent) {
  if (!arrived) {
    // Fewer bytes than announced is a broken client.
    if (arrived.error().code == FailureCode::kProtocol) return std::unexpected(arrived.error());
    return reply_failure(arrived.error());
  }
  if (*arrived == sent) return reply(part.commit(request.mode));
  part.discard();
  return reply_failure({FailureCode::kChecksum, fmt::format("checksum mismatch: \"{}\" did not arrive as it was sent and was thrown away; "
                                                            "run the command again",
                                                            printable(request.path))});
}

Outcome<void> ServerSession::drop_rest_of_put() {
  while (true) {
    const auto header = channel_.receive_header();
    if (!header) return std::unexpected(header.error());
    if (auto done = channel_.skip(header->length); !done) return done;
    if (header->type == FrameType::kEnd || header->type == FrameType::kAbort) return {};
    if (header->type != FrameType::kData && header->type != FrameType::kBegin) return out_of_place("a frame within a put");
  }
}

Outcome<void> Server::serve(Listener& listener, const std::atomic<bool>& stopping) {
  while (!stopping) {
    auto stream = listener.accept();
    if (!stream && stream.error().code == FailureCode::kInterrupted) break;
    if (!stream) {
      wait_for_sessions();
      return std::unexpected(stream.error());
    }
    const std::string peer = stream->peer();
    const bool admitted = enter(&clients_, options_.max_clients);
    if (!admitted && !enter(&turned_away_, kMaxTurningAway)) continue;
    try {
      std::thread([this, admitted, &stopping, accepted = std::move(*stream)]() mutable {
        if (admitted)
          session(std::move(accepted), &stopping);
        else
          turn_away(std::move(accepted));
        leave(admitted ? &clients_ : &turned_away_);
      }).detach();
    } catch (const std::system_error&) {
      leave(admitted ? &clients_ : &turned_away_);
      log(fmt::format("{}: dropped, no thread to be had", peer));
    }
    if (!admitted) log(fmt::format("{}: turned away, {} clients are served already", peer, options_.max_clients));
  }
  wait_for_sessions();
  return {};
}

void Server::session(Stream stream, const std::atomic<bool>* stopping) {
  const std::string peer = stream.peer();
  log(fmt::format("{}: connected", peer));
  try {
    ServerSession session(std::move(stream), files_, options_, stopping);
    const auto end = session.run();
    log(fmt::format("{}: {} after {} requests", peer, end ? "left" : end.error().text, session.requests()));
  } catch (const std::exception& error) {
    log(fmt::format("{}: dropped: {}", peer, error.what()));
  }
}

void Server::turn_away(Stream stream) {
  try {
    Channel channel(std::move(stream));
    // Its hello is read first: a close over unread bytes would void the answer.
    if (!channel.receive_frame()) return;
    if (!channel.send(FrameType::kError, encode(Failure{FailureCode::kBusy, "the server is busy: as many clients as it takes are connected; try later"}))) return;
    if (channel.flush()) (void)channel.stream().close();
  } catch (const std::exception&) {
    // Nothing to be saved: the client sees the connection end.
  }
}

bool Server::enter(unsigned* count, unsigned limit) {
  const std::lock_guard lock(mutex_);
  if (*count >= limit) return false;
  ++*count;
  return true;
}

void Server::leave(unsigned* count) {
  const std::lock_guard lock(mutex_);
  --*count;
  left_.notify_all();
}

void Server::wait_for_sessions() {
  std::unique_lock lock(mutex_);
  left_.wait(lock, [&] { return clients_ == 0 && turned_away_ == 0; });
}

void Server::log(const std::string& line) const {
  if (!options_.quiet) fmt::print(stderr, "stp-ftpd: {}\n", line);
}

}  // namespace stp::ftp
