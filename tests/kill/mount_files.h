// The same streams through the files of a mount (stp-fuse), by open, read, write and close alone: poured into conversations that connect, and
// received from those that come in at a port that is announced. When the mount dies under it, it begins anew as soon as there is one.
#pragma once

#include <string>
#include <thread>
#include <vector>

#include "tests/kill/player.h"

namespace turns {

class MountFiles {
 public:
  // `to`: hosts to send streams to, `streams` at a time.
  MountFiles(Player& player, std::string mount, std::vector<std::string> to, unsigned streams);
  // Streams that are under way come to their end first.
  void stop();

 private:
  void pour(std::uint64_t first_number, const std::stop_token& stop);
  void listen(const std::stop_token& stop);

  Player& player_;
  std::string net_;
  std::vector<std::string> to_;
  std::vector<std::jthread> threads_;
};

}  // namespace turns
