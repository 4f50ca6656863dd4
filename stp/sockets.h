// All sockets of this host: the BSD calls (sockets.cc), and the session protocol behind them (sessions.cc).
//
// Knows nothing of gates, rings and leases: it gives messages for a peer when asked, takes messages from it, and hears
// what was acknowledged and which peer is gone.
#pragma once

#include <deque>
#include <map>
#include <unordered_map>

#include "stp/bulk_scheduler.h"
#include "stp/port_file.h"
#include "stp/socket.h"
#include "stp/socket_table.h"

namespace stp {

// What sockets ask of the conduits.
class Peers {
 public:
  virtual ~Peers() = default;
  virtual bool reachable(Slot peer) const = 0;      // a conduit is open
  virtual const Identity& identity(Slot peer) const = 0;
  virtual const std::string& name(Slot peer) const = 0;
  virtual void answer(Slot peer, SessionId session, MessageBody body) = 0;
  virtual void acknowledge_within(Slot peer, Nanos span) = 0;
  virtual void await_ack(Slot peer, std::uint64_t sequence) = 0;
  virtual void warm(Slot peer) = 0;
  // Living instances of `host` in the order in which to ask them; the error when there is none.
  virtual SocketResult<std::vector<Slot>> find_host(const std::string& host) const = 0;
  virtual const std::string& my_name() const = 0;
};

class Sockets {
 public:
  Sockets(Core& core, Peers& peers, EngineEvents& events);

  // -- The BSD calls: see engine.h
  SocketResult<SocketId> open();
  SocketResult<std::uint16_t> bind(SocketId id, std::uint16_t port);
  SocketResult<void> listen(SocketId id, std::uint32_t backlog);
  SocketResult<SocketId> accept(SocketId id);
  SocketResult<void> connect(SocketId id, const Address& peer, bool wait_for_accept);
  SocketResult<std::size_t> send(SocketId id, ConstBytes data, const Loan* loan = nullptr);  // with one: lent
  std::uint64_t lent(SocketId id) const;
  bool waits_in_line(SocketId id);
  void land_in(SocketId id, std::shared_ptr<Landing> landing);
  SocketResult<std::size_t> receive(SocketId id, Bytes into, bool peek);
  SocketResult<void> shut(SocketId id, bool read, bool write);
  void close(SocketId id, bool abort);
  void stop_reading(SocketId id, bool left_unread);
  bool closing(SocketId id) const;
  Address peer(SocketId id) const;
  bool connect_ended(SocketId id) const;
  SocketResult<SocketInfo> info(SocketId id) const;
  SocketResult<std::uint32_t> ready(SocketId id);
  SocketError take_error(SocketId id);
  void renew(SocketId id);
  void set_send_buffer(SocketId id, std::uint32_t bytes);
  SocketResult<SocketId> open_to_show();
  void show(SocketId id, const LocalConversation& conversation);
  void set_receive_window(SocketId id, std::uint32_t bytes);

  // -- The conduits' side
  void on_message(Slot peer, const Message& message);
  void on_acked(Slot peer, std::uint64_t sequence);
  bool has_messages(Slot peer) const { return !talkers_[peer].empty(); }
  bool has_urgent_messages(Slot peer) const;
  void fill(Slot peer, PacketBuilder& packet, std::uint64_t sequence);
  void on_peer_up(Slot peer);
  void on_peer_down(Slot peer, Reason reason);
  // This life is over: every session ends with `reason`; listeners stay.
  void end_life(Reason reason);
  void begin_life();

  // -- The engine's side
  void work();  // bulk data, tables, sockets to forget
  Nanos next_deadline() const;
  bool streaming() const { return !bulk_.idle(); }
  bool extents_in_flight() const { return bulk_.busy(); }
  // Nothing accepted is unacknowledged, nothing is waiting to be said.
  bool drained() const;
  void abort_all();
  std::uint64_t extents_held() const { return cache_.used(); }
  std::uint64_t send_memory_bytes() const { return send_budget_.used(); }
  std::uint64_t receive_memory_bytes() const { return receive_budget_.used(); }

 private:
  using SessionKey = std::pair<Slot, SessionId>;

  // sockets.cc
  Socket* find(SocketId id) const;
  void destroy(Socket& socket);
  void forget_dead();
  void touch(Socket& socket);
  void tell_ready(Socket& socket, bool more_data);
  std::uint32_t ready_bits(const Socket& socket) const;
  void write_scb(Socket& socket, bool now);
  void note_no_room(Socket& socket);
  void share_memory();
  ScbState scb_state(const Socket& socket) const;
  SocketResult<void> take_port(Socket& socket, std::uint16_t port);

  // sessions.cc
  bool socket_has_messages(const Socket& socket) const;
  bool socket_has_urgent_messages(const Socket& socket) const;
  static bool stands_in_line(const Socket& socket);
  void emit(Socket& socket, PacketBuilder& packet, std::uint64_t sequence);
  void note_talker(Socket& socket);
  void begin_session(Socket& socket, Slot peer, SessionId session);
  void open_next_instance(Socket& socket);
  void arm_connect_timeout(SocketId id, std::uint64_t counter);
  void arm_close_timeout(SocketId id, std::uint64_t acked_before);
  Nanos patience() const;
  void forget_session(const Socket& socket);
  void over(Socket& socket, int code, Reason reason);                      // ends a session on this side
  void reset(Socket& socket, int code, Reason reason, Reason tell_peer);  // and tells the peer
  void drop_the_rest(Socket& socket);
  void tell_unread(Socket& socket);
  void finish_closed(Socket& socket);
  void on_open(Slot peer, SessionId id, const OpenMessage& m);
  void on_open_ack(Socket& socket, const OpenAckMessage& m);
  void on_refuse(Socket& socket, const RefuseMessage& m);
  void on_reset(Socket& socket, const ResetMessage& m);
  void on_stream_message(Socket& socket, const Message& message);
  void on_unknown_session(Slot peer, const Message& message);
  void on_stream_changed(SocketId id);

  Core& core_;
  Peers& peers_;
  EngineEvents& events_;
  SocketTable table_;
  PortFile ports_;
  CacheRegion cache_;
  BulkScheduler bulk_;
  MemoryBudget receive_budget_;
  MemoryBudget send_budget_;
  std::unordered_map<SocketId, std::unique_ptr<Socket>> sockets_;
  std::map<SessionKey, SocketId> sessions_;
  std::map<std::uint16_t, SocketId> listeners_;
  std::vector<std::deque<SocketId>> talkers_;  // by peer: sockets with something to say
  struct Emitted {
    std::uint64_t sequence = 0;
    SocketId socket = 0;
  };
  std::vector<std::deque<Emitted>> emitted_;  // by peer: whom an acknowledgement concerns
  std::vector<SocketId> dead_;
  std::vector<SocketId> roomless_;  // would send; told again when memory may have come free that is not theirs
  Nanos next_sharing_ = 0;
  SocketId next_id_ = 1;
  std::uint64_t next_session_ = 1;
};

}  // namespace stp
