// A mount that passes one file through, as plainly as libfuse's low-level interface allows: what stp-fuse is measured beside.
// Usage: passthrough FILE MOUNTPOINT [splice] [cached]; the file is MOUNTPOINT/file. In the foreground.
#define FUSE_USE_VERSION 312
#include <fcntl.h>
#include <fuse_lowlevel.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string_view>

namespace {

constexpr fuse_ino_t kFile = 2;
constexpr std::size_t kMostRequest = 1 << 20;
const char* path = nullptr;
bool splices = false, cached = false;

// The library's macro is not C++.
fuse_bufvec part_of_file(const fuse_file_info* info, std::size_t size, off_t at) {
  fuse_bufvec out = {};
  out.count = 1;
  out.buf[0].size = size;
  out.buf[0].flags = static_cast<fuse_buf_flags>(FUSE_BUF_IS_FD | FUSE_BUF_FD_SEEK);
  out.buf[0].fd = static_cast<int>(info->fh);
  out.buf[0].pos = at;
  return out;
}

struct stat attributes(fuse_ino_t ino) {
  struct stat out = {};
  if (ino == kFile) (void)::stat(path, &out);
  out.st_mode = ino == kFile ? S_IFREG | 0600 : S_IFDIR | 0700;
  out.st_nlink = 1;
  out.st_ino = ino;
  return out;
}

void init(void*, fuse_conn_info* connection) {
  connection->max_write = kMostRequest;
  connection->max_readahead = kMostRequest;
  constexpr unsigned kSplice = FUSE_CAP_SPLICE_READ | FUSE_CAP_SPLICE_WRITE | FUSE_CAP_SPLICE_MOVE;
  connection->want = splices ? connection->want | (connection->capable & kSplice) : connection->want & ~kSplice;
}

void lookup(fuse_req_t request, fuse_ino_t, const char* name) {
  if (std::string_view(name) != "file") return (void)fuse_reply_err(request, ENOENT);
  fuse_entry_param entry = {};
  entry.ino = kFile;
  entry.attr = attributes(kFile);
  entry.entry_timeout = entry.attr_timeout = 1;
  (void)fuse_reply_entry(request, &entry);
}

void getattr(fuse_req_t request, fuse_ino_t ino, fuse_file_info*) {
  const struct stat stat = attributes(ino);
  (void)fuse_reply_attr(request, &stat, 1);
}

void setattr(fuse_req_t request, fuse_ino_t ino, struct stat* wanted, int what, fuse_file_info*) {
  if ((what & FUSE_SET_ATTR_SIZE) != 0 && ::truncate(path, wanted->st_size) != 0) return (void)fuse_reply_err(request, errno);
  getattr(request, ino, nullptr);
}

void open(fuse_req_t request, fuse_ino_t, fuse_file_info* info) {
  const int fd = ::open(path, info->flags & ~O_NOFOLLOW);
  if (fd < 0) return (void)fuse_reply_err(request, errno);
  info->fh = static_cast<std::uint64_t>(fd);
  info->direct_io = !cached;
  (void)fuse_reply_open(request, info);
}

void read(fuse_req_t request, fuse_ino_t, std::size_t size, off_t from, fuse_file_info* info) {
  if (splices) {
    fuse_bufvec source = part_of_file(info, size, from);
    return (void)fuse_reply_data(request, &source, FUSE_BUF_SPLICE_MOVE);
  }
  thread_local const std::unique_ptr<char[]> buffer(new char[kMostRequest]);
  const ssize_t n = ::pread(static_cast<int>(info->fh), buffer.get(), std::min(size, kMostRequest), from);
  if (n < 0) return (void)fuse_reply_err(request, errno);
  (void)fuse_reply_buf(request, buffer.get(), static_cast<std::size_t>(n));
}

void write(fuse_req_t request, fuse_ino_t, fuse_bufvec* in, off_t at, fuse_file_info* info) {
  fuse_bufvec out = part_of_file(info, fuse_buf_size(in), at);
  const ssize_t n = fuse_buf_copy(&out, in, splices ? FUSE_BUF_SPLICE_MOVE : FUSE_BUF_NO_SPLICE);
  if (n < 0) return (void)fuse_reply_err(request, static_cast<int>(-n));
  (void)fuse_reply_write(request, static_cast<std::size_t>(n));
}

void release(fuse_req_t request, fuse_ino_t, fuse_file_info* info) {
  (void)::close(static_cast<int>(info->fh));
  (void)fuse_reply_err(request, 0);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) return std::fprintf(stderr, "usage: passthrough FILE MOUNTPOINT [splice] [cached]\n"), 2;
  path = argv[1];
  for (int i = 3; i < argc; ++i) (std::string_view(argv[i]) == "splice" ? splices : cached) = true;
  fuse_lowlevel_ops ops = {};
  ops.init = init;
  ops.lookup = lookup;
  ops.getattr = getattr;
  ops.setattr = setattr;
  ops.open = open;
  ops.read = read;
  ops.write_buf = write;
  ops.release = release;
  char program[] = "passthrough";
  char* own[] = {program, nullptr};
  fuse_args args = FUSE_ARGS_INIT(1, own);
  fuse_session* const session = fuse_session_new(&args, &ops, sizeof ops, nullptr);
  if (session == nullptr || fuse_set_signal_handlers(session) != 0 || fuse_session_mount(session, argv[2]) != 0) return 1;
  fuse_loop_config* const config = fuse_loop_cfg_create();
  const int ended = fuse_session_loop_mt(session, config);
  fuse_loop_cfg_destroy(config);
  fuse_session_unmount(session);
  fuse_remove_signal_handlers(session);
  fuse_session_destroy(session);
  return ended < 0 ? 1 : 0;
}
