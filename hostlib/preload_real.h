// The C library's own functions, behind those of the same name that the preloaded library puts in front of them.
#pragma once

#include <dlfcn.h>
#include <netdb.h>
#include <sys/epoll.h>
#include <sys/socket.h>

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
STP_REAL(getaddrinfo)
STP_REAL(getnameinfo)
STP_REAL(gethostbyname)
STP_REAL(gethostbyname2)
STP_REAL(gethostbyname_r)
STP_REAL(gethostbyname2_r)
STP_REAL(gethostbyaddr)
#undef STP_REAL

}  // namespace stp::run
