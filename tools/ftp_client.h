// The asking side of the file transfer protocol. Single-threaded but for the overlap inside a transfer; every wait ends when `cancelled` is set.
// A failure with kPeerGone, kInterrupted or kProtocol ends the connection; the next request makes a new one.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "tools/ftp_channel.h"
#include "tools/ftp_transfer.h"

namespace stp::ftp {

// Is told how transfers go on.
class TransferObserver {
 public:
  virtual ~TransferObserver() = default;
  virtual void begin_job(std::size_t files, std::uint64_t bytes) = 0;
  virtual void begin_file(const std::string& name, std::uint64_t size, std::uint64_t resumed_at) = 0;
  virtual void advance(std::uint64_t bytes) = 0;
  virtual void file_done(const std::string& name, std::uint64_t size, const Digest& digest) = 0;
  virtual void file_failed(const std::string& name, const Failure& why) = 0;
  virtual void end_job() = 0;
};

struct GetItem {
  std::string remote;
  FileEntry entry;                           // as listed
  std::shared_ptr<const RootedFiles> local;  // where it goes
  std::string local_path;                    // below `local`
};

struct PutItem {
  std::string local;  // a path of this process
  std::string remote;
};

class Client {
 public:
  struct Server {
    std::string host;
    std::uint16_t port = kDefaultPort;
    std::chrono::milliseconds wait{0};  // for the server to come up
  };

  explicit Client(const std::atomic<bool>* cancelled) : cancelled_(cancelled) {}
  ~Client() { leave(); }
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  Outcome<void> connect(const Server& server);
  void leave();       // in good order
  void disconnect();  // at once; the server sees an abort
  bool connected() const { return channel_.has_value(); }
  // Was there a server to which a request can connect again?
  bool has_server() const { return server_.has_value(); }
  void forget_server() { server_.reset(); }

  Outcome<std::vector<FileEntry>> list(const std::string& path);
  Outcome<FileEntry> stat(const std::string& path);
  Outcome<void> make_directory(const std::string& path, std::uint32_t mode, bool may_exist);
  Outcome<void> remove_directory(const std::string& path);
  Outcome<void> remove_file(const std::string& path);
  Outcome<void> rename(const std::string& from, const std::string& to);

  // Several files, with requests sent ahead. The failure of one file does not stop the others, unless it is one that would befall them too (peer gone,
  // disk full, interrupted). One item: its own failure; several: kSomeFailed, and the observer was told each.
  Outcome<void> get(std::span<const GetItem> items, TransferObserver& observer);
  Outcome<void> put(std::span<const PutItem> items, TransferObserver& observer);

 private:
  struct Asked;    // a get that was sent ahead
  struct Awaited;  // a put whose answer is to come
  class Job;

  Outcome<void> ensure_connected();
  Outcome<void> greet();
  // Sends one request and takes its one answer: the payload of a frame of that type.
  Outcome<Payload> ask(FrameType request, ConstBytes payload, FrameType answer);
  Outcome<Payload> take_answer(FrameType answer);
  Outcome<void> change(FrameType request, ConstBytes payload);  // answered by kOk
  // Ends the connection where `why` means that it is of no use any more.
  std::unexpected<Failure> lost(Failure why);
  bool usable_after(const Failure& why) const;

  Outcome<Asked> ask_for_file(const GetItem& item);
  Outcome<Digest> receive_file(Asked& asked, TransferObserver& observer);
  Outcome<Digest> receive_bytes(Asked& asked, std::uint64_t offset, Sha256 hash, TransferObserver& observer);

  Outcome<void> put_whole(const PutItem& item, int fd, const FileEntry& entry, Job& job, std::deque<Awaited>& awaited);
  Outcome<Digest> put_large(const PutItem& item, int fd, const FileEntry& entry, TransferObserver& observer);
  Outcome<void> take_put_answer(Job& job, std::deque<Awaited>& awaited);
  Outcome<void> put_one(const PutItem& item, Job& job, std::deque<Awaited>& awaited);

  const std::atomic<bool>* cancelled_;
  std::optional<Server> server_;
  std::optional<Channel> channel_;
};

}  // namespace stp::ftp
