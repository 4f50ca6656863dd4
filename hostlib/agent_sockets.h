// The socket calls of a program that an agent serves. Bytes go through shadows, everything else is asked of the agent.
#pragma once

#include <algorithm>
#include <memory>
#include <unordered_map>
#include <vector>

#include "hostlib/agent_socket_entry.h"
#include "hostlib/client_id.h"
#include "stp/socket_calls.h"

namespace stp::host {

class AgentSockets final : public SocketCalls {
 public:
  explicit AgentSockets(std::shared_ptr<AgentLink> link) : link_(std::move(link)) {}

  // New sockets are made through this one from now on.
  void set_link(std::shared_ptr<AgentLink> link) { link_ = std::move(link); }
  std::shared_ptr<AgentSocketEntry> find(SocketId id) const;
  SocketId id_of(const AgentLink& link, std::uint32_t index) const;
  // The agent behind `link` is gone: its sockets are over. Calls lost(id) for each.
  template <class Lost>
  void lose(const AgentLink& link, Lost lost) {
    for (const auto& [id, entry] : entries_) {
      if (entry->link.get() != &link) continue;
      if (entry->over.code == 0) entry->over = {ECONNRESET, Reason::kAgentGone};
      entry->forget_told();
      ShadowEnd::wake(entry->end.mine());
      lost(id);
    }
  }
  // Registers the listeners that a lost agent had with the new one, under their ports. All that may have news.
  std::vector<SocketId> listen_again(const std::shared_ptr<AgentLink>& link);
  bool any_closing() const;
  // There are news of it.
  void note_news(SocketId id) {
    if (const auto it = entries_.find(id); it != entries_.end()) it->second->forget_told();
  }
  // What ready() said before is not to be gone by any more, told or not: from time to time, lest a word that was lost be waited for for ever.
  void doubt() { time_ = std::max(time_ + 1, 1u); }

  // -- Several processes
  SocketResult<void> give(SocketId socket, int descriptor, const ClientId& taker);
  SocketResult<SocketId> take(const ClientId& giver, int descriptor);
  // Before a fork: all sockets of the link are to be used in turn with the child. False: there are none.
  bool share();
  // In a child that got none of them: they are not to be touched.
  void leave_behind();
  // In the child: they are asked for through its own link from now on.
  void move_to(const std::shared_ptr<AgentLink>& heir);
  void forget(SocketId id);

  bool wants_time() const override { return false; }
  SocketResult<SocketId> open(Nanos now) override;
  SocketResult<std::uint16_t> bind(SocketId socket, std::uint16_t port) override;
  SocketResult<void> listen(SocketId socket, std::uint32_t backlog) override;
  SocketResult<SocketId> accept(SocketId listener, Nanos now) override;
  SocketResult<void> connect(SocketId socket, const Address& peer, bool wait_for_accept, Nanos now) override;
  SocketResult<std::size_t> send(SocketId socket, ConstBytes data, Nanos now) override;
  SocketResult<std::size_t> receive(SocketId socket, Bytes into, bool peek, Nanos now) override;
  SocketResult<std::size_t> send_in_place(SocketId socket, std::size_t most, const Fill& fill) override;
  SocketResult<std::size_t> receive_in_place(SocketId socket, std::size_t most, const Take& take) override;
  SocketResult<void> shut(SocketId socket, bool read, bool write, Nanos now) override;
  void close(SocketId socket, bool abort, Nanos now) override;
  bool closing(SocketId socket) const override;
  SocketResult<SocketInfo> info(SocketId socket) const override;
  Address peer(SocketId socket) const override;
  bool connect_ended(SocketId socket) const override;
  SocketResult<std::uint32_t> ready(SocketId socket) override;
  SocketResult<std::uint32_t> ready_at_a_glance(SocketId socket) override;
  SocketError take_error(SocketId socket) override;
  void renew(SocketId socket) override;
  void set_send_buffer(SocketId socket, std::uint32_t bytes) override { set_buffer(socket, bytes, true); }
  void set_receive_window(SocketId socket, std::uint32_t bytes) override { set_buffer(socket, bytes, false); }
  // Of the whole agent, and not for its programs to set.
  void set_inline_max(std::uint32_t) override {}
  void set_poll_max(Nanos) override {}

 private:
  using Entry = AgentSocketEntry;
  std::shared_ptr<Entry> find_fresh(SocketId id) const;
  Entry* find_again(SocketId id);
  bool still_holds(const Entry& entry) const { return entry.told_in == time_ && !entry.link->board().to_program.has(entry.index); }
  SocketResult<std::shared_ptr<Entry>> adopt(AgentLink::Reply reply, std::shared_ptr<AgentLink> link, bool taken = false);
  // `put` puts bytes into the ring, `get` takes some out of it; nothing: there is no room, or nothing.
  template <class Put>
  SocketResult<std::size_t> send_by(SocketId id, std::size_t wanted, Put put);
  template <class Get>
  SocketResult<std::size_t> receive_by(SocketId id, std::size_t wanted, bool peek, Get get);
  void tell_other(const Entry& entry) const;
  static bool gathers(Entry& entry, std::size_t wanted);
  static void note_received(Entry& entry, std::size_t bytes);
  void set_buffer(SocketId socket, std::uint32_t bytes, bool send);

  std::shared_ptr<AgentLink> link_;
  SocketId next_id_ = 1;
  std::unordered_map<SocketId, std::shared_ptr<Entry>> entries_;
  Entry* last_ = nullptr;  // that was sent on or received from: most calls are for the same again
  std::vector<SocketId> by_index_;  // of the present link
  const AgentLink* indexed_ = nullptr;
  std::uint32_t time_ = 1;
};

}  // namespace stp::host
