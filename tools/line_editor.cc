#include "tools/line_editor.h"

#include <fmt/format.h>
#include <histedit.h>
#include <sys/stat.h>

#include <cstdio>
#include <cstdlib>
#include <string_view>

namespace stp {

struct LineEditor::Impl {
  std::vector<std::string> completions;
  std::string prompt;
  std::string history_path;
  EditLine* editor = nullptr;
  History* history = nullptr;

  static Impl* of(EditLine* editor) {
    Impl* impl = nullptr;
    el_get(editor, EL_CLIENTDATA, &impl);
    return impl;
  }
  static char* show_prompt(EditLine* editor) { return of(editor)->prompt.data(); }

  // Completes the first word as far as it is certain; shows the choice where it is not.
  static unsigned char complete(EditLine* editor, int) {
    const LineInfo* line = el_line(editor);
    const std::string_view typed(line->buffer, static_cast<std::size_t>(line->cursor - line->buffer));
    if (typed.find(' ') != typed.npos) return CC_ERROR;
    std::vector<std::string_view> fitting;
    for (const std::string& word : of(editor)->completions)
      if (word.starts_with(typed)) fitting.push_back(word);
    if (fitting.empty()) return CC_ERROR;
    std::string_view common = fitting.front();
    for (const std::string_view word : fitting)
      while (!word.starts_with(common)) common.remove_suffix(1);
    const std::string rest = std::string(common.substr(typed.size())) + (fitting.size() == 1 ? " " : "");
    if (!rest.empty()) return el_insertstr(editor, rest.c_str()) == 0 ? CC_REFRESH : CC_ERROR;
    fmt::print(stderr, "\n");
    for (const std::string_view word : fitting) fmt::print(stderr, "{}  ", word);
    fmt::print(stderr, "\n");
    return CC_REDISPLAY;
  }
};

LineEditor::LineEditor(const std::string& program, std::vector<std::string> completions) : impl_(std::make_unique<Impl>()) {
  impl_->completions = std::move(completions);
  if (const char* home = std::getenv("HOME"); home != nullptr && *home != '\0') impl_->history_path = fmt::format("{}/.{}_history", home, program);
  impl_->editor = el_init(program.c_str(), stdin, stdout, stderr);
  impl_->history = history_init();
  if (impl_->editor == nullptr || impl_->history == nullptr) return;
  HistEvent event;
  history(impl_->history, &event, H_SETSIZE, 1000);
  history(impl_->history, &event, H_SETUNIQUE, 1);
  if (!impl_->history_path.empty()) history(impl_->history, &event, H_LOAD, impl_->history_path.c_str());
  el_set(impl_->editor, EL_CLIENTDATA, impl_.get());
  el_set(impl_->editor, EL_PROMPT, &Impl::show_prompt);
  el_set(impl_->editor, EL_EDITOR, "emacs");
  el_set(impl_->editor, EL_HIST, history, impl_->history);
  el_set(impl_->editor, EL_ADDFN, "complete-command", "completes a command", &Impl::complete);
  el_set(impl_->editor, EL_BIND, "^I", "complete-command", nullptr);
  el_source(impl_->editor, nullptr);
}

LineEditor::~LineEditor() {
  HistEvent event;
  if (impl_->history != nullptr && !impl_->history_path.empty()) {
    const mode_t before = ::umask(0077);
    history(impl_->history, &event, H_SAVE, impl_->history_path.c_str());
    ::umask(before);
  }
  if (impl_->history != nullptr) history_end(impl_->history);
  if (impl_->editor != nullptr) el_end(impl_->editor);
}

LineEditor::Result LineEditor::read(const std::string& prompt, const std::atomic<bool>& interrupted, std::string* line) {
  if (impl_->editor == nullptr || impl_->history == nullptr) return Result::kEnd;
  impl_->prompt = prompt;
  int count = 0;
  const char* text = el_gets(impl_->editor, &count);
  if (text == nullptr || count <= 0) {
    if (!interrupted) return Result::kEnd;
    el_reset(impl_->editor);
    return Result::kInterrupted;
  }
  line->assign(text, static_cast<std::size_t>(count));
  while (!line->empty() && (line->back() == '\n' || line->back() == '\r')) line->pop_back();
  HistEvent event;
  if (!line->empty()) history(impl_->history, &event, H_ENTER, line->c_str());
  return Result::kLine;
}

}  // namespace stp
