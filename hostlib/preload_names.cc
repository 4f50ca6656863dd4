// Names under `stp run`: HOST.stp and HOST.STG.stp are STP hosts, and have addresses of the network; everything else is the C library's.
#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <strings.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <string>

#include "hostlib/preload_real.h"
#include "hostlib/preload_state.h"
#include "hostlib/run_address.h"
#include "hostlib/run_protocol.h"

namespace stp::run {
namespace {

bool is_stp_name(const char* name) {
  if (name == nullptr || !settings().on) return false;
  const std::size_t length = std::strlen(name);
  return length > 4 && length < sizeof(RunCall::name) && ::strcasecmp(name + length - 4, ".stp") == 0;
}

// The address as a text; nothing with an errno: ENOENT there is no such host.
std::optional<std::string> address_text(const char* name, bool v6) {
  RunCall call;
  call.what = RunRequest::kResolve;
  std::strncpy(call.name.data(), name, call.name.size() - 1);
  RunAnswer answer;
  int code = ENOENT;
  for (const RunStorage& storage : settings().storages) {
    if (storage.own_ip != 0) code = ask_run_server(storage.server, settings().user, call, answer);
    if (code != ENOENT) break;
  }
  if (code != 0) {
    say("%s: %s", name, code == ENOENT ? "no such host of STP, or no agent answers" : std::strerror(code));
    return std::nullopt;
  }
  const in_addr ip = {.s_addr = htonl(answer.ip)};
  char text[INET_ADDRSTRLEN] = {};
  (void)::inet_ntop(AF_INET, &ip, text, sizeof text);
  return (v6 ? "::ffff:" : "") + std::string(text);
}

std::optional<std::string> host_name(std::uint32_t ip) {
  RunCall call;
  call.what = RunRequest::kReverse;
  call.ip = ip;
  RunAnswer answer;
  if (ask_run_server(storage_of(ip).server, settings().user, call, answer) != 0) return std::nullopt;
  return std::string(answer.host.data());
}

}  // namespace
}  // namespace stp::run

using namespace stp::run;

extern "C" {

STP_ANSWER(int, getaddrinfo)(const char* __restrict node, const char* __restrict service, const addrinfo* __restrict hints,
                                                       addrinfo** __restrict result) {
  if (!is_stp_name(node)) return real_getaddrinfo(node, service, hints, result);
  if (hints != nullptr && (hints->ai_flags & AI_NUMERICHOST) != 0) return EAI_NONAME;
  const auto text = address_text(node, hints != nullptr && hints->ai_family == AF_INET6);
  if (!text) return EAI_NONAME;
  const int code = real_getaddrinfo(text->c_str(), service, hints, result);
  if (code != 0 || *result == nullptr || hints == nullptr || (hints->ai_flags & AI_CANONNAME) == 0) return code;
  std::free((*result)->ai_canonname);  // freeaddrinfo frees what is there
  (*result)->ai_canonname = ::strdup(node);
  return 0;
}

STP_ANSWER(int, getnameinfo)(const sockaddr* __restrict address, socklen_t length, char* __restrict host, socklen_t host_size,
                                                       char* __restrict service, socklen_t service_size, int flags) {
  const auto from = settings().on ? from_sockaddr(address, length) : std::nullopt;
  const bool wanted = from && settings().network.contains(from->ip) && host != nullptr && host_size > 0 && (flags & NI_NUMERICHOST) == 0;
  const auto name = wanted ? host_name(from->ip) : std::nullopt;
  if (!name) return real_getnameinfo(address, length, host, host_size, service, service_size, wanted ? flags | NI_NUMERICHOST : flags);
  if (name->size() >= host_size) return EAI_OVERFLOW;
  std::memcpy(host, name->c_str(), name->size() + 1);
  if (service == nullptr || service_size == 0) return 0;
  return real_getnameinfo(address, length, static_cast<char*>(nullptr), socklen_t{0}, service, service_size, flags);
}

STP_ANSWER(hostent*, gethostbyname)(const char* name) {
  if (!is_stp_name(name)) return real_gethostbyname(name);
  const auto text = address_text(name, false);
  if (text) return real_gethostbyname(text->c_str());
  h_errno = HOST_NOT_FOUND;
  return nullptr;
}

STP_ANSWER(hostent*, gethostbyname2)(const char* name, int family) {
  if (!is_stp_name(name)) return real_gethostbyname2(name, family);
  const auto text = address_text(name, family == AF_INET6);
  if (text) return real_gethostbyname2(text->c_str(), family);
  h_errno = HOST_NOT_FOUND;
  return nullptr;
}

STP_ANSWER(int, gethostbyname_r)(const char* __restrict name, hostent* __restrict into, char* __restrict buffer, size_t size,
                                                           hostent** __restrict result, int* __restrict code) {
  if (!is_stp_name(name)) return real_gethostbyname_r(name, into, buffer, size, result, code);
  const auto text = address_text(name, false);
  if (text) return real_gethostbyname_r(text->c_str(), into, buffer, size, result, code);
  *result = nullptr;
  *code = HOST_NOT_FOUND;
  return 0;
}

STP_ANSWER(int, gethostbyname2_r)(const char* __restrict name, int family, hostent* __restrict into, char* __restrict buffer,
                                                            size_t size, hostent** __restrict result, int* __restrict code) {
  if (!is_stp_name(name)) return real_gethostbyname2_r(name, family, into, buffer, size, result, code);
  const auto text = address_text(name, family == AF_INET6);
  if (text) return real_gethostbyname2_r(text->c_str(), family, into, buffer, size, result, code);
  *result = nullptr;
  *code = HOST_NOT_FOUND;
  return 0;
}

STP_ANSWER(hostent*, gethostbyaddr)(const void* address, socklen_t length, int family) {
  std::uint32_t ip = 0;
  const bool v4 = settings().on && family == AF_INET && length == sizeof ip;
  if (v4) std::memcpy(&ip, address, sizeof ip);
  const auto name = v4 && settings().network.contains(ntohl(ip)) ? host_name(ntohl(ip)) : std::nullopt;
  if (!name) return real_gethostbyaddr(address, length, family);
  thread_local std::string text;
  thread_local char bytes[4];
  thread_local char* addresses[2];
  thread_local char* aliases[1];
  thread_local hostent entry;
  text = *name;
  std::memcpy(bytes, &ip, sizeof bytes);
  addresses[0] = bytes;
  entry = {.h_name = text.data(), .h_aliases = aliases, .h_addrtype = AF_INET, .h_length = 4, .h_addr_list = addresses};
  return &entry;
}

}  // extern "C"
