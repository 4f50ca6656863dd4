// What the other processes of the tests do.
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <map>
#include <sstream>
#include <thread>

#include "tests/api/fixture.h"
#include "tests/api/peer_process.h"
#include "tests/api/taker.h"

namespace stp::test {
namespace {

using Arguments = std::vector<std::string>;

int say_error(int s) {
  std::cout << "error " << errno << ' ' << STPerror(s) << ' ' << STPstrerror(s) << std::endl;
  return 1;
}

std::uint16_t port_from(const std::string& text) { return static_cast<std::uint16_t>(std::stoul(text)); }

// Listens, says "port N NAME", and gives the listener.
Owned announce() {
  Owned listener(STPsocket(AF_STP, SOCK_STREAM, 0));
  sockaddr_stp mine = address_of("", 0);
  socklen_t length = sizeof mine;
  if (listener < 0 || STPbind(listener, raw(mine), sizeof mine) != 0 || STPlisten(listener, 64) != 0 ||
      STPgetsockname(listener, raw(mine), &length) != 0) {
    say_error(listener);
    return Owned();
  }
  std::cout << "port " << ntohs(mine.stp_port) << ' ' << mine.stp_system << std::endl;
  return listener;
}

// Connects to a host and port, sends so many bytes of a pattern, says "sent", and stays.
int connect_send_hold(const Arguments& arguments) {
  const Owned s(STPsocket(AF_STP, SOCK_STREAM, 0));
  if (s < 0 || connect_to(s, arguments.at(0), port_from(arguments.at(1))) != 0) return say_error(s);
  if (!send_all(s, pattern(std::stoul(arguments.at(2))))) return say_error(s);
  std::cout << "sent" << std::endl;
  std::string line;
  std::getline(std::cin, line);
  return 0;
}

// Connects so many times to a host and port, sends a little on each, closes all without waiting, and is gone.
int close_many_and_die(const Arguments& arguments) {
  std::vector<int> sockets;
  for (std::size_t i = 0; i < std::stoul(arguments.at(2)); ++i) {
    const int s = STPsocket(AF_STP, SOCK_STREAM, 0);
    if (s < 0 || connect_to(s, arguments.at(0), port_from(arguments.at(1))) != 0 || STPsend(s, "x", 1, 0) != 1) return say_error(s);
    int on = 1;
    if (STPioctl(s, FIONBIO, &on) != 0) return say_error(s);
    sockets.push_back(s);
  }
  for (const int s : sockets)
    if (STPclose(s) != 0) return say_error(s);
  ::_exit(0);
}

// Accepts one connection, ends what it sends, says "ended", and stays.
int end_and_hold(const Arguments&) {
  const Owned listener = announce();
  const Owned s(STPaccept(listener, nullptr, nullptr));
  if (s < 0 || STPshutdown(s, SHUT_WR) != 0) return say_error(s);
  std::cout << "ended" << std::endl;
  std::string line;
  std::getline(std::cin, line);
  return 0;
}

// Accepts one connection, takes all until its end, and is gone at once.
int hear_out_and_die(const Arguments&) {
  const Owned listener = announce();
  const Owned s(STPaccept(listener, nullptr, nullptr));
  char bytes[4096];
  while (STPrecv(s, bytes, sizeof bytes, 0) > 0) {
  }
  ::_exit(0);
}

// Accepts so many connections, and says how many of them said one byte and came to a good end.
int hear_many_out(const Arguments& arguments) {
  const Owned listener = announce();
  int good = 0;
  std::vector<Owned> sockets;
  for (std::size_t i = 0; i < std::stoul(arguments.at(0)); ++i) sockets.emplace_back(STPaccept(listener, nullptr, nullptr));
  for (const Owned& s : sockets) {
    char byte[2] = {};
    good += STPrecv(s, byte, 2, MSG_WAITALL) == 1 && STPrecv(s, byte, 1, 0) == 0 ? 1 : 0;
  }
  std::cout << "good " << good << std::endl;
  return 0;
}

// Accepts one connection when it is told to, says "accepted", and stays.
int accept_when_told(const Arguments&) {
  const Owned listener = announce();
  std::string line;
  std::getline(std::cin, line);
  const Owned s(STPaccept(listener, nullptr, nullptr));
  if (s < 0) return say_error(listener);
  std::cout << "accepted" << std::endl;
  std::getline(std::cin, line);
  return 0;
}

// Says "connecting", connects to a host and port until the peer accepts, and says "connected".
int connect_until_accepted(const Arguments& arguments) {
  const Owned s(STPsocket(AF_STP, SOCK_STREAM, 0));
  const int on = 1;
  if (s < 0 || STPsetopt(s, STP_OPT_CONNECT_WAITS_ACCEPT, const_cast<int*>(&on), sizeof on) != 0) return say_error(s);
  std::cout << "connecting" << std::endl;
  if (connect_to(s, arguments.at(0), port_from(arguments.at(1))) != 0) return say_error(s);
  std::cout << "connected" << std::endl;
  return 0;
}

// Sends back what comes until the end.
void echo_to_end(int s) {
  std::vector<std::byte> part(64 * 1024);
  ssize_t got = 0;
  while ((got = STPrecv(s, part.data(), part.size(), 0)) > 0)
    if (STPsend(s, part.data(), static_cast<std::size_t>(got), MSG_NOSIGNAL) < 0) break;
}

// Says its client id in hexadecimal, and does as it is told: "take GIVER NUMBER", "read FROM TO" (of a pattern of TO bytes), "echoes SIZE",
// "echo" (to the end), "accept" (and echo to the end).
int taker(const Arguments&) {
  stp_clientid id = {};
  if (STPgetclientid(&id) != 0) return say_error(-1);
  std::cout << to_hex(id) << std::endl;
  Owned s;
  for (std::string line; std::getline(std::cin, line);) {
    std::istringstream words(line);
    std::string verb, hex;
    std::size_t a = 0, b = 0;
    words >> verb;
    if (verb == "take") {
      words >> hex >> a;
      const stp_clientid giver = from_hex(hex);
      const int taken = STPtakesocket(&giver, static_cast<int>(a));
      if (taken < 0) {
        (void)say_error(-1);
        continue;
      }
      s = Owned(taken);
      std::cout << "taken" << std::endl;
    } else if (verb == "read") {
      words >> a >> b;
      const auto all = pattern(b);
      std::cout << (receive_exactly(s, b - a) == std::vector<std::byte>(all.begin() + static_cast<std::ptrdiff_t>(a), all.end()) ? "good" : "bad") << std::endl;
    } else if (verb == "echoes") {
      words >> a;
      const auto data = pattern(a);
      std::cout << (send_all(s, data) && receive_exactly(s, a) == data ? "good" : "bad") << std::endl;
    } else if (verb == "echo") {
      echo_to_end(s);
      std::cout << "end" << std::endl;
    } else if (verb == "accept") {
      const Owned connection(STPaccept(s, nullptr, nullptr));
      echo_to_end(connection);
      std::cout << "end" << std::endl;
    }
  }
  return 0;
}

// Sends back what comes, connection after connection, until told a line.
int echo(const Arguments&) {
  Owned listener = announce();
  if (listener < 0) return 1;
  std::thread server([s = listener.get()] {
    for (;;) {
      const Owned connection(STPaccept(s, nullptr, nullptr));
      if (connection < 0) return;
      echo_to_end(connection);
    }
  });
  std::string line;
  std::getline(std::cin, line);
  (void)listener.close();
  server.join();
  return 0;
}

// Accepts one connection and holds it until told a line; what comes is left unread.
int hold(const Arguments&) {
  const Owned listener = announce();
  if (listener < 0) return 1;
  const Owned connection(STPaccept(listener, nullptr, nullptr));
  std::cout << "accepted" << std::endl;
  std::string line;
  std::getline(std::cin, line);
  return 0;
}

// Connects, sends so many bytes, and returns from main at once, with the socket open.
int send_and_exit(const Arguments& arguments) {
  const int s = STPsocket(AF_STP, SOCK_STREAM, 0);
  if (s < 0 || connect_to(s, arguments.at(0), port_from(arguments.at(1))) != 0) return say_error(s);
  return send_all(s, pattern(std::stoul(arguments.at(2)))) ? 0 : say_error(s);
}

int send_and_shutdown_then_exit(const Arguments& arguments) {
  const int s = STPsocket(AF_STP, SOCK_STREAM | SOCK_NONBLOCK, 0);
  if (s < 0) return say_error(s);
  STPfcntl(s, F_SETFL, 0);
  if (connect_to(s, arguments.at(0), port_from(arguments.at(1))) != 0) return say_error(s);
  if (!send_all(s, pattern(std::stoul(arguments.at(2))))) return say_error(s);
  STPfcntl(s, F_SETFL, O_NONBLOCK);
  return STPclose(s) == 0 ? 0 : say_error(s);
}

// Exits while a thread is blocked in accept.
int exit_with_blocked_thread(const Arguments&) {
  const Owned listener = announce();
  if (listener < 0) return 1;
  std::thread([s = listener.get()] { (void)STPaccept(s, nullptr, nullptr); }).detach();
  std::string line;
  std::getline(std::cin, line);
  std::exit(0);
}

int only_socket(const Arguments&) {
  const Owned s(STPsocket(AF_STP, SOCK_STREAM, 0));
  if (s < 0) return say_error(-1);
  std::cout << "joined" << std::endl;
  return 0;
}

// Many sockets, past 1024.
int many_sockets(const Arguments& arguments) {
  const std::size_t wanted = std::stoul(arguments.at(0));
  rlimit limit = {};
  ::getrlimit(RLIMIT_NOFILE, &limit);
  if (limit.rlim_max < wanted + 64) {
    std::cout << "limit" << std::endl;
    return 0;
  }
  limit.rlim_cur = wanted + 64;
  ::setrlimit(RLIMIT_NOFILE, &limit);
  std::vector<Owned> sockets;
  for (std::size_t i = 0; i < wanted; ++i) {
    sockets.emplace_back(STPsocket(AF_STP, SOCK_STREAM, 0));
    if (sockets.back() < 0) return say_error(-1);
  }
  const Owned listener = announce();
  Owned client(STPsocket(AF_STP, SOCK_STREAM, 0));
  if (listener < 0 || client < 0 || connect_to(client, "", port_of(listener)) != 0) return say_error(client);
  Owned server(STPaccept(listener, nullptr, nullptr));
  if (!send_all(client, pattern(100)) || receive_exactly(server, 100) != pattern(100)) return say_error(server);
  std::cout << "works at " << server.get() << std::endl;
  return 0;
}

// Uses up the descriptors, then wants a socket.
int no_descriptors(const Arguments&) {
  const Owned first(STPsocket(AF_STP, SOCK_STREAM, 0));
  if (first < 0) return say_error(-1);
  rlimit limit = {};
  ::getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = static_cast<rlim_t>(first.get()) + 1;
  ::setrlimit(RLIMIT_NOFILE, &limit);
  const int s = STPsocket(AF_STP, SOCK_STREAM, 0);
  return s >= 0 ? 0 : say_error(-1);
}

const std::map<std::string, int (*)(const Arguments&)>& roles() {
  static const std::map<std::string, int (*)(const Arguments&)> all = {
      {"echo", echo},
      {"exit-with-blocked-thread", exit_with_blocked_thread},
      {"end-and-hold", end_and_hold},
      {"hear-many-out", hear_many_out},
      {"hear-out-and-die", hear_out_and_die},
      {"close-many-and-die", close_many_and_die},
      {"hold", hold},
      {"many-sockets", many_sockets},
      {"accept-when-told", accept_when_told},
      {"connect-send-hold", connect_send_hold},
      {"connect-until-accepted", connect_until_accepted},
      {"no-descriptors", no_descriptors},
      {"only-socket", only_socket},
      {"taker", taker},
      {"send-and-exit", send_and_exit},
      {"send-nonblocking-close-and-exit", send_and_shutdown_then_exit},
  };
  return all;
}

}  // namespace

int play_role(int argc, char** argv) {
  if (argc < 3 || std::string_view(argv[1]) != "--role") return -1;
  const auto role = roles().find(argv[2]);
  if (role == roles().end()) {
    std::fprintf(stderr, "no such role: %s\n", argv[2]);
    return 2;
  }
  return role->second(Arguments(argv + 3, argv + argc));
}

}  // namespace stp::test
