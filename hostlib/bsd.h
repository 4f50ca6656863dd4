/* The translating header: a program compiled with it (cc -include stp/bsd.h ... -lstp) reaches STP hosts by its ordinary socket calls, by the
 * same names, addresses and rules as under `stp run` (README.md), and needs no preloaded library for it.
 *
 * The calls that begin a socket, name it or ask about it are redirected to libstp, by their symbols: no macros, so that a member or
 * variable called `connect` or `bind` stays what it is. The socket is one of the kernel's, so read, write, send, recv, readv, writev,
 * poll, select, epoll_wait and fork are left as they are and work on it, and of fcntl and ioctl what is seen to is only copies and
 * close-on-exec.
 *
 * The agent is the one of STP_AGENT, else of /run/stp/agent.sock; where none serves at the first call, all sockets are the kernel's
 * (STP_DEBUG=1 says so). STP_MAP has the rules of `stp run --map`. Include it before any other header, best on the command line; it
 * wants the GNU C library, and gcc or clang, for C or C++.
 */
#ifndef STP_BSD_H
#define STP_BSD_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1 /* accept4, and others */
#endif

/* Where files are of 64 bits <fcntl.h> redirects fcntl itself, and nothing is redirected twice: it gets another word for its own. */
#define fcntl STPbsd_unused_fcntl
#include <fcntl.h>
#undef fcntl
#include <netdb.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#ifdef __cplusplus
extern "C" {
#endif

/* How the C library's own headers redirect a call (<sys/cdefs.h>). */
extern int __REDIRECT_NTH(socket, (int, int, int), STPbsd_socket);
extern int __REDIRECT_NTH(bind, (int, __CONST_SOCKADDR_ARG, socklen_t), STPbsd_bind);
extern int __REDIRECT_NTH(listen, (int, int), STPbsd_listen);
extern int __REDIRECT(accept, (int, __SOCKADDR_ARG, socklen_t *__restrict), STPbsd_accept);
extern int __REDIRECT(accept4, (int, __SOCKADDR_ARG, socklen_t *__restrict, int), STPbsd_accept4);
extern int __REDIRECT(connect, (int, __CONST_SOCKADDR_ARG, socklen_t), STPbsd_connect);
extern int __REDIRECT_NTH(shutdown, (int, int), STPbsd_shutdown);
extern int __REDIRECT_NTH(getsockname, (int, __SOCKADDR_ARG, socklen_t *__restrict), STPbsd_getsockname);
extern int __REDIRECT_NTH(getpeername, (int, __SOCKADDR_ARG, socklen_t *__restrict), STPbsd_getpeername);
extern int __REDIRECT_NTH(getsockopt, (int, int, int, void *__restrict, socklen_t *__restrict), STPbsd_getsockopt);
extern int __REDIRECT_NTH(setsockopt, (int, int, int, const void *, socklen_t), STPbsd_setsockopt);
extern int __REDIRECT_NTH(epoll_ctl, (int, int, int, struct epoll_event *), STPbsd_epoll_ctl);
extern int __REDIRECT(fcntl, (int, int, ...), STPbsd_fcntl);
extern int __REDIRECT_NTH(ioctl, (int, unsigned long, ...), STPbsd_ioctl);
extern int __REDIRECT(close, (int), STPbsd_close);
extern int __REDIRECT_NTH(dup, (int), STPbsd_dup);
extern int __REDIRECT_NTH(dup2, (int, int), STPbsd_dup2);
extern int __REDIRECT_NTH(dup3, (int, int, int), STPbsd_dup3);
extern int __REDIRECT(getaddrinfo, (const char *__restrict, const char *__restrict, const struct addrinfo *__restrict, struct addrinfo
                       **__restrict), STPbsd_getaddrinfo);
extern int __REDIRECT(getnameinfo, (const struct sockaddr *__restrict, socklen_t, char *__restrict, socklen_t, char *__restrict, socklen_t,
                       int), STPbsd_getnameinfo);
extern struct hostent *__REDIRECT(gethostbyname, (const char *), STPbsd_gethostbyname);
extern struct hostent *__REDIRECT(gethostbyname2, (const char *, int), STPbsd_gethostbyname2);
extern struct hostent *__REDIRECT(gethostbyaddr, (const void *, socklen_t, int), STPbsd_gethostbyaddr);
extern int __REDIRECT(gethostbyname_r, (const char *__restrict, struct hostent *__restrict, char *__restrict, size_t, struct hostent
                       **__restrict, int *__restrict), STPbsd_gethostbyname_r);
extern int __REDIRECT(gethostbyname2_r, (const char *__restrict, int, struct hostent *__restrict, char *__restrict, size_t, struct hostent
                       **__restrict, int *__restrict), STPbsd_gethostbyname2_r);

#ifdef __cplusplus
}
#endif

#endif
