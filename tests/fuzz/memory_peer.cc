#include "tests/fuzz/memory_peer.h"

#include <poll.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "hostlib/stp.h"

namespace {

constexpr int kSocket = 1'000'000;  // no descriptor of this process
constexpr std::size_t kKept = 1 << 20;
stp::ConstBytes to_come;
std::size_t longest_piece = 1;
std::vector<std::byte> sent;

}  // namespace

namespace stp::fuzz {

void set_next_peer(ConstBytes bytes, std::size_t piece) {
  to_come = bytes;
  longest_piece = std::max<std::size_t>(piece, 1);
  sent.clear();
}
int memory_socket(ConstBytes bytes, std::size_t piece) {
  set_next_peer(bytes, piece);
  return kSocket;
}
std::vector<std::byte> take_sent() { return std::move(sent); }

}  // namespace stp::fuzz

extern "C" {

int STPsocket(int, int, int) { return kSocket; }
int STPbind(int, const sockaddr*, socklen_t) { return 0; }
int STPlisten(int, int) { return 0; }
int STPaccept4(int, sockaddr*, socklen_t*, int) { return errno = EAGAIN, -1; }
int STPaccept(int, sockaddr*, socklen_t*) { return errno = EAGAIN, -1; }
int STPconnect(int, const sockaddr*, socklen_t) { return 0; }
ssize_t STPsend(int, const void* data, size_t length, int) {
  const auto* bytes = static_cast<const std::byte*>(data);
  sent.insert(sent.end(), bytes, bytes + std::min(length, kKept - std::min(kKept, sent.size())));
  return static_cast<ssize_t>(length);
}
ssize_t STPrecv(int, void* into, size_t length, int flags) {
  const std::size_t n = std::min({length, longest_piece, to_come.size()});
  if (n > 0) std::memcpy(into, to_come.data(), n);
  if ((flags & MSG_PEEK) == 0) to_come = to_come.subspan(n);
  return static_cast<ssize_t>(n);
}
int STPshutdown(int, int) { return 0; }
int STPclose(int) { return 0; }
int STPgetsockname(int, sockaddr*, socklen_t*) { return 0; }
int STPsetsockopt(int, int, int, const void*, socklen_t) { return 0; }
int STPgetsockopt(int, int, int, void*, socklen_t*) { return 0; }
int STPgetpollfd(int, short) { return errno = EMFILE, -1; }
int STPpoll(struct pollfd* descriptors, nfds_t count, int) {
  for (nfds_t i = 0; i < count; ++i) descriptors[i].revents = descriptors[i].events;
  return static_cast<int>(count);
}
int STPerror(int) { return STP_OK; }
const char* STPstrerror(int) { return ""; }

}  // extern "C"
