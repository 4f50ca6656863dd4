#include "tests/fuzz/ftp_sandbox.h"

#include <sys/resource.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <fstream>
#include <iterator>

#include "tests/fuzz/scratch_folder.h"

namespace stp::fuzz {
namespace {

namespace fs = std::filesystem;
constexpr char kA[] = "content of a", kF[] = "content of f", kSecret[] = "nobody's business";
constexpr rlim_t kLargestFile = 16 << 20;  // an announced size costs no more than that

void write(const std::string& path, std::string_view content) { std::ofstream(path, std::ios::binary) << content; }
std::string read(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

}  // namespace

FtpSandbox::FtpSandbox() {
  root_ = make_scratch_folder();
  std::signal(SIGXFSZ, SIG_IGN);
  const rlimit limit = {.rlim_cur = kLargestFile, .rlim_max = kLargestFile};
  (void)::setrlimit(RLIMIT_FSIZE, &limit);
}

FtpSandbox::~FtpSandbox() {
  std::error_code ignored;
  fs::remove_all(root_, ignored);
}

void FtpSandbox::reset() {
  std::error_code ignored;
  fs::remove_all(root_ + "/in", ignored);
  fs::create_directories(root_ + "/outside");
  write(root_ + "/outside/secret", kSecret);
  fs::create_directories(inside("dir/sub"));
  write(inside("a"), kA);
  write(inside("dir/f"), kF);
  fs::create_symlink("../outside", inside("out"));
  fs::create_symlink("../../outside/secret", inside("dir/up"));
  fs::create_symlink("nowhere", inside("nowhere"));
}

void FtpSandbox::check(const std::set<std::string>* came_whole) const {
  std::size_t outside = 0;
  for ([[maybe_unused]] const auto& entry : fs::directory_iterator(root_ + "/outside")) ++outside;
  require(outside == 1 && read(root_ + "/outside/secret") == kSecret, "nothing outside of the directory is touched");
  std::size_t beside = 0;
  for ([[maybe_unused]] const auto& entry : fs::directory_iterator(root_)) ++beside;
  require(beside == 2, "nothing is made beside the directory");
  if (came_whole == nullptr) return;
  for (const auto& entry : fs::recursive_directory_iterator(root_ + "/in")) {
    if (entry.symlink_status().type() != fs::file_type::regular) continue;
    if (entry.path().filename().string().find(".part") != std::string::npos) continue;
    const std::string content = read(entry.path());
    require(content == kA || content == kF || came_whole->contains(content), "a file has its name only when it came whole");
  }
}

void FtpScript::frame(ftp::FrameType type, ConstBytes payload) {
  std::byte header[ftp::kHeaderSize];
  ftp::encode_header({type, static_cast<std::uint32_t>(payload.size())}, header);
  bytes_.insert(bytes_.end(), header, header + sizeof header);
  bytes_.insert(bytes_.end(), payload.begin(), payload.end());
}

void FtpScript::data(ConstBytes bytes) {
  frame(ftp::FrameType::kData, bytes);
  content_.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
}

void FtpScript::end(bool right) {
  Sha256 hash;
  hash.update(std::as_bytes(std::span(content_)));
  ftp::End message{hash.digest()};
  if (!right) message.digest[0] ^= std::byte{1};
  frame(ftp::FrameType::kEnd, ftp::encode(message));
  if (right && content_.size() == size_) whole_.insert(content_);
}

std::string some_path(Input& input) {
  static const char* const kPaths[] = {"", "a", "dir", "dir/f", "dir/sub", "out", "out/secret", "dir/up", "nowhere", "new", "dir/new", "a.part",
                                       "a.part.info", "..", "../outside/secret", "/", "dir/../a", ".", "new/deeper", "in"};
  const std::uint64_t which = input.below(std::size(kPaths) + 4);
  if (which < std::size(kPaths)) return kPaths[which];
  return std::string(input.text(input.flag() ? 8 : 300));
}

}  // namespace stp::fuzz
