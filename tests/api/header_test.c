/* The header and the library as a C program meets them: compiled as C89 and as C99, linked with libstp.so. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "hostlib/stp.h"

static int failures = 0;

static void check(int holds, const char *what) {
  if (!holds) {
    fprintf(stderr, "does not hold: %s\n", what);
    failures++;
  }
}

int main(void) {
  struct sockaddr_stp address;
  memset(&address, 0, sizeof address);
  address.stp_family = AF_STP;
  check(sizeof address <= sizeof(struct sockaddr_storage), "an address fits into sockaddr_storage");
  errno = 0;
  check(STPsocket(AF_INET, SOCK_STREAM, 0) == -1 && errno == EAFNOSUPPORT, "another family is refused");
  errno = 0;
  check(STPconnect(0, (const struct sockaddr *)&address, sizeof address) == -1 && errno == EBADF, "standard input is no STP socket");
  check(STPerror(-1) == STP_OK, "EBADF has no STP-specific reason");
  check(strlen(STPstrerror(-1)) > 0, "but words");
  return failures != 0;
}
