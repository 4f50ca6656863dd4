// What `stp forward` serves: endpoints that come and go, and the connections that they carry between the kernel's sockets and STP's.
// In an EventLoop's thread, and nothing in it waits.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "hostlib/event_loop.h"
#include "hostlib/stp_dial.h"
#include "hostlib/stp_socket.h"
#include "hostlib/unique_fd.h"
#include "stp/error.h"
#include "tools/forward_spec.h"
#include "tools/kernel_dial.h"
#include "tools/kernel_listener.h"
#include "tools/name_resolver.h"
#include "tools/relay.h"
#include "tools/socks5_door.h"

namespace stp::forward {

class Forwarder {
 public:
  struct Limits {
    std::size_t connections = 2048;  // more wait in the listeners' queues
    std::size_t endpoints = 1024;
  };
  struct Row {
    ForwardSpec spec;
    bool listening = true;      // false: removed, and its last connections go on
    std::size_t open = 0;       // connections, those under way included
    std::uint64_t total = 0;    // so many were accepted
    std::uint64_t failed = 0;   // of these never reached their destination
    std::uint64_t broken = 0;   // of these were reset by one side, or lost, in the middle
    std::uint64_t to_stp = 0, from_stp = 0;  // bytes
  };
  using Say = std::function<void(const std::string&)>;  // what became of a connection, for the operator

  Forwarder(EventLoop& loop, Limits limits, Say say);
  ~Forwarder();  // resets what is under way
  Forwarder(const Forwarder&) = delete;
  Forwarder& operator=(const Forwarder&) = delete;

  // Listens. The error's words name the endpoint.
  Result<void> add(const ForwardSpec& spec);
  // Listens no more; connections go on.
  Result<void> remove(const ForwardSpec& spec);
  std::vector<Row> rows() const;

 private:
  using Id = std::uint64_t;  // never used again: what comes late finds nobody
  struct Endpoint {
    Row row;
    std::optional<KernelListener> kernel;
    StpSocket stp;
    int watched = -1;
    EventLoop::Clock::time_point quiet_until{};  // no further complaint about accepting before
    EventLoop::Clock::time_point while_until{};
    int lines = 0;  // of connections that failed in this while, written or not
  };
  // On its way from top to bottom; what it does not need any more is empty.
  struct Connection {
    Id endpoint = 0;
    UniqueFd kernel;
    StpSocket stp;
    std::shared_ptr<Socks5Door> door;
    std::shared_ptr<StpDial> stp_dial;
    std::shared_ptr<KernelDial> kernel_dial;
    std::shared_ptr<Relay> relay;
  };

  std::map<Id, Endpoint>::iterator find_listening(const ForwardSpec& spec);
  Result<void> listen_on_kernel(Endpoint& endpoint);
  Result<void> listen_on_stp(Endpoint& endpoint);
  void accept_some(Id id);
  int accept_one(Endpoint& endpoint);
  void rest(Id id, const std::string& why);
  void begin_from_kernel(Id endpoint, UniqueFd client);
  void begin_from_stp(Id endpoint, StpSocket client);
  void dial_stp(Id id, const StpAddress& to);
  void asked(Id id, Result<StpAddress> destination);
  void stp_dialled(Id id, Result<StpSocket> socket);
  void kernel_dialled(Id id, Result<UniqueFd> fd);
  void carry(Id id, UniqueFd kernel, StpSocket stp);
  void failed(Id id, const std::string& why);
  void over(Id id);
  void ended(Id id, const Relay::Totals& totals, bool in_good_order);
  Connection& connection(Id id) { return connections_.at(id); }
  Endpoint& endpoint_of(Id connection_id) { return endpoints_.at(connections_.at(connection_id).endpoint); }

  EventLoop& loop_;
  const Limits limits_;
  const Say say_;
  NameResolver resolver_;
  Id next_id_ = 1;
  std::map<Id, Endpoint> endpoints_;
  std::map<Id, Connection> connections_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);  // for timers that outlive this
};

}  // namespace stp::forward
