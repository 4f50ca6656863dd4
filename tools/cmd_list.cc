// `stp hosts`, `stp sockets`, `stp ports`: what is on the storage, read from any host, without joining.

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <chrono>
#include <cmath>
#include <memory>
#include <nlohmann/json.hpp>
#include <thread>

#include "hostlib/agent_client.h"
#include "stp/inspect.h"
#include "stp/names.h"
#include "stp/system.h"
#include "tools/agent_socket_table.h"
#include "tools/commands.h"
#include "tools/open_storage.h"
#include "tools/table.h"

namespace stp::tools {
namespace {

using nlohmann::ordered_json;

struct ListOptions {
  std::string path, host;
  bool json = false, no_header = false, all = false;
  bool processes = false;
  double rate_s = 0;
  std::string agent = host::kDefaultAgentPath;
};

struct Opened {
  std::shared_ptr<Storage> storage;
  std::vector<HostReport> hosts;
};

Result<Opened> open_and_observe(const Context& context, const ListOptions& o) {
  auto storage = open_storage(context, o.path, Storage::Access::kReadOnly);
  if (!storage) return std::unexpected(storage.error());
  if ((*storage)->superblock_is_copy())
    fmt::print(stderr, "warning: the superblock of {} is damaged, its copy serves; `stp repair {}` restores it\n", (*storage)->path(), (*storage)->path());
  auto hosts = observe_hosts(**storage, WatchClock::real());
  if (!hosts) return std::unexpected(hosts.error());
  return Opened{*storage, std::move(*hosts)};
}

ordered_json json_head(const Superblock& s) { return {{"version", 1}, {"stg", s.stg}, {"uuid", to_string(s.uuid)}}; }

void print_json(const ordered_json& json) { fmt::print("{}\n", json.dump(2)); }

std::vector<std::string> titles(const std::vector<HostReport>& hosts, const std::vector<Slot>& slots) {
  std::vector<std::string> out;
  for (const Slot slot : slots) out.push_back(hosts[slot].title());
  return out;
}

std::string age_text(double seconds) {
  if (seconds < 60) return fmt::format("{:.1f}s", seconds);
  if (seconds < 3600) return fmt::format("{:.0f}m{:02.0f}s", std::floor(seconds / 60), std::fmod(seconds, 60));
  if (seconds < 86400) return fmt::format("{:.0f}h{:02.0f}m", std::floor(seconds / 3600), std::floor(std::fmod(seconds, 3600) / 60));
  return fmt::format("{:.0f}d{:02.0f}h", std::floor(seconds / 86400), std::floor(std::fmod(seconds, 86400) / 3600));
}

std::string notes_of(const HostReport& h, const std::vector<HostReport>& hosts, const Timing& t) {
  std::vector<std::string> notes;
  if (h.state == HostState::kUnreadable) notes.push_back(fmt::format("{}; stp evict slot:{} frees it", to_string(h.fault), h.slot));
  if (h.state == HostState::kSilent)
    notes.push_back(fmt::format("no beat for {:.1f} s, dead after {:.1f} s", static_cast<double>(h.beat_age) / 1e9, t.dead_ms / 1000.0));
  if (h.state == HostState::kLeft) notes.push_back("the slot is kept for it");
  if (h.state == HostState::kDead) notes.push_back(fmt::format("comes back under its name, or stp evict {} frees the slot", h.title()));
  if (!h.does_not_see.empty())
    notes.push_back(fmt::format("does not see: {} (not on the same disk, or just joined)", fmt::join(titles(hosts, h.does_not_see), ", ")));
  if (!h.refuses.empty()) notes.push_back(fmt::format("called dead: {}", fmt::join(titles(hosts, h.refuses), ", ")));
  return fmt::format("{}", fmt::join(notes, "; "));
}

std::string versions_text(const Lease& l) {
  return l.lowest_version == l.highest_version ? fmt::format("{}", l.highest_version) : fmt::format("{}-{}", l.lowest_version, l.highest_version);
}

ordered_json host_json(const HostReport& h, const std::vector<HostReport>& hosts) {
  ordered_json j{{"name", h.lease.name}, {"slot", h.slot}, {"state", to_string(h.state)}};
  if (h.state == HostState::kUnreadable) {
    j["fault"] = to_string(h.fault);
    return j;
  }
  j["incarnation"] = h.lease.owner.incarnation;
  j["beat"] = h.lease.beat;
  j["beat_seen"] = h.beat_seen;
  j["beat_age_s"] = static_cast<double>(h.beat_age) / 1e9;
  j["pid"] = h.lease.pid;
  j["boot_id"] = to_string(h.lease.boot_id);
  j["lowest_version"] = h.lease.lowest_version;
  j["highest_version"] = h.lease.highest_version;
  j["sees"] = titles(hosts, h.sees);
  j["does_not_see"] = titles(hosts, h.does_not_see);
  j["called_dead"] = titles(hosts, h.refuses);
  return j;
}

int run_hosts(const CLI::App& command, const Context& context, const ListOptions& o) {
  auto opened = open_and_observe(context, o);
  if (!opened) return complain(command, opened.error());
  const Superblock& s = opened->storage->superblock();
  ordered_json rows = ordered_json::array();
  Table table({"HOST", ">SLOT", "STATE", ">INCARNATION", ">BEAT", ">PID", "BOOT", "VERSION", "SEES", "NOTES"});
  for (const HostReport& h : opened->hosts) {
    if (h.state == HostState::kFree && !o.all) continue;
    if (!o.host.empty() && base_name(h.lease.name) != o.host && h.lease.name != o.host) continue;
    rows.push_back(host_json(h, opened->hosts));
    const bool held = h.held() && h.state != HostState::kUnreadable;
    table.add({h.lease.name.empty() ? "-" : h.lease.name, fmt::format("{}", h.slot), std::string(to_string(h.state)),
               h.fault == BlockFault::kNone ? fmt::format("{}", h.lease.owner.incarnation) : "-",
               h.beat_seen ? age_text(static_cast<double>(h.beat_age) / 1e9) : "-", held ? fmt::format("{}", h.lease.pid) : "-",
               held ? to_string(h.lease.boot_id).substr(0, 8) : "-", held ? versions_text(h.lease) : "-",
               h.sees.empty() ? "-" : fmt::format("{}", fmt::join(titles(opened->hosts, h.sees), ",")), notes_of(h, opened->hosts, s.timing)});
  }
  if (o.json) {
    ordered_json json = json_head(s);
    json["slots"] = s.geometry.hosts;
    json["hosts"] = rows;
    print_json(json);
  } else {
    table.print(!o.no_header);
  }
  return kOk;
}

std::string peer_text(const Scb& scb) {
  if (scb.peer_slot == kNoSlot && scb.peer_name.empty()) return "*:*";
  return fmt::format("{}:{}", scb.peer_name.empty() ? fmt::format("slot{}", scb.peer_slot) : scb.peer_name, scb.peer_port);
}

ordered_json socket_json(const SocketRow& row, double age_s) {
  const Scb& s = row.scb;
  ordered_json j{{"host", row.host},       {"slot", row.slot},         {"host_state", to_string(row.host_state)}, {"scb", s.index},
                 {"state", to_string(s.state)}, {"local_port", s.local_port}, {"peer_host", s.peer_name},              {"peer_port", s.peer_port}};
  j["initiator"] = s.initiator;
  j["session"] = s.session;
  j["sent_bytes"] = s.sent;
  j["received_bytes"] = s.received;
  j["pid"] = s.pid;
  j["made_ms"] = s.made_ms;
  j["age_s"] = age_s;
  return j;
}

// What only the agent knows.
int run_agent_sockets(const CLI::App& command, const Context& context, const ListOptions& o) {
  auto client = host::AgentClient::connect(o.agent, context.stg);
  if (!client) return complain(command, client.error());
  auto rows = client->sockets();
  SocketRates rates;
  if (rows && o.rate_s > 0) {
    const auto began = std::chrono::steady_clock::now();
    std::this_thread::sleep_for(std::chrono::duration<double>(o.rate_s));
    auto now = client->sockets();
    if (now) rates = rates_between(*rows, *now, std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count());
    rows = std::move(now);
  }
  if (!rows) return complain(command, rows.error());
  const SocketRates* const shown = o.rate_s > 0 ? &rates : nullptr;
  if (o.json)
    print_json({{"version", 1}, {"stg", client->stg()}, {"sockets", agent_sockets_json(*rows, shown, client->host())}});
  else
    agent_socket_table(*rows, shown, client->host()).print(!o.no_header);
  return kOk;
}

int run_sockets(const CLI::App& command, const Context& context, const ListOptions& o) {
  if (o.processes) return run_agent_sockets(command, context, o);
  auto opened = open_and_observe(context, o);
  if (!opened) return complain(command, opened.error());
  auto list = list_sockets(*opened->storage, opened->hosts, {.host = o.host, .dead_too = o.all});
  if (!list) return complain(command, list.error());
  const std::uint64_t now_ms = wall_clock_ms();
  ordered_json rows = ordered_json::array();
  Table table({"HOST", ">SCB", "STATE", "LOCAL", "PEER", ">TX", ">RX", ">PID", ">AGE"});
  for (const SocketRow& row : list->rows) {
    const Scb& s = row.scb;
    const double age = now_ms > s.made_ms ? static_cast<double>(now_ms - s.made_ms) / 1000.0 : 0;
    if (o.json) rows.push_back(socket_json(row, age));
    const std::string host = row.host_state == HostState::kAlive ? row.host : fmt::format("{} ({})", row.host, to_string(row.host_state));
    table.add({host, fmt::format("{}", s.index), std::string(to_string(s.state)),
               s.local_port == 0 ? fmt::format("{}:*", row.host) : fmt::format("{}:{}", row.host, s.local_port), peer_text(s), fmt::format("{}", s.sent),
               fmt::format("{}", s.received), fmt::format("{}", s.pid), s.made_ms == 0 ? "-" : age_text(age)});
  }
  for (const std::string& w : list->warnings) fmt::print(stderr, "stp sockets: {}\n", w);
  if (o.json) {
    ordered_json json = json_head(opened->storage->superblock());
    json["sockets"] = rows;
    print_json(json);
  } else {
    table.print(!o.no_header);
  }
  return kOk;
}

int run_ports(const CLI::App& command, const Context& context, const ListOptions& o) {
  auto opened = open_and_observe(context, o);
  if (!opened) return complain(command, opened.error());
  auto list = list_ports(*opened->storage, opened->hosts, {.host = o.host, .dead_too = o.all});
  if (!list) return complain(command, list.error());
  ordered_json rows = ordered_json::array();
  Table table({"HOST", ">PORT", "STATE", ">SCB"});
  for (const PortRow& row : list->rows) {
    if (o.json)
      rows.push_back({{"host", row.host}, {"slot", row.slot}, {"host_state", to_string(row.host_state)}, {"port", row.port}, {"state", to_string(row.state)},
                      {"scb", row.scb}});
    const std::string host = row.host_state == HostState::kAlive ? row.host : fmt::format("{} ({})", row.host, to_string(row.host_state));
    table.add({host, fmt::format("{}", row.port), std::string(to_string(row.state)), fmt::format("{}", row.scb)});
  }
  for (const std::string& w : list->warnings) fmt::print(stderr, "stp ports: {}\n", w);
  if (o.json) {
    ordered_json json = json_head(opened->storage->superblock());
    json["ports"] = rows;
    print_json(json);
  } else {
    table.print(!o.no_header);
  }
  return kOk;
}

using Run = int (*)(const CLI::App&, const Context&, const ListOptions&);

std::shared_ptr<ListOptions> add_list(CLI::App& app, Context& context, const char* name, const char* what, const char* all, Run run) {
  CLI::App* command = app.add_subcommand(name, what);
  auto o = std::make_shared<ListOptions>();
  add_storage_options(*command, context, o->path);
  command->add_option("--host", o->host, "only this host")->type_name("NAME");
  command->add_flag("-a,--all", o->all, all);
  command->add_flag("--json", o->json, "print JSON (its \"version\" is 1)");
  command->add_flag("-H,--no-header", o->no_header, "no line of headings");
  command->footer("Reads the storage without joining it; a host that runs on another machine is watched for up to two beats.\n"
                  "Exit status: 0 listed, 1 the storage can not be read, 2 wrong use.");
  command->callback([command, o, &context, run] {
    o->host = fold_name(o->host);
    context.status = run(*command, context, *o);
  });
  return o;
}

void add_agent_options(CLI::App& command, ListOptions& o) {
  CLI::Option* const processes = command.add_flag("-p,--processes", o.processes, "the sockets of this host's programs as its agent knows them: queues and processes; needs no access to the storage");
  command.add_option("-r,--rate", o.rate_s, "with -p: also bytes a second, measured for so many seconds")->type_name("SECONDS")->needs(processes)->check(CLI::Range(0.05, 3600.0));
  command.add_option("--agent", o.agent, "with -p: Unix socket of the agent")->envname("STP_AGENT")->capture_default_str()->type_name("PATH");
}

}  // namespace

void add_list_commands(CLI::App& app, Context& context) {
  add_list(app, context, "hosts", "List the hosts of a storage", "free slots too", run_hosts);
  const auto sockets = add_list(app, context, "sockets", "List the sockets of all hosts", "also what dead hosts left behind", run_sockets);
  add_agent_options(*app.get_subcommand("sockets"), *sockets);
  add_list(app, context, "ports", "List the ports in use on all hosts", "also what dead hosts left behind", run_ports);
}

}  // namespace stp::tools
