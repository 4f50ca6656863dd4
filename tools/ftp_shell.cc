#include "tools/ftp_shell.h"

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <nlohmann/json.hpp>


namespace stp::ftp {

struct Shell::Arguments {
  std::vector<std::string> names;
  bool recursive = false;
  bool details = false;
  bool parents = false;
  bool update = false;
};

struct Shell::Command {
  const char* name;
  const char* synopsis;
  const char* help;
  std::size_t least;
  std::size_t most;
  const char* flags;  // letters that it takes
  Outcome<void> (Shell::*run)(const Arguments&);
};

namespace {

constexpr std::size_t kAny = static_cast<std::size_t>(-1);

void note(const std::string& text) { fmt::print(stderr, "stp-ftp: {}\n", text); }

bool is_local_directory(const std::string& path) {
  struct stat status {};
  return ::stat(path.c_str(), &status) == 0 && S_ISDIR(status.st_mode);
}

std::string_view kind_text(FileKind kind) {
  switch (kind) {
    case FileKind::kFile:
      return "file";
    case FileKind::kDirectory:
      return "directory";
    case FileKind::kLink:
      return "link";
    default:
      return "other";
  }
}

std::string mode_text(const FileEntry& entry) {
  const char kind = entry.kind == FileKind::kDirectory ? 'd' : entry.kind == FileKind::kLink ? 'l' : entry.kind == FileKind::kFile ? '-' : '?';
  std::string out(1, kind);
  for (int bit = 8; bit >= 0; --bit) out += (entry.mode >> bit & 1) != 0 ? "xwr"[bit % 3] : '-';
  return out;
}

std::string time_text(std::int64_t mtime_ns) {
  const std::time_t seconds = static_cast<std::time_t>(mtime_ns / 1'000'000'000);
  std::tm local{};
  if (::localtime_r(&seconds, &local) == nullptr) return "?";
  return fmt::format("{:%Y-%m-%d %H:%M}", local);
}

}  // namespace

const std::vector<Shell::Command>& Shell::commands() {
  static const std::vector<Command> table = {
      {"open", "open HOST [PORT]", "connect to a server", 1, 2, "", &Shell::do_open},
      {"close", "close", "end the connection", 0, 0, "", &Shell::do_close},
      {"ls", "ls [-l] [PATH|PATTERN]", "list a directory of the server", 0, 1, "l", &Shell::do_ls},
      {"cd", "cd [PATH]", "change the directory on the server; without PATH to its root", 0, 1, "", &Shell::do_cd},
      {"pwd", "pwd", "the directory on the server", 0, 0, "", &Shell::do_pwd},
      {"lls", "lls [-l] [PATH]", "list a local directory", 0, 1, "l", &Shell::do_lls},
      {"lcd", "lcd [PATH]", "change the local directory; without PATH to your home", 0, 1, "", &Shell::do_lcd},
      {"lpwd", "lpwd", "the local directory", 0, 0, "", &Shell::do_lpwd},
      {"mkdir", "mkdir [-p] PATH...", "make directories on the server; -p: with parents, existing ones are fine", 1, kAny, "p", &Shell::do_mkdir},
      {"rmdir", "rmdir PATH...", "remove empty directories on the server", 1, kAny, "", &Shell::do_rmdir},
      {"rm", "rm PATH|PATTERN...", "remove files on the server", 1, kAny, "", &Shell::do_rm},
      {"rename", "rename FROM TO", "rename on the server; never over an existing name", 2, 2, "", &Shell::do_rename},
      {"get", "get [-ru] REMOTE [LOCAL]", "fetch a file, or with -r a directory as LOCAL", 1, 2, "ru", &Shell::do_get},
      {"put", "put [-ru] LOCAL [REMOTE]", "send a file, or with -r a directory as REMOTE", 1, 2, "ru", &Shell::do_put},
      {"mget", "mget [-ru] PATH|PATTERN...", "fetch several into the local directory", 1, kAny, "ru", &Shell::do_mget},
      {"mput", "mput [-ru] PATH|PATTERN...", "send several into the server's directory", 1, kAny, "ru", &Shell::do_mput},
      {"help", "help", "this list", 0, kAny, "", &Shell::do_help},
      {"quit", "quit", "end", 0, 0, "", &Shell::do_quit},
  };
  return table;
}

std::vector<std::string> Shell::command_names() {
  std::vector<std::string> out;
  for (const Command& command : commands()) out.emplace_back(command.name);
  return out;
}

std::string Shell::help_text() {
  std::string out;
  for (const Command& command : commands()) out += fmt::format("  {:<29}{}\n", command.synopsis, command.help);
  out +=
      "Files arrive as NAME.part and get their name when they are whole and verified; a transfer that was cut off goes on where it ended\n"
      "when the same command is given again. An existing file is replaced. With -r, LOCAL or REMOTE is the name of the copy itself; one that ends in / is the\n"
      "directory to copy into; -u leaves out files that are there already with the same size and time. Quote names with blanks; ';' separates commands, '#' begins a comment.\n";
  return out;
}

std::string Shell::prompt() const {
  return client_.connected() || client_.has_server() ? fmt::format("{}:/{}> ", printable(host_), printable(directory_)) : "stp-ftp> ";
}

Outcome<void> Shell::run(const Words& words) {
  std::string name = words.front();
  if (name == "bye" || name == "exit") name = "quit";
  if (name == "mv") name = "rename";
  if (name == "?") name = "help";
  const auto command = std::ranges::find_if(commands(), [&](const Command& c) { return name == c.name; });
  if (command == commands().end())
    return failure(FailureCode::kUsage, fmt::format("unknown command \"{}\"; help lists them", printable(words.front())));
  Arguments arguments;
  bool flags_over = false;
  for (std::size_t i = 1; i < words.size(); ++i) {
    const std::string& word = words[i];
    if (flags_over || word.size() < 2 || word[0] != '-') {
      arguments.names.push_back(word);
      continue;
    }
    if (word == "--") {
      flags_over = true;
      continue;
    }
    for (const char flag : std::string_view(word).substr(1)) {
      if (std::string_view(command->flags).find(flag) == std::string_view::npos)
        return failure(FailureCode::kUsage, fmt::format("{} has no option \"{}\"; usage: {}", command->name, printable(word), command->synopsis));
      (flag == 'r' ? arguments.recursive : flag == 'l' ? arguments.details : flag == 'u' ? arguments.update : arguments.parents) = true;
    }
  }
  if (arguments.names.size() < command->least || arguments.names.size() > command->most)
    return failure(FailureCode::kUsage, fmt::format("usage: {}", command->synopsis));
  return (this->*command->run)(arguments);
}

Outcome<void> Shell::open(const std::string& host, std::uint16_t port) {
  host_ = host;
  directory_.clear();
  auto connected = client_.connect({host, port, options_.wait});
  if (!connected) client_.forget_server();
  return connected;
}

Outcome<void> Shell::do_open(const Arguments& arguments) {
  std::uint16_t port = options_.port;
  if (arguments.names.size() == 2) {
    const auto given = parse_port(arguments.names[1]);
    if (!given) return failure(FailureCode::kUsage, fmt::format("\"{}\" is not a port: 1 to 65535", printable(arguments.names[1])));
    port = *given;
  }
  return open(arguments.names[0], port);
}

Outcome<void> Shell::do_close(const Arguments&) {
  client_.leave();
  client_.forget_server();
  directory_.clear();
  return {};
}

void Shell::print_entries(const std::vector<FileEntry>& entries, bool with_details) const {
  for (const FileEntry& entry : entries) {
    if (options_.json) {
      const nlohmann::ordered_json line = {{"event", "entry"}, {"name", entry.name}, {"kind", kind_text(entry.kind)}, {"link", entry.through_link},
                                   {"mode", fmt::format("{:04o}", entry.mode)}, {"size", entry.size}, {"mtime_ns", entry.mtime_ns}};
      fmt::print("{}\n", line.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
      continue;
    }
    const std::string name = printable(entry.name) + (entry.kind == FileKind::kDirectory ? "/" : "");
    if (with_details)
      fmt::print("{} {:>14} {} {}\n", mode_text(entry), entry.size, time_text(entry.mtime_ns), name);
    else
      fmt::print("{}\n", name);
  }
  std::fflush(stdout);
}

Outcome<void> Shell::print_listing(const Outcome<std::vector<FileEntry>>& entries, bool with_details) const {
  if (!entries) return std::unexpected(entries.error());
  print_entries(*entries, with_details);
  return {};
}

Outcome<void> Shell::do_ls(const Arguments& arguments) {
  const auto path = remote(arguments.names.empty() ? std::string_view() : arguments.names[0]);
  if (!path) return std::unexpected(path.error());
  if (!is_pattern(*path)) {
    const auto entry = client_.stat(*path);
    if (!entry) return std::unexpected(entry.error());
    if (entry->kind == FileKind::kDirectory) return print_listing(client_.list(*path), arguments.details);
  }
  const auto matches = expand_remote(client_, *path);
  if (!matches) return std::unexpected(matches.error());
  std::vector<FileEntry> entries;
  for (const RemoteMatch& match : *matches) {
    entries.push_back(match.entry);
    entries.back().name = base_of(match.path);
  }
  print_entries(entries, arguments.details);
  return {};
}

Outcome<void> Shell::do_cd(const Arguments& arguments) {
  auto path = arguments.names.empty() ? Outcome<std::string>("") : remote(arguments.names[0]);
  if (!path) return std::unexpected(path.error());
  const auto entry = client_.stat(*path);
  if (!entry) return std::unexpected(entry.error());
  if (entry->kind != FileKind::kDirectory) return failure(FailureCode::kWrongKind, fmt::format("\"{}\" is not a directory", printable(*path)));
  directory_ = std::move(*path);
  return {};
}

Outcome<void> Shell::do_pwd(const Arguments&) {
  fmt::print("/{}\n", printable(directory_));
  std::fflush(stdout);
  return {};
}

Outcome<void> Shell::do_lcd(const Arguments& arguments) {
  const char* home = std::getenv("HOME");
  const std::string path = !arguments.names.empty() ? arguments.names[0] : home != nullptr ? home : "/";
  if (::chdir(path.c_str()) != 0) return file_failure(errno, fmt::format("cannot change to \"{}\"", printable(path)));
  return {};
}

Outcome<void> Shell::do_lpwd(const Arguments&) {
  const std::unique_ptr<char, void (*)(void*)> path(::getcwd(nullptr, 0), std::free);
  if (!path) return file_failure(errno, "cannot tell the local directory");
  fmt::print("{}\n", printable(path.get()));
  std::fflush(stdout);
  return {};
}

Outcome<void> Shell::do_lls(const Arguments& arguments) {
  const auto files = RootedFiles::open(arguments.names.empty() ? "." : arguments.names[0]);
  if (!files) return std::unexpected(files.error());
  return print_listing(files->list(""), arguments.details);
}

Outcome<void> Shell::do_mkdir(const Arguments& arguments) {
  for (const std::string& name : arguments.names) {
    const auto path = remote(name);
    if (!path) return std::unexpected(path.error());
    for (std::size_t slash = path->find('/'); arguments.parents && slash != path->npos; slash = path->find('/', slash + 1))
      if (auto made = client_.make_directory(path->substr(0, slash), 0777, true); !made) return made;
    if (auto made = client_.make_directory(*path, 0777, arguments.parents); !made) return made;
  }
  return {};
}

Outcome<void> Shell::do_rmdir(const Arguments& arguments) {
  for (const std::string& name : arguments.names) {
    const auto path = remote(name);
    if (!path) return std::unexpected(path.error());
    if (auto done = client_.remove_directory(*path); !done) return done;
  }
  return {};
}

Outcome<void> Shell::do_rm(const Arguments& arguments) {
  for (const std::string& name : arguments.names) {
    const auto path = remote(name);
    if (!path) return std::unexpected(path.error());
    if (!is_pattern(*path)) {
      if (auto done = client_.remove_file(*path); !done) return done;
      continue;
    }
    const auto matches = expand_remote(client_, *path);
    if (!matches) return std::unexpected(matches.error());
    for (const RemoteMatch& match : *matches)
      if (auto done = client_.remove_file(match.path); !done) return done;
  }
  return {};
}

Outcome<void> Shell::do_rename(const Arguments& arguments) {
  const auto from = remote(arguments.names[0]);
  if (!from) return std::unexpected(from.error());
  const auto to = remote(arguments.names[1]);
  if (!to) return std::unexpected(to.error());
  return client_.rename(*from, *to);
}

Outcome<std::vector<GetItem>> Shell::items_to_get(const RemoteMatch& match, const std::string& local, const Arguments& arguments) {
  if (match.entry.kind == FileKind::kDirectory) {
    if (!arguments.recursive) return failure(FailureCode::kWrongKind, fmt::format("\"{}\" is a directory; get -r copies it", printable(match.path)));
    return expand_get_tree(client_, match.path, local, arguments.update, note);
  }
  auto item = get_item(match.path, match.entry, local);
  if (!item) return std::unexpected(item.error());
  return std::vector<GetItem>{std::move(*item)};
}

Outcome<void> Shell::get_items(const Outcome<std::vector<GetItem>>& items) {
  if (!items) return std::unexpected(items.error());
  if (items->empty()) return {};
  TransferProgress progress(options_.progress);
  return client_.get(*items, progress);
}

Outcome<void> Shell::do_get(const Arguments& arguments) {
  const auto path = remote(arguments.names[0]);
  if (!path) return std::unexpected(path.error());
  const std::string base(path->empty() ? std::string_view(host_) : base_of(*path));
  auto entry = client_.stat(*path);
  if (!entry) return std::unexpected(entry.error());
  std::string local = arguments.names.size() == 2 ? arguments.names[1] : base;
  const bool into = local.ends_with('/') || (entry->kind != FileKind::kDirectory && is_local_directory(local));
  if (into) local = join_path(local, base);
  return get_items(items_to_get({*path, *entry}, local, arguments));
}

Outcome<void> Shell::do_mget(const Arguments& arguments) {
  std::vector<GetItem> items;
  for (const std::string& name : arguments.names) {
    const auto path = remote(name);
    if (!path) return std::unexpected(path.error());
    const auto matches = expand_remote(client_, *path);
    if (!matches) return std::unexpected(matches.error());
    for (const RemoteMatch& match : *matches) {
      if (match.entry.kind == FileKind::kDirectory && !arguments.recursive && is_pattern(*path)) {
        note(fmt::format("skipped \"{}\": a directory; mget -r copies it", printable(match.path)));
        continue;
      }
      auto more = items_to_get(match, match.path.empty() ? host_ : std::string(base_of(match.path)), arguments);
      if (!more) return std::unexpected(more.error());
      std::ranges::move(*more, std::back_inserter(items));
    }
  }
  return get_items(items);
}

Outcome<std::vector<PutItem>> Shell::items_to_put(const std::string& local, const std::string& to, const Arguments& arguments) {
  struct stat status {};
  if (::stat(local.c_str(), &status) != 0) return file_failure(errno, fmt::format("cannot open \"{}\"", printable(local)));
  if (S_ISDIR(status.st_mode) && !arguments.recursive)
    return failure(FailureCode::kWrongKind, fmt::format("\"{}\" is a directory; put -r copies it", printable(local)));
  if (S_ISDIR(status.st_mode)) return expand_put_tree(client_, local, to, arguments.update, note);
  return std::vector<PutItem>{{local, to}};
}

Outcome<void> Shell::put_items(const Outcome<std::vector<PutItem>>& items) {
  if (!items) return std::unexpected(items.error());
  if (items->empty()) return {};
  TransferProgress progress(options_.progress);
  return client_.put(*items, progress);
}

Outcome<void> Shell::do_put(const Arguments& arguments) {
  const std::string& local = arguments.names[0];
  const std::string base(base_of(local));
  if (!valid_file_name(base) && arguments.names.size() < 2)
    return failure(FailureCode::kUsage, fmt::format("\"{}\" has no name of its own: say put {} REMOTE", printable(local), printable(local)));
  const std::string given = arguments.names.size() == 2 ? arguments.names[1] : base;
  auto to = remote(given);
  if (!to) return std::unexpected(to.error());
  bool into = given.ends_with('/') || to->empty();
  if (!into && arguments.names.size() == 2 && !is_local_directory(local)) {
    const auto there = client_.stat(*to);
    if (!there && there.error().code != FailureCode::kNotFound) return std::unexpected(there.error());
    into = there && there->kind == FileKind::kDirectory;
  }
  if (into) *to = join_path(*to, base);
  return put_items(items_to_put(local, *to, arguments));
}

Outcome<void> Shell::do_mput(const Arguments& arguments) {
  std::vector<PutItem> items;
  for (const std::string& pattern : arguments.names) {
    const auto matches = expand_local(pattern);
    if (!matches) return std::unexpected(matches.error());
    for (const std::string& local : *matches) {
      if (is_pattern(pattern) && !arguments.recursive && is_local_directory(local)) {
        note(fmt::format("skipped \"{}\": a directory; mput -r copies it", printable(local)));
        continue;
      }
      const auto to = remote(base_of(local));
      if (!to) return std::unexpected(to.error());
      auto more = items_to_put(local, *to, arguments);
      if (!more) return std::unexpected(more.error());
      std::ranges::move(*more, std::back_inserter(items));
    }
  }
  return put_items(items);
}

Outcome<void> Shell::do_help(const Arguments&) {
  fmt::print("{}", help_text());
  std::fflush(stdout);
  return {};
}

Outcome<void> Shell::do_quit(const Arguments&) {
  quit_ = true;
  return {};
}

}  // namespace stp::ftp
