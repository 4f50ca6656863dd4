// Lines typed at a terminal: editing, history that outlasts the program, completion of the first word. By libedit.
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <vector>

namespace stp {

class LineEditor {
 public:
  // `program` names the history file, ~/.PROGRAM_history. `completions` are the first words on offer.
  LineEditor(const std::string& program, std::vector<std::string> completions);
  LineEditor(const LineEditor&) = delete;
  LineEditor& operator=(const LineEditor&) = delete;
  ~LineEditor();  // saves the history

  enum class Result { kLine, kInterrupted, kEnd };
  // Without the line end. `interrupted` is what the handler of SIGINT sets.
  Result read(const std::string& prompt, const std::atomic<bool>& interrupted, std::string* line);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace stp
