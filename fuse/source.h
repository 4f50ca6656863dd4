// Where the view gets its data: a storage that this process has open, or an agent.
#pragma once

#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "hostlib/agent_client.h"
#include "stp/lease_watch.h"
#include "stp/storage.h"

namespace stp::view {

// Blocking; called on the pool's threads, several at once.
class Source {
 public:
  virtual ~Source() = default;
  Source(const Source&) = delete;
  Source& operator=(const Source&) = delete;

  // For people: "agent \"/run/stp/agent.sock\"", "storage \"/dev/sdb\"".
  virtual const std::string& title() const = 0;
  // To be asked for anew for each look: an agent that came back has another one. ENOTCONN: no agent there.
  virtual Result<std::shared_ptr<BlockSource>> blocks() = 0;

  // What only an agent knows. nullopt: there is none, by intention.
  struct AgentFacts {
    std::string host;  // which it serves
    MembershipBoard::View view;
    host::AgentStats stats;
  };
  virtual Result<std::optional<AgentFacts>> agent() = 0;
  // Whether there can be conversations: where there is an agent.
  virtual bool talks() const = 0;

 protected:
  Source() = default;
};

// Opens the storage, so that it fails in words where there is none. Opened again by the first look, in whichever process that is (a
// mapped storage is not there in the child of a fork), and again when it was formatted anew. `path` is absolute.
Result<std::unique_ptr<Source>> make_storage_source(const std::string& path);

struct AgentSourceSettings {
  std::string path;        // of the agent's socket
  std::string stg;         // path or name of the storage system, where it has several; empty: the first
  Nanos patience = 5 * kSecond;
};
// Connects, so that it fails in words when nobody answers. Later, a dead agent is connected to again with every look.
Result<std::unique_ptr<Source>> make_agent_source(const AgentSourceSettings& settings);

}  // namespace stp::view
