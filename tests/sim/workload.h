// What the programs of one simulated process do with its sockets: listen, connect, send in all sizes, read slowly or not at all, close
// halves, close, abort. It acts only when the engine said that a socket is ready: a lost notification is a socket that hangs.
#pragma once

#include <array>
#include <map>
#include <string>

#include "tests/sim/sim_loans.h"
#include "tests/sim/sim_process.h"
#include "tests/sim/sim_streams.h"

namespace stp::sim {

class Workload {
 public:
  Workload(SimContext context, SimProcess& process);

  void start();
  void ready(SocketId socket, std::uint32_t bits);
  void process_gone();
  // Listens from now on. Not scripted it does so by itself.
  void listen();
  // Scripted: a stream to that host.
  void talk(const std::string& host);
  // No new work; what is open comes to its end soon.
  void finish();
  // After the quiet stretch: a small exchange with `to`, which must succeed.
  void probe(SimProcess& to);

  bool idle() const;
  // What is still open, for people; empty when nothing is.
  std::string describe_open() const;
  std::size_t probes_open() const { return probes_open_; }
  struct Counters {
    std::uint64_t connects = 0, accepted = 0, refused = 0, failed = 0, ended_well = 0, sent = 0, received = 0, drained = 0;
  };
  const Counters& counters() const { return counters_; }

 private:
  enum class Kind : std::uint8_t { kListener, kConnecting, kConnector, kAcceptor, kClosing };
  struct Conn {
    SocketId socket = 0;
    Kind kind = Kind::kConnector;
    std::uint64_t stream = 0;
    bool probe = false;
    bool knows_stream = true;           // an acceptor learns it from the first bytes
    std::array<std::byte, kStreamHeader> header{};
    std::size_t header_got = 0;
    std::int64_t to_send = 0;
    std::int64_t abort_at = -1;         // abort when that much was sent or received, -1 never
    std::uint32_t reader = 0;           // how it reads: 0 at once, 1 slowly, 2 stops for a while
    bool can_read = false, can_write = false, connect_over = false;
    bool write_over = false, read_over = false;
    bool act_scheduled = false;
    bool half_first = false;            // shuts its writing before it closes
    bool waits_for_accept = false;
    std::shared_ptr<SimLender> lender = nullptr;    // of what it sends, if it lends that
    std::shared_ptr<SimLanding> landing = nullptr;  // of what it receives, if that is to land
    bool to_hostile = false;            // connected to a hostile host, which may well answer, and send whatever it likes
  };

  bool i_connected(const Conn& c) const { return c.kind == Kind::kConnector || c.kind == Kind::kConnecting; }
  Stream* stream_of(const Conn& c);
  void next_connect();
  void connect_somewhere();
  bool connect(const Address& to, bool is_probe);
  void listen_everywhere();
  void schedule(Conn& c, Nanos delay);
  void act(SocketId socket);
  void act_listener(Conn& c);
  void act_connecting(Conn& c);
  void act_stream(Conn& c);
  bool do_write(Conn& c);
  SocketResult<std::size_t> send_some(Conn& c, const Stream* s, std::int64_t most);
  bool do_read(Conn& c);
  bool is_hostile(std::string_view host) const;
  bool check_bytes(Conn& c, ConstBytes got);
  bool learn_stream(Conn& c);
  void end_writing(Conn& c);
  void at_eof(Conn& c);
  void give_up(SocketId socket, Flow& mine);
  void stop_reading(Conn& c, Stream& s);
  void close(Conn& c, bool abort);
  void failed(Conn& c, const SocketError& error, const char* where);
  void give_shape(Conn& c);
  void closed_one(SocketId socket);
  std::string describe_socket(SocketId socket) const;

  SimContext context_;
  SimProcess& process_;
  SimRandom random_;
  std::map<SocketId, Conn> conns_;
  struct Closing {
    std::uint64_t stream = 0;
    bool connected = false;  // I made it
    bool aborted = false;
    bool drained = false;    // all was acknowledged
    bool lost = false;       // or not all
  };
  std::map<SocketId, Closing> closing_;
  bool finishing_ = false;
  bool gone_ = false;
  bool probing_ = false;
  std::size_t probes_open_ = 0;
  Counters counters_;
};

}  // namespace stp::sim
