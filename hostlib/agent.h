// The agent: the one process of a host that has the storage, and moves bytes for the programs of the host.
//
// One Agent serves one storage. Its thread owns the embedded host, the engine's sockets and all shadows: it answers requests, moves
// what the programs wrote into the engine and what arrived into the programs' shadows, and sleeps on the engine's medium, which also tells it of
// the programs' Unix sockets (where a medium can not, a second thread, the ear, sleeps on those and wakes the first). Two programs of one agent that talk to each
// other get the two ends of one shadow; their bytes do not come by here.
//
// Nothing that a program sends or writes is trusted: requests are checked, counters in shadows too, and a program that breaks the
// rules loses its own sockets.
#pragma once

#include <atomic>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "hostlib/agent_program.h"
#include "hostlib/agent_protocol.h"
#include "hostlib/agent_reader.h"
#include "hostlib/agent_socket.h"
#include "hostlib/agent_stats.h"
#include "hostlib/embedded_host.h"
#include "stp/system.h"

namespace stp::host {

struct AgentSettings {
  HostSettings host;
  // Of each direction of a socket. More than a core's second-level cache holds: what is still in there when the other core wants it comes
  // at less than half the speed of what has moved on to the cache that they share.
  std::uint32_t ring_bytes = 2u << 20;
  bool local_over_disk = false;  // two programs of this agent share no ring either
  std::uint32_t most_sockets_of_a_user = 16384;
  std::uint64_t most_memory_of_a_user = 4ull << 30;  // touched in rings; above it new sockets are refused
  Nanos given_for = 60 * kSecond;            // a socket that was given away and is not taken is reset after so long
  std::function<void(std::string_view)> log;  // a sentence; any thread
};

class Agent final : public EngineEvents {
 public:
  // Joins the group; waits until this host is a member.
  static Result<std::unique_ptr<Agent>> start(const AgentSettings& settings);
  // Leaves the group in good order, bounded. Programs that are still there get ECONNRESET. False: the storage did not answer in
  // time, threads may be stuck in it: then nothing may be destroyed, and the process is to end.
  bool leave();
  ~Agent() override;
  Agent(const Agent&) = delete;
  Agent& operator=(const Agent&) = delete;

  // Whether a program that says this hello is to be served here.
  bool serves(const AgentCall& hello) const;
  // Takes over a program's connection, whose hello was read. Any thread.
  void adopt(int fd, const AgentCall& hello);
  void set_limits(std::uint32_t sockets_of_a_user, std::uint64_t memory_of_a_user, Nanos given_for);
  AgentStats stats();
  const std::string& path() const { return path_; }
  const std::string& stg() const { return host_->superblock().stg; }
  std::string name() { return host_->own_name(); }
  MembershipBoard::View view() { return host_->view(); }
  const Uuid& uuid() const { return host_->superblock().uuid; }

  void on_ready(SocketId socket, std::uint32_t bits) override;

 private:
  struct Closing {
    std::uint64_t left = 0;  // bytes in the shadow that the engine did not take yet
    Nanos since = 0;
  };
  // What a user's sockets take. Memory is measured when it may matter, and not more often than once a second.
  struct UseOfUser {
    std::uint32_t sockets = 0;
    std::uint64_t memory = 0;
    Nanos measured_at = 0;
  };
  // A socket that nobody has: its program gave it away, and its taker has not come yet.
  struct Given {
    std::uint32_t giver = 0;       // serial numbers
    std::uint32_t descriptor = 0;  // the giver's
    std::uint32_t taker = 0;       // 0: any program of the giver's user
    uid_t user = 0;
    Nanos since = 0;
  };
  explicit Agent(const AgentSettings& settings);

