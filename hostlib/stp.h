/* STP sockets: BSD-style stream sockets through a shared block device or file.
 *
 * Every call behaves as the BSD call of the same name: it returns -1 and sets errno on failure (where it differs from Linux,
 * DIFFERENCES.md says how and why). STPerror() and STPstrerror() give the STP-specific reason behind the errno. All calls are thread-safe; on one socket
 * one thread may send while another receives. A thread that ends
 * may stay until its I/O has completed, for 20 ms at most. A socket is a small non-negative integer and a real descriptor number of the process (it never collides with a file's), but it is for STP calls only.
 *
 * Environment: STP_STG   path of the data storage system (needed where no agent serves)
 *              STP_HOST  my host name (default: the short host name of the machine)
 *              STP_AGENT socket of the agent (default: /run/stp/agent.sock); none: no agent
 *              STP_IO    uring or threads: forces one way of doing direct I/O
 *              STP_DEBUG 1: say on stderr what happens
 *              STP_FAULTS faults on purpose, to try a program under them, as in delay=5ms@1%,eio=0.1%,torn=0.01%,flip=1e-6,seed=7 (the README
 *                        has them all); for the I/O of this program, hence without an agent
 *
 * Where an agent serves that storage and host name, the first call that needs it connects to the agent, and the program needs no
 * access to the storage. When the agent ends, all sockets end with ECONNRESET (STP_EAGENT); the library finds the next one by
 * itself, and listening sockets go on with it. After fork, parent and child share the sockets that were open, as they would the
 * kernel's: each reads and writes where the other left off, and a conversation ends when both have closed it. A child that ends by
 * _exit without having closed what it alone still has resets it. Descriptors of STPgetpollfd are not shared: the child asks for its own.
 * A child gets the sockets only if it leaves the library's descriptors alone until its first STP call; else its calls on them fail with
 * ENOTSUP (STP_EFORKED), and new ones work. So do those of a child that would be the 1025th process to have one of them. After an agent has ended, a listener that was shared goes on in one of the processes.
 *
 * Else the engine runs in this program: the first call that needs it joins the storage system; that takes milliseconds where the host was a member before
 * on this kernel, T_join of the storage's timing profile where not. Several programs of one host side by side are
 * NAME, NAME~2, NAME~3, ...; a connect to NAME finds the port among them. After fork, STP calls fail in
 * the child of such a program with ENOTSUP (STP_EFORKED).
 *
 * Source: the seed document "Communication mechanism and method for easily transferring information between
 * processes"; the socket calls of POSIX.1-2017 where it is silent.
 */
#ifndef STP_STP_H
#define STP_STP_H

#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>

