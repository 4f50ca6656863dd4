// A connected STP socket and a listening one, owned, with failures in words. Used by the tools that move bytes: stp pipe, stp-ftp, stp-ftpd.
//
// Every wait looks at `cancelled` four times a second, so that a signal handler or another thread can end it: the call then fails with
// kInterrupted. One thread may send while another receives.
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "stp/bytes.h"
#include "tools/failure.h"

namespace stp {

class Stream {
 public:
  Stream() = default;
  // Takes over a connected socket; `peer` is its name for messages.
  Stream(int socket, std::string peer, const std::atomic<bool>* cancelled);
  Stream(Stream&& other) noexcept;
  Stream& operator=(Stream&& other) noexcept;
  ~Stream();  // closes without complaint

  bool open() const { return socket_ >= 0; }
  const std::string& peer() const { return peer_; }

  // kPeerGone, kInterrupted.
  Outcome<void> send_all(ConstBytes bytes);
  // At least one byte, or 0 at the true end of the stream.
  Outcome<std::size_t> receive_some(Bytes into);
  // Exactly into.size() bytes; the end of the stream before is kPeerGone.
  Outcome<void> receive_exactly(Bytes into);
  // Is there something to receive (bytes, end or error) without waiting?
  bool readable() const;
  // After the true end of the stream, while this side still sends: waits until the connection breaks (kPeerGone, kInterrupted) or the ordinary
  // descriptor `ended` is readable.
  Outcome<void> wait_for_loss(int ended) const;
  // No more will be sent; the peer reads to the end.
  Outcome<void> finish_sending();
  // Closes; waits, bounded, until everything sent is in the peer's memory. kPeerGone: not all of it is.
  Outcome<void> close();
  // Closes at once, and the peer is told that what was in flight is void.
  void abort();
  // Fails pending and further calls of all threads; the socket stays owned.
  void shut_down();

 private:
  std::unexpected<Failure> gone(std::string_view doing, int error) const;
  bool cancelled() const { return cancelled_ != nullptr && cancelled_->load(std::memory_order_relaxed); }

  int socket_ = -1;
  std::string peer_;
  const std::atomic<bool>* cancelled_ = nullptr;
};

// `host` is HOST or HOST.STG. Goes on trying for `wait` while nobody listens or the host is unknown or down.
Outcome<Stream> connect_stream(std::string_view host, std::uint16_t port, std::chrono::milliseconds wait, const std::atomic<bool>* cancelled);

class Listener {
 public:
  static Outcome<Listener> listen(std::uint16_t port, int backlog, const std::atomic<bool>* cancelled);
  Listener(Listener&& other) noexcept;
  Listener& operator=(Listener&&) = delete;
  ~Listener();

  std::uint16_t port() const { return port_; }
  // The next connection, or kInterrupted. The streams watch `cancelled` as well.
  Outcome<Stream> accept();

 private:
  Listener(int socket, std::uint16_t port, const std::atomic<bool>* cancelled) : socket_(socket), port_(port), cancelled_(cancelled) {}
  int socket_;
  std::uint16_t port_;
  const std::atomic<bool>* cancelled_;
};

// Decimal, 1 to 65535.
std::optional<std::uint16_t> parse_port(std::string_view text);

}  // namespace stp
