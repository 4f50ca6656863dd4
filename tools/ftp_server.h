// The serving side of the file transfer protocol: one session a client, each in its own thread, all below one root.
#pragma once

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <optional>
#include <string>

#include "tools/ftp_channel.h"
#include "tools/rooted_files.h"
#include "tools/stream.h"

namespace stp::ftp {

struct ServerOptions {
  bool read_only = false;
  unsigned max_clients = 64;  // more are told that the server is busy
  bool quiet = false;         // log nothing
};

// One client's session, from its hello to its end. Requests are worked on in order.
class ServerSession {
 public:
  ServerSession(Stream stream, const RootedFiles& files, const ServerOptions& options, const std::atomic<bool>* stopping)
      : channel_(std::move(stream)), files_(files), options_(options), stopping_(stopping) {}
  // Returns when the client left in good order; otherwise why it ended.
  Outcome<void> run();
  std::uint64_t requests() const { return requests_; }

 private:
  Outcome<void> greet();
  Outcome<void> handle(const Channel::Frame& frame);
  Outcome<void> reply(const Outcome<void>& result);
  Outcome<void> reply_failure(const Failure& why) { return channel_.send(FrameType::kError, encode(why)); }
  Outcome<void> writable() const;

  Outcome<void> list(ConstBytes payload);
  Outcome<void> stat(ConstBytes payload);
  Outcome<void> change(FrameType type, ConstBytes payload);
  Outcome<void> get(ConstBytes payload);
  Outcome<void> put(ConstBytes payload);
  Outcome<PartFile> begin_put(const Put& request);
  // The client's offset, or nothing when the put ended there.
  Outcome<std::optional<std::uint64_t>> agree_on_offset(const Put& request, const PartFile& part, Sha256* hash);
  Outcome<void> receive_put(const Put& request, PartFile& part, std::uint64_t offset, Sha256 hash);
  Outcome<void> finish_put(const Put& request, PartFile& part, const Outcome<Digest>& arrived, const Digest& sent);
  Outcome<void> drop_rest_of_put();

  Channel channel_;
  const RootedFiles& files_;
  const ServerOptions& options_;
  const std::atomic<bool>* stopping_;
  std::uint64_t requests_ = 0;
};

class Server {
 public:
  Server(RootedFiles files, ServerOptions options) : files_(std::move(files)), options_(options) {}
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;
  ~Server() { wait_for_sessions(); }

  // Accepts until `stopping` is set, then waits for the sessions, which see it too. The failure: accepting is not possible any more.
  Outcome<void> serve(Listener& listener, const std::atomic<bool>& stopping);

 private:
  void session(Stream stream, const std::atomic<bool>* stopping);
  static void turn_away(Stream stream);
  bool enter(unsigned* count, unsigned limit);
  void leave(unsigned* count);
  void wait_for_sessions();
  void log(const std::string& line) const;

  RootedFiles files_;
  const ServerOptions options_;
  std::mutex mutex_;
  std::condition_variable left_;
  unsigned clients_ = 0;
  unsigned turned_away_ = 0;
};

}  // namespace stp::ftp
