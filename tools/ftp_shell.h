// The commands of stp-ftp, as people type them. One thread.
#pragma once

#include <atomic>
#include <string>
#include <string_view>
#include <vector>

#include "tools/ftp_client.h"
#include "tools/ftp_trees.h"
#include "tools/ftp_words.h"
#include "tools/transfer_progress.h"

namespace stp::ftp {

class Shell {
 public:
  struct Options {
    std::uint16_t port = kDefaultPort;
    std::chrono::milliseconds wait{0};
    bool json = false;
    ProgressStyle progress = ProgressStyle::kNone;
  };
  Shell(Options options, const std::atomic<bool>* interrupted) : options_(options), client_(interrupted) {}

  Outcome<void> open(const std::string& host, std::uint16_t port);
  // Runs one command. Data goes to standard output.
  Outcome<void> run(const Words& words);
  bool quit() const { return quit_; }

  static std::vector<std::string> command_names();
  static std::string help_text();
  std::string prompt() const;

 private:
  struct Command;
  struct Arguments;
  static const std::vector<Command>& commands();

  Outcome<void> do_open(const Arguments& arguments);
  Outcome<void> do_close(const Arguments& arguments);
  Outcome<void> do_ls(const Arguments& arguments);
  Outcome<void> do_cd(const Arguments& arguments);
  Outcome<void> do_pwd(const Arguments& arguments);
  Outcome<void> do_lcd(const Arguments& arguments);
  Outcome<void> do_lpwd(const Arguments& arguments);
  Outcome<void> do_lls(const Arguments& arguments);
  Outcome<void> do_mkdir(const Arguments& arguments);
  Outcome<void> do_rmdir(const Arguments& arguments);
  Outcome<void> do_rm(const Arguments& arguments);
  Outcome<void> do_rename(const Arguments& arguments);
  Outcome<void> do_get(const Arguments& arguments);
  Outcome<void> do_put(const Arguments& arguments);
  Outcome<void> do_mget(const Arguments& arguments);
  Outcome<void> do_mput(const Arguments& arguments);
  Outcome<void> do_help(const Arguments& arguments);
  Outcome<void> do_quit(const Arguments& arguments);

  Outcome<std::vector<GetItem>> items_to_get(const RemoteMatch& match, const std::string& local, const Arguments& arguments);
  Outcome<std::vector<PutItem>> items_to_put(const std::string& local, const std::string& remote, const Arguments& arguments);
  Outcome<void> get_items(const Outcome<std::vector<GetItem>>& items);
  Outcome<void> put_items(const Outcome<std::vector<PutItem>>& items);
  Outcome<void> print_listing(const Outcome<std::vector<FileEntry>>& entries, bool with_details) const;
  void print_entries(const std::vector<FileEntry>& entries, bool with_details) const;
  Outcome<std::string> remote(std::string_view path) const { return resolve_path(directory_, path); }

  const Options options_;
  Client client_;
  std::string host_;
  std::string directory_;  // on the server, "" is its root
  bool quit_ = false;
};

}  // namespace stp::ftp
