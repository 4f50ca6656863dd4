// What programs meet at the edges: failed connects, conversations that are over, addresses and buffers that are none. Each was found by
// doing the same on the kernel's sockets (tests/differential).
#include <fcntl.h>
#include <poll.h>
#include <sys/uio.h>

#include "tests/api/fixture.h"

namespace stp::test {
namespace {

constexpr short kAll = POLLIN | POLLOUT | POLLRDHUP;

short events_of(int s, short events = kAll) {
  pollfd one = {.fd = s, .events = events, .revents = 0};
  EXPECT_GE(STPpoll(&one, 1, 0), 0);
  return one.revents;
}

bool comes(int s, short events) {
  return within(std::chrono::seconds(10), [=] { return (events_of(s) & events) == events; });
}

std::uint16_t unused_port() {
  const Owned gone = listening_socket();
  return port_of(gone);
}

int error_of(int s) {
  int error = -1;
  socklen_t length = sizeof error;
  EXPECT_EQ(STPgetsockopt(s, SOL_SOCKET, SO_ERROR, &error, &length), 0);
  return error;
}

void close_with_reset(Owned& s) {
  const linger abort = {.l_onoff = 1, .l_linger = 0};
  ASSERT_EQ(STPsetsockopt(s, SOL_SOCKET, SO_LINGER, &abort, sizeof abort), 0);
  ASSERT_EQ(s.close(), 0);
}

// A client whose peer has reset the conversation, which nobody told it yet.
Owned reset_client() {
  Pair pair = connected_pair();
  close_with_reset(pair.server);
  EXPECT_TRUE(comes(pair.client, POLLERR | POLLHUP));
  return std::move(pair.client);
}

}  // namespace

TEST(ConnectEdges, AFailureThatConnectTellsLeavesTheSocketAsItWas) {
  const Owned s = open_socket();
  EXPECT_FAILS(connect_to(s, "", unused_port()), ECONNREFUSED);
  EXPECT_EQ(events_of(s), POLLOUT | POLLHUP);
  char byte = 0;
  EXPECT_FAILS(STPrecv(s, &byte, 1, 0), ENOTCONN);
  const Owned listener = listening_socket();
  EXPECT_EQ(connect_to(s, "", port_of(listener)), 0) << STPstrerror(s);
  const Owned other = open_socket();
  EXPECT_FAILS(connect_to(other, "", unused_port()), ECONNREFUSED);
  EXPECT_EQ(STPlisten(other, 1), 0) << STPstrerror(other);
  EXPECT_EQ(connect_to(open_socket(), "", port_of(other)), 0) << STPstrerror(-1);
  EXPECT_GE(Owned(STPaccept(other, nullptr, nullptr)).get(), 0);
}

TEST(ConnectEdges, AFailureThatAnotherCallToldIsNoSuccess) {
  const Owned s = open_socket(SOCK_NONBLOCK);
  EXPECT_FAILS(connect_to(s, "", unused_port()), EINPROGRESS);
  ASSERT_TRUE(comes(s, POLLERR));
  EXPECT_EQ(error_of(s), ECONNREFUSED);
  EXPECT_FAILS(connect_to(s, "", unused_port()), ECONNABORTED);
  const Owned listener = listening_socket();
  EXPECT_FAILS(connect_to(s, "", port_of(listener)), EINPROGRESS);
  EXPECT_GE(Owned(STPaccept(listener, nullptr, nullptr)).get(), 0);
}

TEST(ConnectEdges, NonBlockingGives0WhenItHasEndedAndEisconnFromThenOn) {
  const Owned listener = listening_socket();
  const Owned s = open_socket(SOCK_NONBLOCK);
  EXPECT_FAILS(connect_to(s, "", port_of(listener)), EINPROGRESS);
  ASSERT_TRUE(comes(s, POLLOUT));
  EXPECT_EQ(connect_to(s, "", port_of(listener)), 0);
  EXPECT_FAILS(connect_to(s, "", port_of(listener)), EISCONN);
}

TEST(ConnectEdges, ThePeerHasANameAsSoonAsTheConnectHasEnded) {
  const Owned listener = listening_socket();
  const Owned s = open_socket(SOCK_NONBLOCK);
  EXPECT_FAILS(connect_to(s, "", port_of(listener)), EINPROGRESS);
  ASSERT_TRUE(comes(s, POLLOUT));
  EXPECT_EQ(error_of(s), 0);
  sockaddr_stp peer = {};
  socklen_t length = sizeof peer;
  EXPECT_EQ(STPgetpeername(s, raw(peer), &length), 0) << STPstrerror(s);
  EXPECT_EQ(ntohs(peer.stp_port), port_of(listener));
}

TEST(ConnectEdges, TheSocketIsLookedAtBeforeTheAddressIs) {
  const Pair pair = connected_pair();
  sockaddr_stp address = address_of("", 1);
  address.stp_family = AF_INET;
  EXPECT_FAILS(STPconnect(pair.client, raw(address), sizeof address), EISCONN);
  EXPECT_FAILS(STPconnect(pair.client, raw(address), 8), EISCONN);
  EXPECT_FAILS(STPconnect(pair.client, nullptr, sizeof address), EFAULT);
  EXPECT_FAILS(STPconnect(pair.client, raw(address), 1000), EINVAL);
  EXPECT_FAILS(STPconnect(open_socket(), raw(address), 8), EINVAL);
}

TEST(OverEdges, AResetConversationHasNoPeerIsNotShutAndDoesNotBeginAgain) {
  const Owned listener = listening_socket();
  const Owned s = reset_client();
  sockaddr_stp peer = {};
  socklen_t length = sizeof peer;
  EXPECT_FAILS(STPgetpeername(s, raw(peer), &length), ENOTCONN);
  EXPECT_FAILS(STPshutdown(s, SHUT_RDWR), ENOTCONN);
  EXPECT_FAILS(connect_to(s, "", port_of(listener)), EISCONN);
  EXPECT_EQ(events_of(s), kAll | POLLERR | POLLHUP);
  EXPECT_EQ(error_of(s), ECONNRESET);
  EXPECT_EQ(events_of(s), kAll | POLLHUP);
}

TEST(OverEdges, AResetIsToldToASenderThatHadShutItsDirection) {
  Pair pair = connected_pair();
  ASSERT_EQ(STPshutdown(pair.client, SHUT_WR), 0);
  close_with_reset(pair.server);
  ASSERT_TRUE(comes(pair.client, POLLERR));
  char byte = 0;
  EXPECT_FAILS(STPsend(pair.client, &byte, 1, MSG_NOSIGNAL), ECONNRESET);
  EXPECT_FAILS(STPsend(pair.client, &byte, 1, MSG_NOSIGNAL), EPIPE);
}

TEST(OverEdges, AResetIsToldToAReceiverThatHadShutItsDirection) {
  Pair pair = connected_pair();
  ASSERT_EQ(STPshutdown(pair.client, SHUT_RD), 0);
  close_with_reset(pair.server);
  ASSERT_TRUE(comes(pair.client, POLLERR));
  char byte = 0;
  EXPECT_FAILS(STPrecv(pair.client, &byte, 1, 0), ECONNRESET);
  EXPECT_EQ(STPrecv(pair.client, &byte, 1, 0), 0);
}

TEST(OverEdges, WhatThePeerLeftUnreadIsToldAlsoWhenBothHadEnded) {
  Pair pair = connected_pair();
  ASSERT_TRUE(send_all(pair.client, pattern(1000)));
  ASSERT_TRUE(comes(pair.server, POLLIN));
  ASSERT_EQ(STPshutdown(pair.client, SHUT_RDWR), 0);
  (void)pair.server.close();
  EXPECT_TRUE(comes(pair.client, POLLERR | POLLHUP));
  EXPECT_EQ(error_of(pair.client), ECONNRESET);
}

TEST(PollEdges, TheEndIsShownWhenItComesNotOnlyWhenAllWasRead) {
  const Pair pair = connected_pair();
  ASSERT_TRUE(send_all(pair.client, pattern(1000)));
  ASSERT_EQ(STPshutdown(pair.client, SHUT_WR), 0);
  EXPECT_TRUE(comes(pair.server, POLLIN | POLLRDHUP));
  EXPECT_EQ(events_of(pair.server), kAll);
  ASSERT_EQ(STPshutdown(pair.server, SHUT_WR), 0);
  EXPECT_EQ(events_of(pair.server), kAll | POLLHUP);
  EXPECT_EQ(receive_to_end(pair.server), pattern(1000));
}

TEST(PollEdges, TheEndOfReadingIsAnEnd) {
  const Pair pair = connected_pair();
  ASSERT_EQ(STPshutdown(pair.client, SHUT_RD), 0);
  EXPECT_EQ(events_of(pair.client), kAll);
  ASSERT_EQ(STPshutdown(pair.client, SHUT_WR), 0);
  EXPECT_EQ(events_of(pair.client), kAll | POLLHUP);
}

TEST(NullEdges, NoMemoryIsNoticedWhenThereIsSomethingToCopy) {
  const Pair pair = connected_pair();
  EXPECT_FAILS(STPrecv(open_socket(), nullptr, 1, 0), ENOTCONN);
  EXPECT_FAILS(STPsend(open_socket(), nullptr, 1, MSG_NOSIGNAL), ENOTCONN);
  EXPECT_FAILS(STPrecv(pair.server, nullptr, 1, MSG_DONTWAIT), EAGAIN);
  EXPECT_FAILS(STPsend(pair.client, nullptr, 1, MSG_NOSIGNAL), EFAULT);
  ASSERT_TRUE(send_all(pair.client, pattern(10)));
  ASSERT_TRUE(comes(pair.server, POLLIN));
  EXPECT_FAILS(STPrecv(pair.server, nullptr, 1, 0), EFAULT);
  const iovec nowhere = {.iov_base = nullptr, .iov_len = 10};
  EXPECT_FAILS(STPreadv(pair.server, &nowhere, 1), EFAULT);
  EXPECT_FAILS(STPwritev(pair.server, &nowhere, 1), EFAULT);
  EXPECT_FAILS(STPreadv(pair.server, nullptr, 1), EFAULT);
  EXPECT_FAILS(STPwritev(pair.server, nullptr, 1), EFAULT);
  EXPECT_FAILS(STPwritev(pair.server, nullptr, -1), EINVAL);
  EXPECT_EQ(receive_exactly(pair.server, 10), pattern(10));
}

TEST(NullEdges, LengthsThatAreNoneAreRefused) {
  const Pair pair = connected_pair();
  sockaddr_stp address = {};
  socklen_t negative = static_cast<socklen_t>(-1);
  EXPECT_FAILS(STPgetsockname(pair.client, raw(address), &negative), EINVAL);
  EXPECT_FAILS(STPgetpeername(pair.client, raw(address), &negative), EINVAL);
  socklen_t none = 0;
  EXPECT_EQ(STPgetsockname(pair.client, nullptr, &none), 0);
  EXPECT_EQ(none, sizeof address);
  int value = 0;
  EXPECT_FAILS(STPgetsockopt(pair.client, SOL_SOCKET, SO_TYPE, &value, &negative), EINVAL);
  EXPECT_FAILS(STPgetsockopt(pair.client, SOL_SOCKET, 9999, &value, nullptr), EFAULT);
  EXPECT_FAILS(STPsetsockopt(pair.client, SOL_SOCKET, 9999, &value, 3), EINVAL);
  EXPECT_FAILS(STPsetsockopt(pair.client, SOL_SOCKET, SO_KEEPALIVE, nullptr, sizeof value), EFAULT);
  EXPECT_FAILS(STPioctl(pair.client, 0x1234, nullptr), ENOTTY);
  EXPECT_FAILS(STPsocket(AF_STP, 15, 0), EINVAL);
}

TEST(NullEdges, AnAcceptWithNoPlaceForTheAddressLosesNoConnection) {
  const Owned listener = listening_socket();
  ASSERT_EQ(STPfcntl(listener, F_SETFL, O_NONBLOCK), 0);
  sockaddr_stp address = {};
  EXPECT_FAILS(STPaccept(listener, raw(address), nullptr), EAGAIN);
  const Owned s = open_socket();
  ASSERT_EQ(connect_to(s, "", port_of(listener)), 0) << STPstrerror(s);
  ASSERT_TRUE(comes(listener, POLLIN));
  EXPECT_FAILS(STPaccept(listener, raw(address), nullptr), EFAULT);
  EXPECT_GE(Owned(STPaccept(listener, nullptr, nullptr)).get(), 0);
}

}  // namespace stp::test
