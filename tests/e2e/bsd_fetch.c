#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
/* bsd_fetch HOST PORT PATH: fetches by HTTP 1.0 and writes it to standard output. Knows nothing of STP; compiled with <stp/bsd.h>. */
int main(int argc, char **argv) {
  struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *list = NULL;
  struct { int connect, bind, accept; } member = {1, 2, 3};
  if (argc < 4 || member.connect != 1 || getaddrinfo(argv[1], argv[2], &hints, &list) != 0) return 1;
  int s = socket(list->ai_family, list->ai_socktype, 0);
  if (connect(s, list->ai_addr, list->ai_addrlen) != 0) { perror("connect"); return 2; }
  dprintf(s, "GET %s HTTP/1.0\r\n\r\n", argv[3]);
  static char buffer[65536];
  ssize_t n;
  while ((n = read(s, buffer, sizeof buffer)) > 0) fwrite(buffer, 1, (size_t)n, stdout);
  return n == 0 ? 0 : 3;
}
