#include "tests/kill/mount_files.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "tests/kill/stream_bytes.h"
#include "tests/kill/streams.h"

namespace turns {
namespace {

constexpr std::size_t kMountPiece = 256 * 1024;

// An open file. A failed call is noted, and its errno kept.
class File {
 public:
  File(Player& player, const std::string& path, int flags) : player_(player) {
    const Player::Watched watched(player_, "open", path);
    fd_ = ::open(path.c_str(), flags | O_CLOEXEC);
    if (fd_ < 0) failed("open");
  }
  ~File() { (void)close(); }
  File(const File&) = delete;
  File& operator=(const File&) = delete;

  explicit operator bool() const { return fd_ >= 0; }
  int error() const { return error_; }
  // All of it.
  bool write(std::span<const unsigned char> bytes) {
    while (!bytes.empty()) {
      const Player::Watched watched(player_, "write", "-");
      const ssize_t done = ::write(fd_, bytes.data(), bytes.size());
      if (done < 0 && errno == EINTR) continue;
      if (done <= 0) return failed("write");
      bytes = bytes.subspan(static_cast<std::size_t>(done));
    }
    return true;
  }
  bool write_line(const std::string& line) { return write({reinterpret_cast<const unsigned char*>(line.data()), line.size()}); }
  template <class T>
  bool write_value(const T& value) {
    return write({reinterpret_cast<const unsigned char*>(&value), sizeof value});
  }
  // What there is; 0 with error(): 0 is the end.
  std::size_t read(std::span<unsigned char> into) {
    for (;;) {
      const Player::Watched watched(player_, "read", "-");
      const ssize_t got = ::read(fd_, into.data(), into.size());
      if (got > 0) return static_cast<std::size_t>(got);
      if (got < 0 && errno == EINTR) continue;
      error_ = 0;
      if (got < 0) failed("read");
      return 0;
    }
  }
  template <class T>
  bool read_value(T& value) {
    std::span<unsigned char> rest(reinterpret_cast<unsigned char*>(&value), sizeof value);
    while (!rest.empty()) {
      const std::size_t got = read(rest);
      if (got == 0) return false;
      rest = rest.subspan(got);
    }
    return true;
  }
  std::string read_word() {
    unsigned char text[64];
    const std::size_t got = read(text);
    std::string word(reinterpret_cast<char*>(text), got);
    word.erase(std::min(word.find('\n'), word.size()));
    return word;
  }
  bool close() {
    if (fd_ < 0) return false;
    const Player::Watched watched(player_, "fclose", "-");
    const bool done = ::close(fd_) == 0;
    fd_ = -1;
    return done || failed("fclose");
  }

 private:
  bool failed(const char* call) {
    error_ = errno;
    player_.note_failure(call, "mount", error_, 0);
    return false;
  }

  Player& player_;
  int fd_ = -1;
  int error_ = 0;
};

bool pour_bytes(Player& player, File& data, const Greeting& greeting, std::uint64_t& sent) {
  if (!data.write_value(greeting)) return false;
  std::vector<unsigned char> piece;
  while (sent < greeting.length) {
    piece.resize(std::min<std::uint64_t>(greeting.length - sent, 1 + player.random() % kMountPiece));
    make_bytes(greeting.seed, sent, piece);
    if (!data.write(piece)) return false;
    sent += piece.size();
  }
  return true;
}

std::string pour_stream(Player& player, const std::string& path, const Greeting& greeting, std::uint64_t& sent) {
  const auto words = [](const File& file) { return Ending{.error = file.error()}.words(); };
  File data(player, path, O_WRONLY);
  File answers(player, path, O_RDONLY);
  if (!data || !answers) return words(data ? answers : data);
  if (!pour_bytes(player, data, greeting, sent) || !data.close()) return words(data);
  if (static_cast<StreamEnding>(greeting.ending) != StreamEnding::kConfirmed) return "closed";  // which may not be told in time
  std::uint64_t confirmed = 0;
  if (!answers.read_value(confirmed)) return words(answers);
  if (confirmed != greeting.number) player.bad("stream {}: confirmed is {}", greeting.number, confirmed);
  return "";
}

void receive_file(Player& player, File& data) {
  Greeting greeting;
  if (!data.read_value(greeting)) return;
  StreamCheck check(player, greeting, "mount");
  std::vector<unsigned char> piece(kMountPiece);
  for (;;) {
    const std::size_t got = data.read(std::span(piece).first(1 + player.random() % kMountPiece));
    if (got == 0) break;
    check.take(std::span(piece).first(got));
  }
  const Ending ending{.error = data.error()};
  check.over(ending);
  if (ending.error == 0 && static_cast<StreamEnding>(greeting.ending) == StreamEnding::kConfirmed) data.write_value(greeting.number);
}

}  // namespace

MountFiles::MountFiles(Player& player, std::string mount, std::vector<std::string> to, unsigned streams)
    : player_(player), net_(std::move(mount) + "/net/"), to_(std::move(to)) {
  threads_.emplace_back([this](const std::stop_token& stop) { listen(stop); });
  for (unsigned i = 0; i < streams; ++i) threads_.emplace_back([this, i](const std::stop_token& stop) { pour(i * 1'000'000ull, stop); });
}

void MountFiles::stop() {
  for (auto& thread : threads_) thread.request_stop();
  threads_.clear();
}

void MountFiles::pour(std::uint64_t first_number, const std::stop_token& stop) {
  for (std::uint64_t number = first_number; !stop.stop_requested(); ++number) {
    const std::string& host = to_[player_.random() % to_.size()];
    File ctl(player_, net_ + "clone", O_RDWR);
    const std::string name = ctl ? ctl.read_word() : "";
    if (name.empty() || !ctl.write_line(fmt::format("connect {} {}\n", host, player_.who().port))) {
      player_.pause_ms(5);
      continue;
    }
    Greeting greeting = next_stream(player_, number);
    if (static_cast<StreamEnding>(greeting.ending) == StreamEnding::kAbort) greeting.ending = static_cast<std::uint64_t>(StreamEnding::kClose);
    greeting.by_files = 1;
    std::uint64_t sent = 0;
    player_.note("begin", "{} {} {} {}", number, host, greeting.length, greeting.ending);
    const std::string failure = pour_stream(player_, net_ + name + "/data", greeting, sent);
    player_.note("sent", "{} {} {} {}", number, host, failure.empty() ? "ok" : failure, sent);
  }
}

// One at a time: who connects meanwhile waits. `timeout` keeps a wait for nobody short of the patience.
void MountFiles::listen(const std::stop_token& stop) {
  while (!stop.stop_requested()) {
    File ctl(player_, net_ + "clone", O_RDWR);
    const std::string name = ctl ? ctl.read_word() : "";
    if (name.empty() || !ctl.write_line("timeout 1\n") || !ctl.write_line(fmt::format("announce {}\n", player_.who().port))) {
      player_.pause_ms(5);
      continue;
    }
    while (!stop.stop_requested()) {
      File accepted(player_, net_ + name + "/listen", O_RDWR);
      if (!accepted && accepted.error() == ETIMEDOUT) continue;
      if (!accepted) break;
      const std::string number = accepted.read_word();
      if (number.empty()) break;
      File data(player_, net_ + number + "/data", O_RDWR);
      if (data) receive_file(player_, data);
    }
  }
}

}  // namespace turns
