#include "tests/kill/player.h"

#include <algorithm>
#include <chrono>
#include <cstring>

namespace turns {
namespace {

constexpr int kTickMs = 100;

}  // namespace

Player::Player(Who who, const std::string& journal) : who_(std::move(who)), journal_(journal), random_(std::random_device()()) {
  place_ = static_cast<std::size_t>(std::ranges::find(who_.ring, who_.host) - who_.ring.begin());
  watching_ = std::jthread([this](const std::stop_token& stop) {
    while (!stop.stop_requested()) watch();
  });
}

// Counts ticks of its own, so that the time in which this process stood still does not count.
void Player::watch() {
  pause_ms(kTickMs);
  std::lock_guard lock(mutex_);
  for (Watched* call : calls_)
    if (++call->ticks_ > who_.patience_ms / kTickMs) bad("hang: {} {} takes longer than {} ms", call->call_, call->with_, who_.patience_ms);
}

Player::Watched::Watched(Player& player, const char* call, std::string with) : player_(player), call_(call), with_(std::move(with)) {
  std::lock_guard lock(player_.mutex_);
  place_ = player_.calls_.insert(player_.calls_.end(), this);
}

Player::Watched::~Watched() {
  std::lock_guard lock(player_.mutex_);
  player_.calls_.erase(place_);
}

void Player::note_failure(const char* call, const std::string& with, int error, int reason) {
  const std::string words = fmt::format("{} {} {}", call, with, ::strerrorname_np(error) != nullptr ? ::strerrorname_np(error) : "?");
  {
    std::lock_guard lock(mutex_);
    if (words == last_failure_) return;
    last_failure_ = words;
  }
  note("fail", "{} {}", words, reason);
}

std::uint64_t Player::random() {
  std::lock_guard lock(mutex_);
  return random_();
}

void Player::pause_ms(int ms) { std::this_thread::sleep_for(std::chrono::milliseconds(ms)); }

}  // namespace turns