  void run();
  void listen();           // the ear
  void hear(int timeout_ms);
  void poke();
  void take_in_new_programs();
  void hand_out_reads();
  void serve_requests(AgentProgram& program, bool is_gone);
  void answer(AgentProgram& program, const AgentCall& call);
  void send(AgentProgram& program, AgentAnswer& answer, std::span<const int> fds, ConstBytes tail);
  int greet(AgentProgram& program, const AgentCall& hello);
  void drop(AgentProgram& program);
  void take_news(AgentProgram& program);
  void work(AgentSocket& socket);
  void note(AgentSocket& socket);
  void tell(AgentSocket& socket);
  void tell_surely(AgentSocket& socket);
  void tell_on_boards(const AgentSocket& socket);
  void look_after_sockets(Nanos now);
  void give_up_stuck_closes(Nanos now);
  void give_up_untaken(Nanos now);
  void end_held(AgentSocket& socket, bool abort);
  void look_again(AgentSocket& socket);
  bool may_inherit(const AgentProgram& parent, uid_t user) const;
  void update_queued(AgentSocket& listener);
  void take_shut_reading(AgentSocket& socket);
  void stop_reading(AgentSocket& socket);
  void finish(AgentSocket& socket);
  void destroy(AgentSocket& socket);
  void close_listener(AgentSocket& listener);
  void log(std::string_view text) const {
    if (settings_.log) settings_.log(text);
  }

  SocketResult<AgentSocket*> new_socket(uid_t user, std::shared_ptr<ShadowMemory> memory, int program_side);
  // ENFILE or ENOBUFS for a user who has enough.
  SocketResult<void> has_room_for_one_more(uid_t user);
  std::uint64_t memory_of(uid_t user) const;
  void count_socket_of(uid_t user);
  void discount_socket_of(uid_t user);
  AgentSocket* find(AgentProgram& program, std::uint32_t number);
  SocketResult<void> open(AgentProgram& program, AgentAnswer& answer, std::vector<int>& fds);
  SocketResult<void> bind(AgentProgram& program, AgentSocket& socket, std::uint32_t port, AgentAnswer& answer);
  SocketResult<void> listen(AgentSocket& socket, std::uint32_t backlog, AgentAnswer& answer);
  SocketResult<void> accept(AgentProgram& program, AgentSocket& listener, AgentAnswer& answer, std::vector<int>& fds);
  SocketResult<void> connect(AgentSocket& socket, const AgentCall& call, AgentAnswer& answer);
  SocketResult<void> connect_here(AgentSocket& socket, AgentSocket& listener, bool wait_for_accept, AgentAnswer& answer);
  SocketResult<void> give(AgentProgram& program, AgentSocket& socket, const AgentCall& call);
  SocketResult<void> take(AgentProgram& program, const AgentCall& call, AgentAnswer& answer, std::vector<int>& fds);
  static void describe(const AgentSocket& socket, AgentAnswer& answer);
  void show(const AgentSocket& socket);
  std::vector<std::byte> list_sockets(const AgentProgram& asking, std::uint32_t first, AgentAnswer& answer);
  AgentSocketRow row_of(AgentSocket& socket, const AgentProgram& asking);
  void close(AgentSocket& socket, bool abort);

  AgentSettings settings_;
  std::string path_;
  std::uint64_t device_ = 0, inode_ = 0;
  std::mutex mutex_;  // the embedded host's, and over everything below
  std::unique_ptr<EmbeddedHost> host_;
  std::map<std::uint32_t, std::unique_ptr<AgentProgram>> programs_;  // by serial number, which is never used again
  std::uint32_t next_serial_ = 1;
  SystemRandom random_;
  const std::uint64_t life_ = random_.next();
  std::map<std::uint32_t, Closing> closing_;
  std::map<std::uint32_t, Given> given_;  // by the socket's number
  Nanos next_look_ = 0;
  bool left_ = false;
  std::unordered_map<std::uint32_t, std::unique_ptr<AgentSocket>> sockets_;
  std::unordered_map<SocketId, AgentSocket*> by_engine_id_;
  std::map<std::uint16_t, AgentSocket*> listeners_;
  std::map<uid_t, UseOfUser> use_of_user_;
  std::deque<std::uint32_t> dirty_;  // numbers of sockets with something to do
  std::uint32_t next_number_ = 1;
  AgentCounters counters_;
  AgentStats stats_now() const;

  // From the ear, and from whoever adopts.
  std::mutex ear_mutex_;
  std::vector<std::pair<int, AgentCall>> arriving_;
  std::set<std::uint32_t> heard_;
  std::set<std::uint32_t> hung_up_;
  std::vector<AgentReader::Done> read_;  // blocks for programs
  std::unique_ptr<AgentReader> reader_;

  int epoll_ = -1;
  int stop_bell_ = -1;
  std::atomic<bool> stopping_{false};
  std::thread worker_;
  std::thread ear_;  // the worker's, where it can not wait for the epoll itself: one more between a program and its answer
};

}  // namespace stp::host
