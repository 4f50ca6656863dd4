#include "tests/kill/token.h"

#include <fcntl.h>
#include <unistd.h>

#include <cstdio>
#include <map>
#include <sstream>

#include "tests/kill/stream_bytes.h"

namespace turns {
namespace {

constexpr std::size_t kMostEntries = 4096;
constexpr std::uint64_t kMostBallast = 512 * 1024;
constexpr int kAgainMs = 5;

std::uint64_t chained(std::uint64_t chain, const Entry& entry) { return mix(chain ^ mix(entry.value) ^ mix(entry.place + 1) ^ mix(~entry.life)); }

std::uint64_t ballast_seed(const Pass& pass) { return mix(pass.token) ^ mix(pass.value) ^ pass.attempt; }

std::span<unsigned char> bytes_of(std::vector<Entry>& log) { return {reinterpret_cast<unsigned char*>(log.data()), log.size() * sizeof(Entry)}; }

}  // namespace

Token::Token(Player& player, std::uint64_t number, bool with_log) : player_(player), number_(number), with_log_(with_log) { recover(); }

std::string Token::log_path() const { return fmt::format("{}/{}.log{}", player_.who().state, player_.who().host, number_); }

// "take HOST LIFE TOKEN VALUE ATTEMPT ...", "pass HOST LIFE TOKEN VALUE ATTEMPT ...", "gone HOST LIFE TOKEN VALUE"
void Token::recover() {
  const auto of_mine = [this](const std::string& record) {
    std::istringstream words(record);
    std::string event, host;
    std::uint64_t life = 0, token = 0;
    return words >> event >> host >> life >> token && (event == "take" || event == "pass" || event == "gone") && host == player_.who().host && token == number_;
  };
  std::istringstream words(player_.journal().last(of_mine));
  std::string event, host;
  std::uint64_t life = 0, token = 0;
  if (!(words >> event >> host >> life >> token >> value_)) return;
  took_any_ = true;
  mine_ = event != "gone";
  if (event == "pass") words >> attempt_;
  if (mine_ && with_log_) load_log();
}

void Token::load_log() {
  const int fd = ::open(log_path().c_str(), O_RDONLY | O_CLOEXEC);
  Entry entry;
  while (fd >= 0 && ::read(fd, &entry, sizeof entry) == static_cast<ssize_t>(sizeof entry)) log_.push_back(entry);
  if (fd >= 0) ::close(fd);
  // Saved, but not yet noted: the life before died between the two while it took the token again, as it may before it was told that its
  // pass of this value had arrived.
  while (!log_.empty() && log_.back().value > value_) log_.pop_back();
  if (log_.empty()) log_.push_back({.value = value_, .place = player_.place(), .life = 0, .chain = 0});  // the very first
  if (log_.back().value != value_) player_.bad("token {}: the log of value {} ends with {}", number_, value_, log_.back().value);
}

void Token::save_log() const {
  const std::string path = log_path(), part = path + ".new";
  const int fd = ::open(part.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  const std::size_t size = log_.size() * sizeof(Entry);
  if (fd < 0 || ::write(fd, log_.data(), size) != static_cast<ssize_t>(size)) std::perror(part.c_str());
  ::close(fd);
  if (std::rename(part.c_str(), path.c_str()) != 0) std::perror(path.c_str());
}

void Token::pass_on(const std::stop_token& stop) {
  std::optional<Conversation> conversation;
  std::uint64_t in_row = 0;
  while (!stop.stop_requested()) {
    {
      std::unique_lock lock(mutex_);
      if (!has_it_.wait(lock, stop, [this] { return mine_; })) break;
    }
    if (!conversation) {
      conversation = Conversation::connect(player_, player_.neighbour());
      in_row = 0;
      Greeting greeting{.kind = Kind::kPasses, .life = player_.who().life};
      player_.who().host.copy(greeting.host.data(), greeting.host.size() - 1);
      if (conversation && !conversation->send_value(greeting)) conversation.reset();
    }
    if (!conversation) {
      player_.pause_ms(kAgainMs);
      continue;
    }
    if (!give(*conversation, in_row)) conversation.reset();
    if (with_log_ && conversation) {  // a connection for each turn
      (void)conversation->close();
      conversation.reset();
    }
    player_.pause_ms(1 + static_cast<int>(player_.random() % 3));
  }
  if (conversation) (void)conversation->close();
}

bool Token::give(Conversation& conversation, std::uint64_t& in_row) {
  Pass pass{.token = number_, .in_row = in_row++};
  std::vector<Entry> log;
  std::vector<unsigned char> ballast;
  {
    std::lock_guard lock(mutex_);
    pass.value = value_;
    pass.attempt = ++attempt_;
    if (with_log_) log = log_;
    player_.note("pass", "{} {} {} {}", number_, pass.value, pass.attempt, conversation.peer());
  }
  if (with_log_) ballast.resize(player_.random() % kMostBallast);
  pass.entries = log.size();
  pass.ballast = ballast.size();
  make_bytes(ballast_seed(pass), 0, ballast);
  if (!conversation.send_value(pass) || !conversation.send(bytes_of(log)) || !conversation.send(ballast)) return false;
  Taken taken;
  if (!conversation.receive_value(taken)) return false;
  if (taken.magic != Taken().magic || taken.token != number_ || taken.value != pass.value || taken.attempt != pass.attempt)
    player_.bad("token {}: passed {} attempt {}, confirmed is {} attempt {}", number_, pass.value, pass.attempt, taken.value, taken.attempt);
  std::lock_guard lock(mutex_);
  if (value_ != pass.value) return true;  // it has gone all the way round before this confirmation
  player_.note("gone", "{} {}", number_, pass.value);
  mine_ = false;
  attempt_ = 0;
  return true;
}

bool Token::check_log(const std::vector<Entry>& log, const Pass& pass) {
  const std::size_t hosts = player_.who().ring.size();
  if (log.empty() || log.back().value != pass.value) player_.bad("token {}: {} comes with a log up to {}", number_, pass.value, log.empty() ? 0 : log.back().value);
  std::map<std::uint64_t, std::uint64_t> lives;
  for (std::size_t i = 0; i < log.size(); ++i) {
    const Entry& e = log[i];
    if (e.value != pass.value - (log.size() - 1 - i) || e.place != e.value % hosts || e.life < lives[e.place] || (i > 0 && e.chain != chained(log[i - 1].chain, e)))
      player_.bad("token {}: entry {} of the log of {}: value {} place {} life {}", number_, i, pass.value, e.value, e.place, e.life);
    lives[e.place] = e.life;
  }
  return true;
}

bool Token::take(Conversation& conversation, const Pass& pass, const Greeting& from) {
  if (pass.magic != Pass().magic || pass.token != number_ || pass.entries > kMostEntries || pass.ballast > kMostBallast)
    player_.bad("token {}: nonsense instead of a pass, from {} {}", number_, from.from(), from.life);
  std::vector<Entry> log(pass.entries);
  std::vector<unsigned char> ballast(pass.ballast);
  if (!conversation.receive(bytes_of(log)) || !conversation.receive(ballast)) return false;
  if (const std::size_t wrong = first_wrong(ballast_seed(pass), 0, ballast); wrong != ballast.size())
    player_.bad("token {}: {} attempt {} of {} {}: ballast is wrong at {}", number_, pass.value, pass.attempt, from.from(), from.life, wrong);
  if (with_log_) check_log(log, pass);
  {
    std::lock_guard lock(mutex_);
    const std::uint64_t next = pass.value + 1;
    const std::string words = fmt::format("{} {} {} {} {} {}", number_, next, pass.attempt, from.from(), from.life, conversation.peer());
    if (took_any_ && next <= value_) {
      player_.note("again", "{}", words);
    } else if (next % player_.who().ring.size() != player_.place() || (took_any_ && next != value_ + player_.who().ring.size())) {
      player_.bad("token {}: {} is passed to me, who had {}", number_, pass.value, value_);
    } else {
      if (with_log_) {
        Entry entry{.value = next, .place = player_.place(), .life = player_.who().life};
        entry.chain = chained(log.back().chain, entry);
        log_ = std::move(log);
        log_.push_back(entry);
        if (log_.size() > kMostEntries) log_.erase(log_.begin());
        save_log();
      }
      player_.note("take", "{}", words);
      value_ = next;
      took_any_ = mine_ = true;
      attempt_ = 0;
    }
  }
  has_it_.notify_all();
  return conversation.send_value(Taken{.token = number_, .value = pass.value, .attempt = pass.attempt});
}

}  // namespace turns
