// One of the two hosts that `stp bench` measures: a process of its own, started by exec of this very program with a
// role, before and apart from which the bench itself never makes an STP call. Commands and answers are lines on two pipes.
#pragma once

#include <sys/types.h>

#include <cstdio>
#include <optional>
#include <string>
#include <vector>

#include "stp/error.h"

namespace stp::tools {

class BenchPeer {
 public:
  // Starts `stp bench-role ROLE --stg stg --host host`: a host of its own, or with `agent` a program of that agent.
  static Result<BenchPeer> start(const std::string& role, const std::string& stg, const std::string& host, const std::string& agent = {});
  BenchPeer(BenchPeer&& other) noexcept;
  BenchPeer(const BenchPeer&) = delete;
  BenchPeer& operator=(const BenchPeer&) = delete;
  BenchPeer& operator=(BenchPeer&&) = delete;
  ~BenchPeer();  // ends the process: politely (end of its input), after some seconds not

  pid_t pid() const { return pid_; }
  // The next line that the process says, as numbers. A line "error TEXT", or its end, is an Error.
  Result<std::vector<double>> answer();
  Result<std::vector<double>> ask(const std::string& command);

 private:
  BenchPeer() = default;
  std::string host_;
  pid_t pid_ = -1;
  std::FILE* to_ = nullptr;
  std::FILE* from_ = nullptr;
};

// Connects and closes again and again, to a listener of `far` whose port is kept in `port`: the p50 and p99 of both together, in us.
Result<std::vector<double>> measure_connects(BenchPeer& far, BenchPeer& near, std::optional<double>& port, unsigned round_ms);

}  // namespace stp::tools
