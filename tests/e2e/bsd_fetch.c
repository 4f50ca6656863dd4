#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>
/* bsd_fetch HOST PORT PATH: fetches by HTTP 1.0 and writes it to standard output. Knows nothing of STP; compiled with <stp/bsd.h>. */
int main(int argc, char **argv) {
  struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *list = NULL;
  struct { int connect, bind, accept, fcntl, ioctl; } member = {1, 2, 3, 4, 5};
  if (argc < 4 || member.connect != 1 || member.fcntl != 4 || getaddrinfo(argv[1], argv[2], &hints, &list) != 0) return 1;
  int s = socket(list->ai_family, list->ai_socktype, 0);
  int copy = fcntl(s, F_DUPFD_CLOEXEC, 100); /* of one that is not connected: connected with it */
  if (copy < 100 || fcntl(copy, F_GETFD) != FD_CLOEXEC || fcntl(s, F_SETFL, O_NONBLOCK) != 0) return 4;
  if (connect(s, list->ai_addr, list->ai_addrlen) != 0 && errno != EINPROGRESS) { perror("connect"); return 2; }
  struct pollfd wait = {.fd = copy, .events = POLLOUT};
  socklen_t length = sizeof errno;
  if (poll(&wait, 1, 10000) != 1 || getsockopt(s, SOL_SOCKET, SO_ERROR, &errno, &length) != 0) return 5;
  if (errno != 0) { perror("connect"); return 2; }
  int off = 0, there = -1;
  if (fcntl(copy, F_GETFL) != (O_RDWR | O_NONBLOCK) || ioctl(s, FIONBIO, &off) != 0 || fcntl(copy, F_GETFL) != O_RDWR) return 6;
  struct sockaddr_storage peer;
  length = sizeof peer;
  if (getpeername(copy, (struct sockaddr *)&peer, &length) != 0 || peer.ss_family != list->ai_family) return 7;
  dprintf(s, "GET %s HTTP/1.0\r\n\r\n", argv[3]);
  wait.events = POLLIN;
  if (poll(&wait, 1, 10000) != 1 || ioctl(copy, FIONREAD, &there) != 0 || there <= 0) return 8;
  close(s);
  static char buffer[65536];
  ssize_t n;
  while ((n = read(copy, buffer, sizeof buffer)) > 0) fwrite(buffer, 1, (size_t)n, stdout);
  return n == 0 ? 0 : 3;
}