#ifdef __cplusplus
extern "C" {
#endif
#ifdef __GNUC__
#pragma GCC visibility push(default) /* the library hides everything else */
#endif

#define PF_STP 0x5354
#define AF_STP PF_STP

/* An address. Port in network byte order as in sockaddr_in. Names are NUL-terminated, [a-z0-9-], case ignored;
 * an empty name is "mine" in STPbind and "the default" elsewhere. */
struct sockaddr_stp {
  sa_family_t stp_family; /* AF_STP */
  in_port_t stp_port;
  char stp_system[64]; /* host name, at most 63 */
  char stp_stg[32];    /* storage group name, at most 31 */
};

/* STP-specific reasons: STPerror(). */
enum {
  STP_OK = 0,
  STP_ENOLISTENER = 1,
  STP_EBACKLOG = 2,
  STP_ENOSOCKETS = 3,
  STP_EUNKNOWNHOST = 4,
  STP_EHOSTDEAD = 5,
  STP_EHOSTLEFT = 6,
  STP_EONEWAY = 7,
  STP_ESILENT = 8,
  STP_ECLOSED = 9,
  STP_EABORTED = 10,
  STP_EDAMAGED = 11,
  STP_EPROTOCOL = 12,
  STP_EFENCED = 13,
  STP_EREFUSED = 14,
  STP_ESTOPPED = 15,
  STP_ESTORAGE = 16,
  STP_EFORKED = 17,
  STP_ENOTJOINED = 18,
  STP_EPORTINUSE = 19,
  STP_ENOPORTS = 20,
  STP_ELISTENERCLOSED = 21,
  STP_ESENDBUFFER = 22,
  STP_ESTUCK = 23,
  STP_ENOMEMORY = 24,
  STP_EOTHERSTG = 25,
  STP_ENOTYET = 26,
  STP_EAGENT = 27,
  STP_ENEEDSAGENT = 28,
  STP_EGIVENAWAY = 29,
  STP_ESHARED = 30,
  STP_ENOTAKER = 31,
  STP_ENOTGIVEN = 32
};

/* STP-specific options: STPgetopt(), STPsetopt(). All values are int. POLL_MAX_US, INLINE_MAX and SPIN_US are of the whole
 * program (any socket, or -1, names it); the others of one socket. */
enum {
  STP_OPT_POLL_MAX_US = 1,          /* slowest look at the storage when idle, default 12000 */
  STP_OPT_INLINE_MAX = 2,           /* up to so many bytes travel in packets, default 16384 */
  STP_OPT_CONNECT_WAITS_ACCEPT = 3, /* 1: STPconnect completes when the peer accepts; 0 (default): when it is queued */
  STP_OPT_SPIN_US = 4,              /* a waiting thread looks and yields so long before it sleeps, default 200; an embedded
                                     * host does not while bulk data is on its way to or from the storage */
  STP_OPT_SCB = 5,                  /* read only: number of the socket control block */
  STP_OPT_CONNECT_TIMEOUT_MS = 6    /* 0 (default): from the storage's timing profile */
};

/* Makes a socket: domain AF_STP, type SOCK_STREAM (| SOCK_NONBLOCK | SOCK_CLOEXEC), protocol PF_STP or 0.
 * EAFNOSUPPORT, ESOCKTNOSUPPORT, EPROTONOSUPPORT, ENFILE (no SCB free), EMFILE; when joining fails:
 * ENETDOWN or what the storage said, and STPstrerror says it in words. */
int STPsocket(int domain, int type, int protocol);
int STPbind(int s, const struct sockaddr *address, socklen_t length); /* port 0: a free one from the port file */
int STPlisten(int s, int backlog);
int STPaccept(int s, struct sockaddr *address, socklen_t *length);
int STPaccept4(int s, struct sockaddr *address, socklen_t *length, int flags);
/* A failure that STPconnect itself gives leaves the socket as it was: it may listen, or connect again. What was connected once is not connected again. */
int STPconnect(int s, const struct sockaddr *address, socklen_t length);

/* Flags: MSG_DONTWAIT, MSG_NOSIGNAL (as with send(2), EPIPE raises SIGPIPE without it); for STPrecv also MSG_PEEK, MSG_WAITALL.
 * Others: EOPNOTSUPP. A blocking send without a timeout may take as long as the device takes for one small write. */
ssize_t STPsend(int s, const void *data, size_t length, int flags);
ssize_t STPrecv(int s, void *into, size_t length, int flags);
ssize_t STPreadv(int s, const struct iovec *into, int count);
ssize_t STPwritev(int s, const struct iovec *data, int count);

/* Waits, bounded, until what was sent is in the peer host's memory (SO_LINGER changes that: {1, 0} aborts; a non-blocking
 * socket does not wait, the end of the process does). -1 with ECONNRESET or ETIMEDOUT: not all of it arrived. */
int STPclose(int s);
int STPshutdown(int s, int how); /* 0 or SHUT_RD, 1 or SHUT_WR, 2 or SHUT_RDWR */

/* h_addr_list holds struct sockaddr_stp; h_length is its size. NULL sets h_errno (HOST_NOT_FOUND, TRY_AGAIN). The result is
 * the calling thread's until its next call. */
struct hostent *STPgethostbyname(const char *name);
/* The socket's own address; assigns a default one (a free port) when it has none. */
int STPgethostname(int s, struct sockaddr *address, socklen_t *length);
int STPgetsockname(int s, struct sockaddr *address, socklen_t *length); /* port 0 when not bound */
int STPgetpeername(int s, struct sockaddr *address, socklen_t *length);

/* SO_SNDBUF is the most that a socket holds for its peer (default 8 MiB). Sockets that send bulk at the same time hold less:
 * 8 MiB divided by how many they are, but 512 KiB each, so that what all of them hold stays in the processor's caches. */
/* SOL_SOCKET: SO_ERROR SO_TYPE SO_DOMAIN SO_PROTOCOL SO_ACCEPTCONN SO_SNDBUF SO_RCVBUF SO_SNDTIMEO SO_RCVTIMEO SO_LINGER
 * SO_REUSEADDR SO_KEEPALIVE SO_BROADCAST(ENOPROTOOPT). Others ENOPROTOOPT. */
int STPgetsockopt(int s, int level, int option, void *value, socklen_t *length);
int STPsetsockopt(int s, int level, int option, const void *value, socklen_t length);
int STPfcntl(int s, int command, ... /* int */);               /* F_GETFL F_SETFL(O_NONBLOCK) F_GETFD F_SETFD */
int STPioctl(int s, unsigned long request, ... /* int * */);   /* FIONBIO FIONREAD SIOCOUTQ */

/* poll(2) over STP sockets and ordinary descriptors mixed, level-triggered. POLLIN, POLLOUT, POLLRDHUP, POLLERR, POLLHUP as a TCP socket gives them;
 * POLLPRI never. EINTR whenever a signal handler ran. With STP sockets alone the calling thread finds its events itself;
 * ordinary descriptors beside them cost a wake-up by another thread. */
int STPpoll(struct pollfd *descriptors, nfds_t count, int timeout_ms);
/* select(2) over the same; `timeout` is left with what remained of it. */
int STPselect(int count, fd_set *readable, fd_set *writable, fd_set *exceptional, struct timeval *timeout);
/* A descriptor to put into poll, epoll, libuv or asio: readable while any of `events` (POLLIN | POLLOUT; POLLERR and POLLHUP always count) is
 * true of the socket. Do not read it. It is the socket's: repeated calls with the same events give the same one, and STPclose closes it.
 * EINVAL, EMFILE, ENFILE. */
int STPgetpollfd(int s, short events);

/* Handing a connected or listening socket to another process of the host; both are served by one agent (ENOTSUP, STP_ENEEDSAGENT where
 * there is none). The taker tells its client id to the giver, the giver its own and the socket's number to the taker, by
 * whatever means they have.
 *
 * STPgivesocket: the socket leaves this process at once, what was not sent or read yet goes along; its number is good for STPclose
 * only (EBADF, STP_EGIVENAWAY), which does not touch the conversation, and is not used anew before. With stp_program 0 in `taker` any process
 * of this process's user may take it. Until it is taken the agent holds it; after a minute, or when the taker ends, it is reset. ESRCH: no such
 * taker; EBUSY (STP_ESHARED): a child or parent has it too; ENOTCONN.
 * STPtakesocket: the new number; of several that this process may take under one number the one given first. ENOENT (STP_ENOTGIVEN): not given, or taken, or given up; EACCES: given to another one; ESRCH: `giver` is of
 * an agent that has ended. Options are as in a new socket. */
struct stp_clientid {
  char stp_system[64];  /* the host's instance name */
  uint64_t stp_agent;   /* which life of its agent */
  uint32_t stp_program; /* the agent's number of the process */
  uint32_t stp_pid;     /* for people */
  char stp_spare[48];   /* 0 */
};
int STPgetclientid(struct stp_clientid *id);
int STPgivesocket(int s, const struct stp_clientid *taker);
int STPtakesocket(const struct stp_clientid *giver, int givers_socket);

int STPgetopt(int s, int option, void *value, socklen_t *length);
int STPsetopt(int s, int option, void *value, socklen_t length);

/* The STP_E... reason of the last failed call of this thread on `s` (or on any socket: s = -1). */
int STPerror(int s);
/* The same in words, with what happened, to which object, and what to do. The calling thread's until its next call. */
const char *STPstrerror(int s);

#ifdef __GNUC__
#pragma GCC visibility pop
#endif
#ifdef __cplusplus
}
#endif

#endif
