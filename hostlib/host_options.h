// What a tool tells the embedded host of its process before the first STP call, in place of the environment:
// --stg, --host, and where to show what a long join waits for. For C++ programs that link the library statically;
// not exported from libstp.so. Thread-safe; what is set after joining has no effect until the next join.
#pragma once

#include <functional>
#include <string>
#include <string_view>

namespace stp::host {

// Empty strings leave what the environment says (STP_STG, STP_HOST).
void set_storage_path(std::string path);
void set_host_name(std::string name);
// The agent's socket (STP_AGENT, else the default one); "none" embeds the host whatever the environment says.
void set_agent_path(std::string path);

// Served by this agent or not at all: never embedded, and nothing of the environment counts. `stg`: path or name of the storage system where
// the agent has several; empty: its first.
void set_agent_only(std::string path, std::string stg);

// Called from the joining thread, with a sentence without a final stop, once joining has taken a second and whenever what
// it waits for changes. Called with an empty text when a join that was spoken of has ended. Must not call STP functions.
void set_join_progress(std::function<void(std::string_view)> show);

struct HostSettings {
  std::string path;  // of the data storage system; empty: none was given
  std::string name;  // host name, folded, not yet checked
  std::string wanted_name;   // the same where it was given, else empty: any name that an agent has
  std::string agent;         // of the agent's socket; empty: no agent is wanted
  bool agent_named = false;  // by STP_AGENT or a tool, not by default
  bool agent_only = false;   // never embedded
  std::function<void(std::string_view)> progress;
};
// What the setters say, else the environment, else (for the name) the machine's short host name.
HostSettings host_settings();

// From now on the calling thread's STP calls are those of another host than the process': of the one that the agent of that socket is in that storage.
// For a process that is a host of several storage systems. Once in a thread; its sockets are nobody else's, and it must not fork.
void be_host_of_agent(const std::string& agent_path, const std::string& storage_path, const std::string& host);

// The instance name under which this process joined ("alpha~2"), and the STG's name; empty before it has.
std::string joined_host_name();
std::string joined_stg_name();

// Joins now, as the first STPsocket would. 0, or -1 with errno set (STPstrerror(-1) has the words).
int join_now();

}  // namespace stp::host
