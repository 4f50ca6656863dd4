// Making, naming, listening, connecting, closing: what a BSD programmer expects, to the errno.
#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <cstring>
#include <set>
#include <thread>

#include "tests/api/fixture.h"

namespace stp::test {

TEST(Sockets, RefusesOtherFamiliesTypesAndProtocols) {
  EXPECT_FAILS(STPsocket(AF_INET, SOCK_STREAM, 0), EAFNOSUPPORT);
  EXPECT_FAILS(STPsocket(AF_STP, SOCK_DGRAM, 0), ESOCKTNOSUPPORT);
  EXPECT_FAILS(STPsocket(AF_STP, SOCK_STREAM, IPPROTO_TCP), EPROTONOSUPPORT);
  EXPECT_GE(Owned(STPsocket(PF_STP, SOCK_STREAM, PF_STP)).get(), 0);
}

TEST(Sockets, AreDescriptorNumbersOfTheProcess) {
  const Owned s = open_socket();
  EXPECT_EQ(::fcntl(s, F_GETFD), 0);
  const Owned exec = open_socket(SOCK_CLOEXEC);
  EXPECT_EQ(::fcntl(exec, F_GETFD), FD_CLOEXEC);
  const int file = ::open("/dev/null", O_RDONLY);
  EXPECT_NE(file, s.get());
  EXPECT_NE(file, exec.get());
  ::close(file);
}

TEST(Sockets, ANumberIsFreeForOthersOnceClosed) {
  Owned s = open_socket();
  const int number = s.get();
  EXPECT_EQ(s.close(), 0);
  EXPECT_EQ(::fcntl(number, F_GETFD), -1);
  EXPECT_FAILS(STPclose(number), EBADF);
}

TEST(Sockets, OtherDescriptorsAreNoSockets) {
  char byte = 0;
  sockaddr_stp address = address_of("", 0);
  socklen_t length = sizeof address;
  for (const int s : {-1, STDIN_FILENO, 100000}) {
    EXPECT_FAILS(STPsend(s, &byte, 1, 0), EBADF);
    EXPECT_FAILS(STPrecv(s, &byte, 1, 0), EBADF);
    EXPECT_FAILS(STPbind(s, raw(address), sizeof address), EBADF);
    EXPECT_FAILS(STPlisten(s, 1), EBADF);
    EXPECT_FAILS(STPaccept(s, nullptr, nullptr), EBADF);
    EXPECT_FAILS(STPconnect(s, raw(address), sizeof address), EBADF);
    EXPECT_FAILS(STPshutdown(s, SHUT_RDWR), EBADF);
    EXPECT_FAILS(STPgetsockname(s, raw(address), &length), EBADF);
    EXPECT_FAILS(STPfcntl(s, F_GETFL), EBADF);
    EXPECT_FAILS(STPclose(s), EBADF);
  }
}

TEST(Sockets, SurviveThatTheProgramClosesTheirDescriptor) {
  Owned s = open_socket();
  const int number = s.get();
  ::close(number);
  EXPECT_FAILS(STPlisten(s, 1), EBADF);
  // The kernel gives the number to a file: it is not ours to close.
  const int file = ::open("/dev/null", O_RDONLY);
  ASSERT_EQ(file, number);
  EXPECT_FAILS(STPclose(s.release()), EBADF);
  EXPECT_NE(::fcntl(file, F_GETFD), -1);
  ::close(file);
  // ... or to the next socket, which has nothing to do with the old one.
  const Owned old = open_socket();
  ::close(old.get());
  Owned next = open_socket();
  EXPECT_EQ(next.get(), old.get());
  EXPECT_EQ(STPlisten(next, 1), 0) << STPstrerror(next);
  (void)const_cast<Owned&>(old).release();
}

TEST(Bind, GivesAFreePortWhenNoneIsNamed) {
  const Owned a = open_socket();
  const Owned b = open_socket();
  const sockaddr_stp any = address_of("", 0);
  EXPECT_EQ(port_of(a), 0);
  ASSERT_EQ(STPbind(a, raw(any), sizeof any), 0);
  ASSERT_EQ(STPbind(b, raw(any), sizeof any), 0);
  EXPECT_NE(port_of(a), 0);
  EXPECT_NE(port_of(a), port_of(b));
}

TEST(Bind, RefusesAPortThatIsTaken) {
  const Owned first = listening_socket();
  const Owned second = open_socket();
  const sockaddr_stp taken = address_of("", port_of(first));
  EXPECT_FAILS(STPbind(second, raw(taken), sizeof taken), EADDRINUSE);
  EXPECT_EQ(STPerror(second), STP_EPORTINUSE);
  EXPECT_NE(std::string(STPstrerror(second)).find(std::to_string(port_of(first))), std::string::npos) << STPstrerror(second);
}

TEST(Bind, RefusesASecondTime) {
  const Owned s = listening_socket();
  const sockaddr_stp any = address_of("", 0);
  EXPECT_FAILS(STPbind(s, raw(any), sizeof any), EINVAL);
}

TEST(Bind, TakesItsOwnNamesAndNoOther) {
  for (const char* name : {"", "alpha", "ALPHA", "localhost"}) {
    const sockaddr_stp mine = address_of(name, 0);
    EXPECT_EQ(STPbind(open_socket(), raw(mine), sizeof mine), 0) << name;
  }
  const sockaddr_stp other = address_of("omega", 0);
  EXPECT_FAILS(STPbind(open_socket(), raw(other), sizeof other), EADDRNOTAVAIL);
  sockaddr_stp group = address_of("", 0);
  std::strcpy(group.stp_stg, "elsewhere");
  const Owned s = open_socket();
  EXPECT_FAILS(STPbind(s, raw(group), sizeof group), EADDRNOTAVAIL);
  EXPECT_EQ(STPerror(s), STP_EOTHERSTG);
}

TEST(Addresses, AreCheckedBeforeUse) {
  const Owned s = open_socket();
  sockaddr_stp address = address_of("", 0);
  address.stp_family = AF_INET;
  EXPECT_FAILS(STPbind(s, raw(address), sizeof address), EAFNOSUPPORT);
  EXPECT_FAILS(STPconnect(s, raw(address), sizeof address), EAFNOSUPPORT);
  address = address_of("", 0);
  EXPECT_FAILS(STPbind(s, raw(address), 8), EINVAL);
  EXPECT_FAILS(STPbind(s, nullptr, sizeof address), EFAULT);
  std::memset(address.stp_system, 'a', sizeof address.stp_system);
  EXPECT_FAILS(STPconnect(s, raw(address), sizeof address), EINVAL);
  address = address_of("no such_name", 1);
  EXPECT_FAILS(STPconnect(s, raw(address), sizeof address), EINVAL);
}

TEST(Ports, AreFreeAtOnceWhenTheirSocketCloses) {
  Owned first = listening_socket();
  const sockaddr_stp address = address_of("", port_of(first));
  ASSERT_EQ(first.close(), 0);
  EXPECT_EQ(STPbind(open_socket(), raw(address), sizeof address), 0) << STPstrerror(-1);
}

TEST(Names, AreWhatEitherSideSaysOfTheOther) {
  const Owned listener = listening_socket();
  const Owned client = open_socket();
  ASSERT_EQ(connect_to(client, "", port_of(listener)), 0) << STPstrerror(client);
  sockaddr_stp from = {};
  socklen_t length = sizeof from;
  const Owned server(STPaccept(listener, raw(from), &length));
  ASSERT_GE(server.get(), 0);
  EXPECT_EQ(length, sizeof from);
  EXPECT_EQ(from.stp_family, AF_STP);
  EXPECT_STREQ(from.stp_system, kMyHost);
  EXPECT_STREQ(from.stp_stg, "apitest");
  EXPECT_EQ(ntohs(from.stp_port), port_of(client));
  sockaddr_stp peer = {};
  length = sizeof peer;
  ASSERT_EQ(STPgetpeername(client, raw(peer), &length), 0);
  EXPECT_STREQ(peer.stp_system, kMyHost);
  EXPECT_EQ(ntohs(peer.stp_port), port_of(listener));
  EXPECT_EQ(port_of(server), port_of(listener));
}

TEST(Names, AreCutToTheRoomThatIsGiven) {
  const Owned s = listening_socket();
  sockaddr_stp address = {};
  socklen_t length = 4;
  ASSERT_EQ(STPgetsockname(s, raw(address), &length), 0);
  EXPECT_EQ(length, sizeof address);
  EXPECT_EQ(address.stp_family, AF_STP);
  EXPECT_EQ(address.stp_system[0], '\0');
}

TEST(Names, ThePeerOfAnUnconnectedSocketIsNobody) {
  const Owned s = open_socket();
  sockaddr_stp address = {};
  socklen_t length = sizeof address;
  EXPECT_FAILS(STPgetpeername(s, raw(address), &length), ENOTCONN);
}

TEST(Names, GethostnameAssignsAPortWhereThereIsNone) {
  const Owned s = open_socket();
  sockaddr_stp address = {};
  socklen_t length = sizeof address;
  ASSERT_EQ(STPgethostname(s, raw(address), &length), 0) << STPstrerror(s);
  EXPECT_STREQ(address.stp_system, kMyHost);
  EXPECT_NE(address.stp_port, 0);
  EXPECT_EQ(port_of(s), ntohs(address.stp_port));
}

TEST(HostByName, KnowsThisHostUnderItsNames) {
  for (const char* name : {kMyHost, "Alpha", "alpha.apitest", "localhost"}) {
    const hostent* found = STPgethostbyname(name);
    ASSERT_NE(found, nullptr) << name;
    EXPECT_EQ(found->h_addrtype, AF_STP);
    ASSERT_EQ(found->h_length, static_cast<int>(sizeof(sockaddr_stp)));
    ASSERT_NE(found->h_addr_list[0], nullptr);
    sockaddr_stp address = {};
    std::memcpy(&address, found->h_addr_list[0], sizeof address);
    EXPECT_STREQ(address.stp_system, kMyHost);
    EXPECT_EQ(found->h_addr_list[1], nullptr);
  }
}

TEST(HostByName, SaysThatAHostIsUnknown) {
  EXPECT_EQ(STPgethostbyname("omega"), nullptr);
  EXPECT_EQ(h_errno, HOST_NOT_FOUND);
  EXPECT_EQ(STPerror(-1), STP_EUNKNOWNHOST);
  EXPECT_EQ(STPgethostbyname("alpha.elsewhere"), nullptr);
  EXPECT_EQ(STPgethostbyname(nullptr), nullptr);
}

TEST(Listen, FindsAPortForASocketThatHasNone) {
  const Owned s = open_socket();
  ASSERT_EQ(STPlisten(s, 1), 0);
  EXPECT_NE(port_of(s), 0);
}

TEST(Listen, AConnectedSocketCanNot) {
  const Pair pair = connected_pair();
  EXPECT_FAILS(STPlisten(pair.client, 1), EINVAL);
}

TEST(Accept, WantsAListener) {
  EXPECT_FAILS(STPaccept(open_socket(), nullptr, nullptr), EINVAL);
  EXPECT_FAILS(STPaccept4(listening_socket(), nullptr, nullptr, O_APPEND), EINVAL);
}

TEST(Accept, OfANonBlockingListenerGivesEagain) {
  const Owned listener = listening_socket();
  ASSERT_EQ(STPfcntl(listener, F_SETFL, O_NONBLOCK), 0);
  EXPECT_FAILS(STPaccept(listener, nullptr, nullptr), EAGAIN);
}

TEST(Accept, EndsAtTheReceiveTimeout) {
  const Owned listener = listening_socket();
  const timeval timeout = {.tv_sec = 0, .tv_usec = 20'000};
  ASSERT_EQ(STPsetsockopt(listener, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout), 0);
  EXPECT_FAILS(STPaccept(listener, nullptr, nullptr), EAGAIN);
}

TEST(Accept, SetsTheFlagsItIsAskedFor) {
  const Owned listener = listening_socket();
  const Owned client = open_socket();
  ASSERT_EQ(connect_to(client, "", port_of(listener)), 0);
  const Owned server(STPaccept4(listener, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
  ASSERT_GE(server.get(), 0);
  EXPECT_EQ(STPfcntl(server, F_GETFL), O_RDWR | O_NONBLOCK);
  EXPECT_EQ(STPfcntl(server, F_GETFD), FD_CLOEXEC);
  char byte = 0;
  EXPECT_FAILS(STPrecv(server, &byte, 1, 0), EAGAIN);
}

TEST(Accept, TakesConnectionsInTheOrderTheyCame) {
  const Owned listener = listening_socket(8);
  std::vector<Owned> clients;
  for (int i = 0; i < 5; ++i) {
    clients.push_back(open_socket());
    ASSERT_EQ(connect_to(clients.back(), "", port_of(listener)), 0) << STPstrerror(-1);
  }
  for (const Owned& client : clients) {
    sockaddr_stp from = {};
    socklen_t length = sizeof from;
    const Owned server(STPaccept(listener, raw(from), &length));
    ASSERT_GE(server.get(), 0);
    EXPECT_EQ(ntohs(from.stp_port), port_of(client));
  }
}

TEST(Backlog, QueuesThenRefuses) {
  const Owned listener = listening_socket(2);
  std::vector<Owned> clients;
  int refused = 0;
  for (int i = 0; i < 8 && refused == 0; ++i) {
    clients.push_back(open_socket());
    if (connect_to(clients.back(), "", port_of(listener)) != 0) {
      EXPECT_EQ(errno, ECONNREFUSED);
      EXPECT_EQ(STPerror(clients.back()), STP_EBACKLOG);
      ++refused;
    }
  }
  EXPECT_EQ(refused, 1);
  EXPECT_GE(clients.size(), 3u);
  for (std::size_t i = 0; i + 1 < clients.size(); ++i) EXPECT_GE(Owned(STPaccept(listener, nullptr, nullptr)).get(), 0);
}

TEST(Connect, IsRefusedWhereNobodyListens) {
  Owned gone = listening_socket();
  const std::uint16_t port = port_of(gone);
  ASSERT_EQ(gone.close(), 0);
  const Owned s = open_socket();
  EXPECT_FAILS(connect_to(s, kMyHost, port), ECONNREFUSED);
  EXPECT_EQ(STPerror(s), STP_ENOLISTENER);
  EXPECT_NE(std::string(STPstrerror(s)).find("alpha:" + std::to_string(port)), std::string::npos) << STPstrerror(s);
}

TEST(Connect, SaysThatAHostIsUnknown) {
  const Owned s = open_socket();
  EXPECT_FAILS(connect_to(s, "omega", 7), EHOSTUNREACH);
  EXPECT_EQ(STPerror(s), STP_EUNKNOWNHOST);
  EXPECT_NE(std::string(STPstrerror(s)).find("omega:7"), std::string::npos) << STPstrerror(s);
  EXPECT_NE(std::string(STPstrerror(s)).find(kMyHost), std::string::npos) << "the hosts that are there: " << STPstrerror(s);
}

TEST(Connect, SaysThatItIsAnotherGroup) {
  const Owned s = open_socket();
  sockaddr_stp peer = address_of("alpha", 7);
  std::strcpy(peer.stp_stg, "elsewhere");
  EXPECT_FAILS(STPconnect(s, raw(peer), sizeof peer), ENETUNREACH);
  EXPECT_EQ(STPerror(s), STP_EOTHERSTG);
}

TEST(Connect, ASecondTimeIsRefused) {
  const Owned listener = listening_socket();
  const Owned s = open_socket();
  ASSERT_EQ(connect_to(s, "", port_of(listener)), 0);
  EXPECT_FAILS(connect_to(s, "", port_of(listener)), EISCONN);
}

// As programs do it: connect, wait, SO_ERROR.
int end_of_connect(int s) {
  for (;;) {
    if (connect_to(s, "", 1) == 0) return 0;
    if (errno == EISCONN) return 0;
    if (errno != EALREADY) return errno;
    ::poll(nullptr, 0, 1);
  }
}

TEST(Connect, NonBlockingGoesOnByItself) {
  const Owned listener = listening_socket();
  const Owned s = open_socket(SOCK_NONBLOCK);
  EXPECT_FAILS(connect_to(s, "", port_of(listener)), EINPROGRESS);
  EXPECT_EQ(end_of_connect(s), 0);
  int error = -1;
  socklen_t length = sizeof error;
  ASSERT_EQ(STPgetsockopt(s, SOL_SOCKET, SO_ERROR, &error, &length), 0);
  EXPECT_EQ(error, 0);
  EXPECT_GE(Owned(STPaccept(listener, nullptr, nullptr)).get(), 0);
}

TEST(Connect, NonBlockingTellsItsFailureOnce) {
  Owned gone = listening_socket();
  const std::uint16_t port = port_of(gone);
  ASSERT_EQ(gone.close(), 0);
  const Owned s = open_socket(SOCK_NONBLOCK);
  EXPECT_FAILS(connect_to(s, "", port), EINPROGRESS);
  int error = 0;
  socklen_t length = sizeof error;
  while (error == 0) {
    ASSERT_EQ(STPgetsockopt(s, SOL_SOCKET, SO_ERROR, &error, &length), 0);
    ::poll(nullptr, 0, 1);
  }
  EXPECT_EQ(error, ECONNREFUSED);
  EXPECT_EQ(STPerror(s), STP_ENOLISTENER);
  ASSERT_EQ(STPgetsockopt(s, SOL_SOCKET, SO_ERROR, &error, &length), 0);
  EXPECT_EQ(error, 0);
}

TEST(Connect, WaitsForTheAcceptIfAsked) {
  const Owned listener = listening_socket();
  const Owned s = open_socket();
  int yes = 1;
  ASSERT_EQ(STPsetopt(s, STP_OPT_CONNECT_WAITS_ACCEPT, &yes, sizeof yes), 0);
  int limit_ms = 50;
  ASSERT_EQ(STPsetopt(s, STP_OPT_CONNECT_TIMEOUT_MS, &limit_ms, sizeof limit_ms), 0);
  EXPECT_FAILS(connect_to(s, "", port_of(listener)), ETIMEDOUT);  // queued, and nobody accepts it
  limit_ms = 0;
  const Owned patient = open_socket();
  ASSERT_EQ(STPsetopt(patient, STP_OPT_CONNECT_WAITS_ACCEPT, &yes, sizeof yes), 0);
  std::thread acceptor([&listener] {
    std::vector<Owned> taken;
    for (int i = 0; i < 2; ++i) taken.emplace_back(STPaccept(listener, nullptr, nullptr));
  });
  EXPECT_EQ(connect_to(patient, "", port_of(listener)), 0) << STPstrerror(patient);
  const Owned last = open_socket();  // in case the abandoned first one was not queued any more
  (void)connect_to(last, "", port_of(listener));
  acceptor.join();
}

TEST(Close, WakesThreadsThatWaitOnTheSocket) {
  Pair pair = connected_pair();
  std::thread reader([s = pair.server.get()] {
    char byte = 0;
    EXPECT_FAILS(STPrecv(s, &byte, 1, 0), EBADF);
  });
  ::poll(nullptr, 0, 5);  // whether it waits already or not: the result is the same
  pair.server.close();
  reader.join();
}

TEST(Close, OfAListenerRefusesThoseInItsQueue) {
  Owned listener = listening_socket();
  const Owned s = open_socket();
  ASSERT_EQ(connect_to(s, "", port_of(listener)), 0);
  ASSERT_EQ(listener.close(), 0);
  char byte = 0;
  EXPECT_FAILS(STPrecv(s, &byte, 1, 0), ECONNRESET);
}

}  // namespace stp::test
