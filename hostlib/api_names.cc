// STPgethostbyname, STPgethostname, STPgetsockname, STPgetpeername.
#include <cerrno>
#include <string>
#include <vector>

#include "hostlib/address.h"
#include "hostlib/call.h"
#include "hostlib/host_options.h"
#include "hostlib/own_address.h"
#include "hostlib/stp.h"
#include "hostlib/words.h"

namespace stp::host {
namespace {

// The calling thread's answer, as netdb wants it laid out.
struct HostAnswer {
  std::string name;
  std::vector<std::string> alias_names;
  std::vector<char*> aliases;
  struct sockaddr_stp address = {};
  char* addresses[2] = {nullptr, nullptr};
  struct hostent entry = {};
};

struct hostent* answer_with(std::string name, std::vector<std::string> aliases, const std::string& stg) {
  static thread_local HostAnswer answer;
  answer.name = std::move(name);
  answer.alias_names = std::move(aliases);
  answer.aliases.clear();
  for (std::string& alias : answer.alias_names) answer.aliases.push_back(alias.data());
  answer.aliases.push_back(nullptr);
  answer.address = sockaddr_from(Address{.host = answer.name, .stg = stg, .port = 0});
  answer.addresses[0] = reinterpret_cast<char*>(&answer.address);
  answer.entry.h_name = answer.name.data();
  answer.entry.h_aliases = answer.aliases.data();
  answer.entry.h_addrtype = AF_STP;
  answer.entry.h_length = sizeof answer.address;
  answer.entry.h_addr_list = answer.addresses;
  return &answer.entry;
}

struct hostent* not_found(int why) {
  h_errno = why;
  return nullptr;
}

struct hostent* look_up(Call& call, std::string_view text) {
  std::string name = fold_name(text);
  auto joined = call.runtime().join(call.lock());
  if (!joined) {
    (void)call.fail(joined.error().code, Reason::kNotJoined, "look up " + name + ": " + joined.error().text);
    return not_found(TRY_AGAIN);
  }
  Host& host = **joined;
  const std::string& stg = host.superblock().stg;
  if (const auto dot = name.find('.'); dot != std::string::npos) {
    if (name.substr(dot + 1) != stg) {
      (void)call.fail({ENETUNREACH, Reason::kOtherStg});
      return not_found(HOST_NOT_FOUND);
    }
    name.resize(dot);
  }
  if (is_own_name(name, host)) return answer_with(host.own_name(), {}, stg);
  std::vector<std::string> instances;
  bool known = false;
  for (const Peer& peer : host.view().peers) {
    if (!names_host(name, peer.name)) continue;
    known = true;
    if (peer.name != name) instances.push_back(peer.name);
  }
  if (known) return answer_with(std::move(name), std::move(instances), stg);
  const Address unknown{.host = name, .stg = {}, .port = 0};
  (void)call.fail({EHOSTUNREACH, Reason::kUnknownHost}, &unknown);
  return not_found(HOST_NOT_FOUND);
}

}  // namespace

std::string joined_host_name() {
  Call call("ask");
  return call.good() && call.runtime().host() != nullptr ? call.host().own_name() : std::string();
}

std::string joined_stg_name() {
  Call call("ask");
  return call.good() && call.runtime().host() != nullptr ? call.host().superblock().stg : std::string();
}

int join_now() {
  Call call("join");
  if (!call.good()) return -1;
  auto joined = call.runtime().join(call.lock());
  return joined ? 0 : call.fail(joined.error().code, Reason::kNotJoined, "join: " + joined.error().text);
}

}  // namespace stp::host

using stp::host::Call;

struct hostent* STPgethostbyname(const char* name) {
  Call call("look up");
  if (!call.good()) return stp::host::not_found(NO_RECOVERY);
  if (name == nullptr) return stp::host::not_found(HOST_NOT_FOUND);
  return stp::host::look_up(call, name);
}

int STPgetsockname(int s, struct sockaddr* address, socklen_t* length) {
  Call call("name", s, Call::Check::kTable);
  if (!call.good()) return -1;
  const auto info = call.sockets().info(call.socket().id);
  if (!info) return call.fail(info.error());
  const int code = stp::host::store_address(stp::host::local_address(*info, call.host()), address, length);
  return code != 0 ? call.fail(code) : 0;
}

int STPgethostname(int s, struct sockaddr* address, socklen_t* length) {
  Call call("name", s, Call::Check::kTable);
  if (!call.good()) return -1;
  auto info = call.sockets().info(call.socket().id);
  if (info && info->local.port == 0) {
    const auto port = call.sockets().bind(call.socket().id, 0);
    if (!port) return call.fail(port.error());
    call.socket().bound_port = *port;
    call.waiting().step(stp::boottime_now());
    info = call.sockets().info(call.socket().id);
  }
  if (!info) return call.fail(info.error());
  const int code = stp::host::store_address(stp::host::local_address(*info, call.host()), address, length);
  return code != 0 ? call.fail(code) : 0;
}

int STPgetpeername(int s, struct sockaddr* address, socklen_t* length) {
  Call call("name the peer of", s, Call::Check::kTable);
  if (!call.good()) return -1;
  const auto info = call.sockets().info(call.socket().id);
  if (!info) return call.fail(info.error());
  if (info->peer.host.empty() || info->state == stp::ScbState::kConnecting || info->state == stp::ScbState::kClosed) return call.fail(ENOTCONN);
  const int code = stp::host::store_address(stp::host::with_stg(info->peer, call.host()), address, length);
  return code != 0 ? call.fail(code) : 0;
}
