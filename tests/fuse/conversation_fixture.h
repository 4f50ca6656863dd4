// Conversations as the files of /net are opened, read and written, over the real library and real agents: what their tests begin with.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <string>
#include <tuple>

#include "fuse/net_nodes.h"
#include "tests/api/fixture.h"
#include "tests/api/peer_process.h"
#include "tests/fuse/asking.h"

namespace stp::view::test {

inline std::shared_ptr<Asking> ask(uid_t user = 0) { return std::make_shared<Asking>(user); }
inline ConstBytes bytes_of(std::string_view text) { return std::as_bytes(std::span(text)); }

// An open file, closed when it goes.
class File {
 public:
  File() = default;
  explicit File(std::shared_ptr<OpenFile> file) : file_(std::move(file)) {}
  File(File&&) = default;
  File& operator=(File&& other) noexcept {
    close();
    file_ = std::move(other.file_);
    return *this;
  }
  ~File() { close(); }
  void close() {
    if (file_) file_->release();
    file_.reset();
  }
  explicit operator bool() const { return file_ != nullptr; }
  OpenFile* operator->() const { return file_.get(); }

  std::shared_ptr<Asking> begin_read(std::size_t size, int flags = 0) {
    auto request = ask();
    file_->read(request, size, flags);
    return request;
  }
  std::shared_ptr<Asking> begin_write(ConstBytes bytes, int flags = 0) {
    auto request = ask();
    const std::vector<std::byte> passing(bytes.begin(), bytes.end());  // gone after the call, as the kernel's are
    file_->write(request, passing, flags);
    return request;
  }
  std::string text(std::size_t size = 4096) {
    const auto request = begin_read(size);
    const int error = request->result();
    return error == 0 ? request->text() : "error " + std::to_string(error);
  }
  int say(std::string_view words) { return begin_write(bytes_of(words))->result(); }
  bool write_all(ConstBytes bytes) {
    while (!bytes.empty()) {
      const auto request = begin_write(bytes);
      if (request->result() != 0 || request->count() == 0) return false;
      bytes = bytes.subspan(request->count());
    }
    return true;
  }

 private:
  std::shared_ptr<OpenFile> file_;
};

class Conversations_ : public ::testing::Test {
 protected:
  Conversations_() : all(*Conversations::start()), net(make_net(all)) {}

  NodePtr find(std::string_view path) {
    NodePtr node = net;
    while (node != nullptr && !path.empty()) {
      const auto end = std::min(path.find('/'), path.size());
      const auto found = static_cast<Directory&>(*node).lookup(path.substr(0, end), Patience::kMayWait);
      node = found ? *found : nullptr;
      path.remove_prefix(std::min(end + 1, path.size()));
    }
    return node;
  }
  std::shared_ptr<Asking> begin_open(const std::string& path, int flags = O_RDWR, uid_t user = 0) {
    auto request = ask(user);
    const NodePtr node = find(path);
    if (node == nullptr)
      request->error(ENOENT);
    else
      static_cast<StreamNode&>(*node).open(request, flags);
    return request;
  }
  File open(const std::string& path, int flags = O_RDWR, uid_t user = 0) {
    const auto request = begin_open(path, flags, user);
    EXPECT_EQ(request->result(), 0) << path;
    return File(request->file());
  }
  std::string text(const std::string& path) {
    const NodePtr node = find(path);
    return node == nullptr ? "nothing there" : *static_cast<TextFile&>(*node).text(Patience::kMayWait);
  }
  // The ctl of a new one, and its number.
  std::pair<File, std::string> clone(uid_t user = 0) {
    File ctl = open("clone", O_RDWR, user);
    std::string number = ctl.text();
    EXPECT_TRUE(number.ends_with('\n'));
    number.pop_back();
    return {std::move(ctl), number};
  }
  std::uint16_t port_of(const std::string& number) {
    const std::string local = text(number + "/local");
    return static_cast<std::uint16_t>(std::stoi(local.substr(local.find('!') + 1)));
  }

  struct End {
    File ctl, data;
    std::string number;
  };
  // One that is announced, and both ends of a conversation of this host with itself.
  struct Ends {
    File listener;
    std::string listeners_number;
    End client, server;
  };
  Ends connected() {
    Ends ends;
    std::tie(ends.listener, ends.listeners_number) = clone();
    EXPECT_EQ(ends.listener.say("announce 0\n"), 0) << text(ends.listeners_number + "/err");
    std::tie(ends.client.ctl, ends.client.number) = clone();
    EXPECT_EQ(ends.client.ctl.say("connect alpha " + std::to_string(port_of(ends.listeners_number)) + "\n"), 0)
        << text(ends.client.number + "/err");
    ends.client.data = open(ends.client.number + "/data");
    ends.server.ctl = open(ends.listeners_number + "/listen");
    ends.server.number = ends.server.ctl.text();
    ends.server.number.pop_back();
    ends.server.data = open(ends.server.number + "/data");
    return ends;
  }
  // Connected to another host's program that sends back what it gets.
  End connected_to(std::uint16_t port) {
    End end;
    std::tie(end.ctl, end.number) = clone();
    EXPECT_EQ(end.ctl.say("connect beta!" + std::to_string(port)), 0) << text(end.number + "/err");
    end.data = open(end.number + "/data");
    return end;
  }

  std::shared_ptr<Conversations> all;
  NodePtr net;
};

// Writes `data` in pieces of any size; some blocking, some not.
inline void write_in_pieces(File& file, const std::vector<std::byte>& data, unsigned seed) {
  std::mt19937 random(seed);
  std::size_t done = 0;
  while (done < data.size()) {
    const std::size_t size = std::min<std::size_t>(data.size() - done, 1 + random() % (random() % 8 == 0 ? 1 << 20 : 5000));
    const auto request = file.begin_write(ConstBytes(data).subspan(done, size), random() % 4 == 0 ? O_NONBLOCK : 0);
    const int error = request->result();
    ASSERT_TRUE(error == 0 || error == EAGAIN) << error;
    if (error == 0) done += request->count();
  }
}

inline std::vector<std::byte> read_in_pieces(File& file, std::size_t whole, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<std::byte> out;
  while (out.size() < whole) {
    const auto request = file.begin_read(1 + random() % (random() % 8 == 0 ? 1 << 20 : 5000), random() % 4 == 0 ? O_NONBLOCK : 0);
    const int error = request->result();
    if (error == EAGAIN) continue;
    if (error != 0 || request->bytes().empty()) break;
    out.insert(out.end(), request->bytes().begin(), request->bytes().end());
  }
  return out;
}

}  // namespace stp::view::test
