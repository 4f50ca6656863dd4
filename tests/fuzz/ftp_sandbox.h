// What the fuzzers of the file transfer share: a directory that the tool may work in, beside one that it must not touch, and frames
// made of what the input says.
#pragma once

#include <filesystem>
#include <set>
#include <string>
#include <vector>

#include "tests/fuzz/target.h"
#include "tools/ftp_protocol.h"
#include "tools/sha256.h"

namespace stp::fuzz {

class FtpSandbox {
 public:
  FtpSandbox();
  ~FtpSandbox();
  // As it is before each input: "a", "dir/f", an empty "dir/sub", links that lead out ("out", "dir/up") and nowhere ("nowhere").
  void reset();
  std::string inside(const std::string& name = "") const { return root_ + "/in" + (name.empty() ? "" : "/" + name); }
  // Nothing outside was written, made or removed; each file inside that is no part is one that was there, or came whole (null: nobody knows).
  void check(const std::set<std::string>* came_whole) const;

 private:
  std::string root_;
};

// The bytes that a peer says.
class FtpScript {
 public:
  void frame(ftp::FrameType type, ConstBytes payload);
  // Bytes of which nobody knows what they are, alone or as a frame's payload.
  void raw(ConstBytes bytes) {
    bytes_.insert(bytes_.end(), bytes.begin(), bytes.end());
    vague_ = true;
  }
  void odd_frame(ftp::FrameType type, ConstBytes payload) {
    frame(type, payload);
    vague_ = true;
  }
  // Some bytes of a file, and the end of it: with the right digest, or another one.
  void data(ConstBytes bytes);
  void end(bool right);
  void begin_file(std::uint64_t size) {
    size_ = size;
    content_.clear();
  }
  const std::string& content() const { return content_; }
  const std::vector<std::byte>& bytes() const { return bytes_; }
  // Contents of which size and digest were right; with odd bytes in between nobody can say.
  const std::set<std::string>& whole() const { return whole_; }
  bool vague() const { return vague_; }

 private:
  std::vector<std::byte> bytes_;
  std::uint64_t size_ = 0;
  std::string content_;
  std::set<std::string> whole_;
  bool vague_ = false;
};

// A path or name, mostly one that is there.
std::string some_path(Input& input);

}  // namespace stp::fuzz
