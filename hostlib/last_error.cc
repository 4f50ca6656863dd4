#include "hostlib/last_error.h"

#include <cstring>
#include <unordered_map>
#include <utility>

namespace stp::host {
namespace {

// A thread that had errors on more sockets than this forgets the older ones' words.
constexpr std::size_t kMostRemembered = 256;

struct ThreadErrors {
  ErrorRecord last;
  int last_socket = -1;
  std::unordered_map<int, ErrorRecord> by_socket;
  std::string words;
};

ThreadErrors& mine() {
  static thread_local ThreadErrors errors;
  return errors;
}

}  // namespace

void remember_error(int s, ErrorRecord record) {
  ThreadErrors& errors = mine();
  if (s >= 0) {
    if (errors.by_socket.size() >= kMostRemembered && !errors.by_socket.contains(s)) errors.by_socket.clear();
    errors.by_socket[s] = record;
  }
  errors.last_socket = s;
  errors.last = std::move(record);
}

void remember_quietly(int s, int code) {
  ThreadErrors& errors = mine();
  if (errors.last_socket == s && errors.last.code == code && errors.last.reason == Reason::kNone && errors.last.words.empty()) return;
  remember_error(s, {.code = code, .reason = Reason::kNone, .words = {}});
}

const ErrorRecord& last_error(int s) {
  static const ErrorRecord none;
  ThreadErrors& errors = mine();
  if (s < 0) return errors.last;
  const auto found = errors.by_socket.find(s);
  return found != errors.by_socket.end() ? found->second : none;
}

const char* last_error_words(int s) {
  const ErrorRecord& record = last_error(s);
  std::string& words = mine().words;
  if (record.code == 0)
    words = describe(Reason::kNone);
  else if (!record.words.empty())
    words = record.words;
  else if (record.reason != Reason::kNone)
    words = describe(record.reason);
  else
    words = std::strerror(record.code);
  return words.c_str();
}

void forget_errors(int s) { mine().by_socket.erase(s); }

}  // namespace stp::host
