// The C library's own functions, and how those that stand in front of them are named: alike in the preloaded library, STPbsd_... in libstp,
// where <stp/bsd.h> sends a program's calls.
#pragma once

#include <dlfcn.h>
#include <fcntl.h>
#include <netdb.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#ifdef STP_BSD_NAMES
#define STP_ANSWER(result, name) __attribute__((visibility("default"))) result STPbsd_##name
#define STP_THROWS_NOTHING
#else
#define STP_ANSWER(result, name) __attribute__((visibility("default"))) result name
#define STP_THROWS_NOTHING noexcept
#endif

namespace stp::run {

// Looked up once. Every C library has them all.
template <typename Function>
Function* real_function(const char* name) {
  return reinterpret_cast<Function*>(::dlsym(RTLD_NEXT, name));
}

#define STP_REAL(name)                                                                \
  template <typename... Arguments>                                                    \
  auto real_##name(Arguments... arguments) {                                          \
    static auto* const function = real_function<decltype(::name)>(#name);             \
    return function(arguments...);                                                    \
  }

STP_REAL(socket)
STP_REAL(bind)
STP_REAL(listen)
STP_REAL(accept4)
STP_REAL(connect)
STP_REAL(shutdown)
STP_REAL(getsockname)
STP_REAL(getpeername)
STP_REAL(getsockopt)
STP_REAL(setsockopt)
STP_REAL(epoll_ctl)
STP_REAL(dup)
STP_REAL(dup2)
STP_REAL(dup3)
STP_REAL(fcntl)
STP_REAL(close)
STP_REAL(ioctl)
STP_REAL(getaddrinfo)
STP_REAL(getnameinfo)
STP_REAL(gethostbyname)
STP_REAL(gethostbyname2)
STP_REAL(gethostbyname_r)
STP_REAL(gethostbyname2_r)
STP_REAL(gethostbyaddr)
STP_REAL(read)
STP_REAL(readv)
STP_REAL(recv)
STP_REAL(recvfrom)
STP_REAL(recvmsg)
#undef STP_REAL

// In no header.
#define STP_REAL_CHECKED(name, ...)                                                   \
  template <typename... Arguments>                                                    \
  ssize_t real_##name(Arguments... arguments) {                                       \
    static auto* const function = real_function<ssize_t(__VA_ARGS__)>("__" #name);    \
    return function(arguments...);                                                    \
  }

STP_REAL_CHECKED(read_chk, int, void*, size_t, size_t)
STP_REAL_CHECKED(recv_chk, int, void*, size_t, size_t, int)
STP_REAL_CHECKED(recvfrom_chk, int, void*, size_t, size_t, int, sockaddr*, socklen_t*)
#undef STP_REAL_CHECKED

}  // namespace stp::run
