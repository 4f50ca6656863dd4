#include "tools/ftp_words.h"

#include <fmt/format.h>

#include "tools/rooted_files.h"

namespace stp::ftp {

namespace {

class Splitter {
 public:
  explicit Splitter(std::string_view text) : text_(text) {}

  Outcome<std::vector<Words>> run() {
    for (; at_ < text_.size(); ++at_) {
      const char c = text_[at_];
      if (quote_ != '\0') {
        quoted(c);
      } else if (c == '\'' || c == '"') {
        quote_ = c;
        in_word_ = true;
      } else if (c == '\\' && at_ + 1 < text_.size()) {
        add(text_[++at_]);
      } else if (c == ';' || c == '\n') {
        end_command();
      } else if (c == ' ' || c == '\t' || c == '\r') {
        end_word();
      } else if (c == '#' && !in_word_) {
        while (at_ + 1 < text_.size() && text_[at_ + 1] != '\n') ++at_;
      } else {
        add(c);
      }
    }
    if (quote_ != '\0') return failure(FailureCode::kUsage, fmt::format("a {} quote is not closed", quote_));
    end_command();
    return std::move(commands_);
  }

 private:
  void quoted(char c) {
    if (c == quote_)
      quote_ = '\0';
    else if (c == '\\' && quote_ == '"' && at_ + 1 < text_.size() && (text_[at_ + 1] == '"' || text_[at_ + 1] == '\\'))
      add(text_[++at_]);
    else
      add(c);
  }
  void add(char c) {
    word_ += c;
    in_word_ = true;
  }
  void end_word() {
    if (in_word_) words_.push_back(std::move(word_));
    word_.clear();
    in_word_ = false;
  }
  void end_command() {
    end_word();
    if (!words_.empty()) commands_.push_back(std::move(words_));
    words_.clear();
  }

  std::string_view text_;
  std::size_t at_ = 0;
  char quote_ = '\0';
  bool in_word_ = false;
  std::string word_;
  Words words_;
  std::vector<Words> commands_;
};

}  // namespace

Outcome<std::vector<Words>> parse_commands(std::string_view text) { return Splitter(text).run(); }

Outcome<std::string> resolve_path(const std::string& directory, std::string_view path) {
  std::string out = path.starts_with('/') ? std::string() : directory;
  std::string_view rest = path;
  while (!rest.empty()) {
    const std::size_t slash = rest.find('/');
    const std::string_view name = rest.substr(0, slash);
    rest = slash == rest.npos ? std::string_view() : rest.substr(slash + 1);
    if (name.empty() || name == ".") continue;
    if (name != "..") {
      out = join_path(out, name);
      continue;
    }
    if (out.empty()) return failure(FailureCode::kRefused, fmt::format("\"{}\" is refused: it leads above the server's root", printable(path)));
    out = std::string(parent_of(out));
  }
  if (!valid_relative_path(out)) return failure(FailureCode::kUsage, fmt::format("\"{}\" is too long for a path", printable(path)));
  return out;
}

bool is_pattern(std::string_view word) { return word.find_first_of("*?[") != word.npos; }

std::string_view base_of(std::string_view path) {
  while (path.size() > 1 && path.ends_with('/')) path.remove_suffix(1);
  const std::size_t slash = path.rfind('/');
  return slash == path.npos ? path : path.substr(slash + 1);
}

std::string_view parent_of(std::string_view path) {
  while (path.size() > 1 && path.ends_with('/')) path.remove_suffix(1);
  const std::size_t slash = path.rfind('/');
  if (slash == path.npos) return {};
  return slash == 0 ? path.substr(0, 1) : path.substr(0, slash);
}

std::string join_path(std::string_view directory, std::string_view name) {
  if (directory.empty()) return std::string(name);
  return directory.ends_with('/') ? fmt::format("{}{}", directory, name) : fmt::format("{}/{}", directory, name);
}

}  // namespace stp::ftp
