// turns: a host of a ring over STP, to be killed at any moment and started again. It takes part in passing tokens round (token.h), sends
// streams to the others and receives theirs (streams.h), and notes in a journal what it saw, for judge.py. Which storage and which agent the environment says.
// With --mount it is a program that does the same with streams through the files of a mount (mount_files.h).
//
// SIGTERM: comes to an end in good order.
#include <signal.h>

#include <CLI/CLI.hpp>
#include <atomic>
#include <memory>
#include <thread>

#include "tests/kill/mount_files.h"
#include "tests/kill/streams.h"
#include "tests/kill/token.h"

namespace {

using namespace turns;

constexpr std::uint64_t kNumbersOfAThread = 1'000'000;

struct Options {
  Player::Who who;
  std::string journal, mount;
  std::vector<std::string> to;
  std::uint64_t tokens = 2;
  unsigned streams = 2;
};

class Host {
 public:
  Host(Player& player, const Options& options) : player_(player) {
    for (std::uint64_t number = 0; number < options.tokens; ++number) tokens_.push_back(std::make_unique<Token>(player, number, number % 2 == 1));
    for (const auto& token : tokens_) busy_.emplace_back([&token](const std::stop_token& stop) { token->pass_on(stop); });
    for (unsigned i = 0; !options.to.empty() && i < options.streams; ++i)
      busy_.emplace_back([this, i, to = options.to](const std::stop_token& stop) { send_streams(player_, i * kNumbersOfAThread, to, stop); });
    listening_ = std::jthread([this](const std::stop_token& stop) { listen(stop); });
  }

  // Those who send come to an end, then those who are sent to.
  void stop() {
    for (auto& thread : busy_) thread.request_stop();
    busy_.clear();
    for (int waited = 0; served_ > 0 && waited < player_.who().patience_ms; waited += 10) player_.pause_ms(10);
    listening_.request_stop();
    listening_ = {};
  }

 private:
  void listen(const std::stop_token& stop) {
    Listener listener(player_);
    for (std::uint64_t number = 1; !stop.stop_requested();) {
      auto conversation = listener.accept();
      if (!conversation) continue;
      ++served_;
      std::thread([this, number = number++, conversation = std::move(*conversation)]() mutable {
        serve(number, conversation);
        conversation.abort();
        --served_;
      }).detach();
    }
  }

  void serve(std::uint64_t number, Conversation& conversation) {
    Greeting greeting;
    if (!conversation.receive_value(greeting)) return;
    if (!greeting.good()) player_.bad("nonsense instead of a greeting, from {}", conversation.peer());
    player_.note("open", "{} {} {} {}", number, greeting.from(), greeting.life, conversation.peer());
    if (greeting.kind == Kind::kStream) return receive_stream(player_, conversation, greeting);
    Pass pass;
    for (std::uint64_t in_row = 0; conversation.receive_value(pass); ++in_row) {
      if (pass.in_row != in_row || pass.token >= tokens_.size())
        player_.bad("pass {} of token {} of {} {} is number {} of its connection", pass.value, pass.token, greeting.from(), greeting.life, in_row);
      if (!tokens_[pass.token]->take(conversation, pass, greeting)) return;
    }
  }

  Player& player_;
  std::vector<std::unique_ptr<Token>> tokens_;
  std::atomic<int> served_ = 0;
  std::vector<std::jthread> busy_;
  std::jthread listening_;
};

}  // namespace

int main(int argc, char** argv) {
  Options o;
  CLI::App app{"A host of a ring that passes tokens round over STP", "turns"};
  app.add_option("--host", o.who.host, "its name")->required();
  app.add_option("--life", o.who.life, "number of this life of it")->required();
  app.add_option("--ring", o.who.ring, "all hosts that pass tokens, in order")->delimiter(',')->required();
  app.add_option("--streams-to", o.to, "hosts to send streams to")->delimiter(',');
  app.add_option("--journal", o.journal, "file to note in what happens")->required();
  app.add_option("--state", o.who.state, "directory for what a host keeps")->required();
  app.add_option("--port", o.who.port, "where everybody listens")->capture_default_str();
  app.add_option("--patience-ms", o.who.patience_ms, "the longest that a call may take")->capture_default_str();
  app.add_option("--tokens", o.tokens, "how many are passed")->capture_default_str();
  app.add_option("--streams", o.streams, "how many at a time")->capture_default_str();
  app.add_option("--mount", o.mount, "use the files of this mount instead");
  CLI11_PARSE(app, argc, argv);

  sigset_t ends;
  ::sigemptyset(&ends);
  ::sigaddset(&ends, SIGTERM);
  ::pthread_sigmask(SIG_BLOCK, &ends, nullptr);
  ::signal(SIGPIPE, SIG_IGN);
  Player player(o.who, o.journal);
  if (!o.mount.empty()) {
    player.note("start", "{}", o.who.host);
    MountFiles files(player, o.mount, o.to, o.streams);
    int number = 0;
    ::sigwait(&ends, &number);
    files.stop();
  } else {
    player.note("start", "{}", joined_name(player));
    Host host(player, o);
    int number = 0;
    ::sigwait(&ends, &number);
    host.stop();
  }
  player.note("stop", "-");
  return 0;
}
