// getsockopt and setsockopt, STP's own options, fcntl.
#include <fcntl.h>
#include <netinet/tcp.h>
#include <sys/time.h>

#include "tests/api/fixture.h"

namespace stp::test {
namespace {

int int_option(int s, int option) {
  int value = -1;
  socklen_t length = sizeof value;
  EXPECT_EQ(STPgetsockopt(s, SOL_SOCKET, option, &value, &length), 0) << option;
  EXPECT_EQ(length, sizeof value);
  return value;
}

int stp_option(int s, int option) {
  int value = -1;
  socklen_t length = sizeof value;
  EXPECT_EQ(STPgetopt(s, option, &value, &length), 0) << option;
  return value;
}

}  // namespace

TEST(Options, SayWhatASocketIs) {
  const Owned s = open_socket();
  EXPECT_EQ(int_option(s, SO_TYPE), SOCK_STREAM);
  EXPECT_EQ(int_option(s, SO_DOMAIN), AF_STP);
  EXPECT_EQ(int_option(s, SO_PROTOCOL), PF_STP);
  EXPECT_EQ(int_option(s, SO_ACCEPTCONN), 0);
  EXPECT_EQ(int_option(s, SO_ERROR), 0);
  EXPECT_EQ(int_option(listening_socket(), SO_ACCEPTCONN), 1);
}

TEST(Options, AreReadBackAsSet) {
  const Owned s = open_socket();
  for (const int option : {SO_REUSEADDR, SO_KEEPALIVE}) {
    EXPECT_EQ(int_option(s, option), 0);
    const int on = 7;
    ASSERT_EQ(STPsetsockopt(s, SOL_SOCKET, option, &on, sizeof on), 0);
    EXPECT_EQ(int_option(s, option), 1);
  }
  for (const int option : {SO_SNDBUF, SO_RCVBUF}) {
    EXPECT_GT(int_option(s, option), 64 * 1024);
    const int bytes = 300'000;
    ASSERT_EQ(STPsetsockopt(s, SOL_SOCKET, option, &bytes, sizeof bytes), 0);
    EXPECT_EQ(int_option(s, option), bytes);
    const int tiny = 1;
    ASSERT_EQ(STPsetsockopt(s, SOL_SOCKET, option, &tiny, sizeof tiny), 0);
    EXPECT_EQ(int_option(s, option), 4096);
  }
  for (const int option : {SO_SNDTIMEO, SO_RCVTIMEO}) {
    const timeval set = {.tv_sec = 3, .tv_usec = 500'000};
    timeval got = {};
    socklen_t length = sizeof got;
    ASSERT_EQ(STPsetsockopt(s, SOL_SOCKET, option, &set, sizeof set), 0);
    ASSERT_EQ(STPgetsockopt(s, SOL_SOCKET, option, &got, &length), 0);
    EXPECT_EQ(got.tv_sec, 3);
    EXPECT_EQ(got.tv_usec, 500'000);
    const timeval wrong = {.tv_sec = 0, .tv_usec = 1'000'000};
    EXPECT_FAILS(STPsetsockopt(s, SOL_SOCKET, option, &wrong, sizeof wrong), EDOM);
  }
  const linger set = {.l_onoff = 1, .l_linger = 9};
  linger got = {};
  socklen_t length = sizeof got;
  ASSERT_EQ(STPsetsockopt(s, SOL_SOCKET, SO_LINGER, &set, sizeof set), 0);
  ASSERT_EQ(STPgetsockopt(s, SOL_SOCKET, SO_LINGER, &got, &length), 0);
  EXPECT_EQ(got.l_linger, 9);
  const linger off = {};
  ASSERT_EQ(STPsetsockopt(s, SOL_SOCKET, SO_LINGER, &off, sizeof off), 0);
}

TEST(Options, ThatThereAreNotAreRefused) {
  const Owned s = open_socket();
  int value = 1;
  socklen_t length = sizeof value;
  EXPECT_FAILS(STPsetsockopt(s, SOL_SOCKET, SO_BROADCAST, &value, sizeof value), ENOPROTOOPT);
  EXPECT_FAILS(STPgetsockopt(s, SOL_SOCKET, SO_BROADCAST, &value, &length), ENOPROTOOPT);
  EXPECT_FAILS(STPsetsockopt(s, SOL_SOCKET, SO_ERROR, &value, sizeof value), ENOPROTOOPT);
  EXPECT_FAILS(STPsetsockopt(s, IPPROTO_TCP, TCP_NODELAY, &value, sizeof value), ENOPROTOOPT);
  EXPECT_FAILS(STPsetsockopt(s, SOL_SOCKET, SO_SNDBUF, &value, 1), EINVAL);
  EXPECT_FAILS(STPsetsockopt(s, SOL_SOCKET, SO_SNDBUF, nullptr, sizeof value), EFAULT);
  EXPECT_FAILS(STPgetsockopt(s, SOL_SOCKET, SO_TYPE, nullptr, &length), EFAULT);
  EXPECT_FAILS(STPgetopt(s, 999, &value, &length), ENOPROTOOPT);
  EXPECT_FAILS(STPsetopt(s, STP_OPT_SCB, &value, sizeof value), ENOPROTOOPT);
}

TEST(Options, OfTheProgramNeedNoSocket) {
  const Owned s = open_socket();
  for (const int option : {STP_OPT_POLL_MAX_US, STP_OPT_INLINE_MAX, STP_OPT_SPIN_US}) {
    const int before = stp_option(-1, option);
    int other = before + 100;
    ASSERT_EQ(STPsetopt(-1, option, &other, sizeof other), 0);
    EXPECT_EQ(stp_option(s, option), other);
    int wrong = -1;
    EXPECT_FAILS(STPsetopt(-1, option, &wrong, sizeof wrong), EINVAL);
    int again = before;
    ASSERT_EQ(STPsetopt(s, option, &again, sizeof again), 0);
  }
  int value = 0;
  socklen_t length = sizeof value;
  EXPECT_FAILS(STPgetopt(-1, STP_OPT_SCB, &value, &length), EBADF);
}

TEST(Options, SayWhichSocketControlBlockASocketHas) {
  const Owned a = open_socket();
  const Owned b = open_socket();
  EXPECT_NE(stp_option(a, STP_OPT_SCB), stp_option(b, STP_OPT_SCB));
}

TEST(Control, SetsAndShowsNonBlocking) {
  const Owned s = open_socket();
  EXPECT_EQ(STPfcntl(s, F_GETFL), O_RDWR);
  ASSERT_EQ(STPfcntl(s, F_SETFL, O_NONBLOCK), 0);
  EXPECT_EQ(STPfcntl(s, F_GETFL), O_RDWR | O_NONBLOCK);
  ASSERT_EQ(STPfcntl(s, F_SETFL, 0), 0);
  EXPECT_EQ(STPfcntl(s, F_GETFL), O_RDWR);
  ASSERT_EQ(STPfcntl(s, F_SETFD, FD_CLOEXEC), 0);
  EXPECT_EQ(STPfcntl(s, F_GETFD), FD_CLOEXEC);
  EXPECT_FAILS(STPfcntl(s, F_SETOWN, 1), EINVAL);
}

TEST(Errors, AreOfTheThreadAndTheSocket) {
  const Owned a = open_socket();
  const Owned b = open_socket();
  EXPECT_FAILS(connect_to(a, "omega", 1), EHOSTUNREACH);
  EXPECT_FAILS(STPlisten(-1, 1), EBADF);
  EXPECT_EQ(STPerror(a), STP_EUNKNOWNHOST);
  EXPECT_EQ(STPerror(b), STP_OK);
  EXPECT_STREQ(STPstrerror(b), "no error");
  EXPECT_EQ(STPerror(-1), STP_OK) << "EBADF has no STP-specific reason";
}

}  // namespace stp::test
