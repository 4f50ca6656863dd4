#include "tools/forward_control.h"

#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "tools/failure.h"
#include "tools/table.h"

namespace stp::forward {
namespace {

using namespace std::chrono_literals;
constexpr std::size_t kMostTalks = 32;
constexpr std::size_t kLongestLine = 1024;
constexpr auto kDoorRest = 100ms;
constexpr timeval kAnswerWithin = {.tv_sec = 30, .tv_usec = 0};
constexpr std::string_view kCommands = "add -L SPEC, remove -L SPEC (or -R, -D), list, list --json";

std::string error_line(std::string_view words) { return fmt::format("error: {}\n", printable(words)); }

std::optional<Direction> direction_from(std::string_view option) {
  for (const Direction each : {Direction::kLocal, Direction::kRemote, Direction::kDynamic})
    if (option == option_of(each)) return each;
  return std::nullopt;
}

// The first word of `text`, which is left with the rest.
std::string_view take_word(std::string_view& text) {
  text.remove_prefix(std::min(text.find_first_not_of(" \t\r"), text.size()));
  const std::string_view word = text.substr(0, text.find_first_of(" \t\r"));
  text.remove_prefix(word.size());
  return word;
}

std::string as_table(const std::vector<Forwarder::Row>& rows) {
  tools::Table table({"ENDPOINT", "STATE", ">OPEN", ">TOTAL", ">FAILED", ">BROKEN", ">TO STP", ">FROM STP"});
  for (const auto& row : rows)
    table.add({printable(to_string(row.spec)), row.listening ? "listens" : "removed", fmt::format("{}", row.open),
               fmt::format("{}", row.total), fmt::format("{}", row.failed), fmt::format("{}", row.broken), fmt::format("{}", row.to_stp),
               fmt::format("{}", row.from_stp)});
  std::string out;
  for (const std::string& line : table.lines(true)) out += line + "\n";
  return out;
}

std::string as_json(const std::vector<Forwarder::Row>& rows) {
  using nlohmann::ordered_json;
  ordered_json list = ordered_json::array();
  for (const auto& row : rows)
    list.push_back({{"endpoint", to_string(row.spec)},
                    {"listening", row.listening},
                    {"open", row.open},
                    {"total", row.total},
                    {"failed", row.failed},
                    {"broken", row.broken},
                    {"to_stp_bytes", row.to_stp},
                    {"from_stp_bytes", row.from_stp}});
  // A path may be any bytes.
  return ordered_json{{"version", 1}, {"endpoints", list}}.dump(-1, ' ', false, ordered_json::error_handler_t::replace) + "\n";
}

std::string listed(const Forwarder& forwarder, std::string_view option) {
  if (!option.empty() && option != "--json") return error_line(fmt::format("list takes --json or nothing, and not \"{}\"", option));
  const auto rows = forwarder.rows();
  return (option.empty() ? as_table(rows) : as_json(rows)) + "ok\n";
}

}  // namespace

std::string control_answer(Forwarder& forwarder, std::string_view line) {
  const std::string_view command = take_word(line);
  const std::string_view option = take_word(line);
  if (command == "list") return listed(forwarder, option);
  const auto direction = direction_from(option);
  if ((command != "add" && command != "remove") || !direction)
    return error_line(fmt::format("not understood; the commands are: {}", kCommands));
  // A path may have blanks in it, but not around it.
  line.remove_prefix(std::min(line.find_first_not_of(" \t"), line.size()));
  line.remove_suffix(line.size() - std::min(line.find_last_not_of(" \t\r") + 1, line.size()));
  const auto spec = parse_forward_spec(*direction, line);
  if (!spec) return error_line(spec.error().text);
  const auto done = command == "add" ? forwarder.add(*spec) : forwarder.remove(*spec);
  return done ? "ok\n" : error_line(done.error().text);
}

Result<std::unique_ptr<ForwardControl>> ForwardControl::open(EventLoop& loop, const std::string& path, Forwarder& forwarder) {
  auto listener = KernelListener::open({.path = path, .host = {}, .port = 0});
  if (!listener) return std::unexpected(listener.error());
  std::unique_ptr<ForwardControl> control(new ForwardControl(loop, forwarder, std::move(*listener)));
  ForwardControl* const self = control.get();
  if (!loop.watch(self->listener_.fd(), EPOLLIN, [self](std::uint32_t) { self->accept_some(); }))
    return fail(errno, fmt::format("can not watch \"{}\": {}", path, std::strerror(errno)));
  return control;
}

ForwardControl::ForwardControl(EventLoop& loop, Forwarder& forwarder, KernelListener listener)
    : loop_(loop), forwarder_(forwarder), listener_(std::move(listener)) {}

ForwardControl::~ForwardControl() {
  loop_.forget(listener_.fd());
  for (auto& [id, talk] : talks_) loop_.forget(talk.fd.get());
}

void ForwardControl::accept_some() {
  while (talks_.size() < kMostTalks) {
    UniqueFd fd(::accept4(listener_.fd(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (!fd && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR || errno == ECONNABORTED)) return;
    if (!fd) return rest();
    const std::uint64_t id = next_id_++;
    if (!loop_.watch(fd.get(), EPOLLIN, [this, id](std::uint32_t) { turn(id); })) continue;
    talks_[id].fd = std::move(fd);
  }
  rest();
}

// Too many talk, or no descriptor is free: the next one waits in the queue.
void ForwardControl::rest() {
  loop_.change(listener_.fd(), 0);
  loop_.after(kDoorRest, [this, alive = std::weak_ptr(alive_)] {
    if (!alive.expired()) loop_.change(listener_.fd(), EPOLLIN);
  });
}

void ForwardControl::drop(std::uint64_t id) {
  loop_.forget(talks_.at(id).fd.get());
  talks_.erase(id);
}

void ForwardControl::turn(std::uint64_t id) {
  const auto it = talks_.find(id);
  if (it == talks_.end()) return;
  Talk& talk = it->second;
  // While an answer waits for room nothing more is read: what a client may make this keep is bounded.
  if (!write_some(talk) || (talk.out.empty() && !read_some(talk))) return drop(id);
  answer_lines(talk);
  if (!write_some(talk)) return drop(id);
  if (talk.out.empty() && talk.client_ended) return drop(id);
  loop_.change(talk.fd.get(), talk.out.empty() ? EPOLLIN : EPOLLOUT);
}

bool ForwardControl::read_some(Talk& talk) {
  std::array<char, kLongestLine> bytes;
  const ssize_t n = ::recv(talk.fd.get(), bytes.data(), bytes.size(), MSG_DONTWAIT);
  if (n < 0) return errno == EAGAIN || errno == EINTR;
  talk.in.append(bytes.data(), static_cast<std::size_t>(n));
  talk.client_ended = n == 0;
  return true;
}

void ForwardControl::answer_lines(Talk& talk) {
  for (std::size_t end; talk.out.empty() && (end = talk.in.find('\n')) != talk.in.npos;) {
    talk.out += control_answer(forwarder_, std::string_view(talk.in).substr(0, end));
    talk.in.erase(0, end + 1);
    if (!write_some(talk)) return;
  }
  if (talk.in.size() <= kLongestLine || !talk.out.empty()) return;
  talk.out += error_line(fmt::format("a line has at most {} bytes", kLongestLine));
  talk.in.clear();
  talk.client_ended = true;
}

bool ForwardControl::write_some(Talk& talk) {
  while (!talk.out.empty()) {
    const ssize_t n = ::send(talk.fd.get(), talk.out.data(), talk.out.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n < 0) return errno == EAGAIN || errno == EINTR;
    talk.out.erase(0, static_cast<std::size_t>(n));
  }
  return true;
}

// -- The client's side ---------------------------------------------------------------------------------------------

Result<std::string> ask_forwarder(const std::string& path, std::string_view line) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof address.sun_path)
    return fail(ENAMETOOLONG, fmt::format("\"{}\" can not be the path of a Unix socket", path));
  if (line.contains('\n')) return fail(EINVAL, "one line at a time, please");
  std::memcpy(address.sun_path, path.data(), path.size());
  const UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd || ::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
    return fail(errno, fmt::format("no \"stp forward\" answers on \"{}\": {}", path, std::strerror(errno)));
  (void)::setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &kAnswerWithin, sizeof kAnswerWithin);
  const std::string question = std::string(line) + "\n";
  std::string answer;
  if (::send(fd.get(), question.data(), question.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(question.size())) {
    std::array<char, 65536> bytes;
    for (ssize_t n; (n = ::recv(fd.get(), bytes.data(), bytes.size(), 0)) > 0;) {
      answer.append(bytes.data(), static_cast<std::size_t>(n));
      if (!answer.ends_with('\n')) continue;
      const auto before = answer.rfind('\n', answer.size() - 2);
      const std::size_t last_at = before == answer.npos ? 0 : before + 1;
      const std::string_view last = std::string_view(answer).substr(last_at, answer.size() - 1 - last_at);
      if (last == "ok") return answer.substr(0, last_at);
      if (last.starts_with("error: ")) return fail(EINVAL, std::string(last.substr(7)));
    }
  }
  return fail(EPIPE, fmt::format("\"stp forward\" at \"{}\" ended before it answered", path));
}

}  // namespace stp::forward
