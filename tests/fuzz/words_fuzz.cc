// Everything that is read from text: rules of `stp run`, what is to be forwarded, SOCKS5, addresses, sizes, commands of a ctl file and
// of stp-ftp, mount options, the names of sockets under `stp run`, addresses that programs hand in.
#include <netinet/in.h>

#include <string>
#include <vector>

#include "fuse/ctl_words.h"
#include "fuse/options.h"
#include "hostlib/address.h"
#include "hostlib/run_address.h"
#include "hostlib/run_protocol.h"
#include "hostlib/run_rules.h"
#include "stp/names.h"
#include "stp/size_text.h"
#include "tests/fuzz/target.h"
#include "tools/forward_spec.h"
#include "tools/ftp_words.h"
#include "tools/rooted_files.h"
#include "tools/socks5.h"

namespace stp::fuzz {
namespace {

constexpr std::size_t kLongest = 4096;

void run_rules(Input& input) {
  const std::uint16_t port = input.u16();
  const auto rules = run::RunRules::parse(input.text(kLongest));
  if (!rules) return require(rules.error().starts_with("line "), "a wrong rule is told with its line");
  const run::Way way = rules->way_of("program", port, input.flag());
  require(way == run::Way::kStp || way == run::Way::kTcp || rules->some_are(run::Way::kBoth), "both needs a rule that says so");
}

void forward_spec(Input& input) {
  const auto direction = static_cast<forward::Direction>(input.below(3));
  const auto spec = forward::parse_forward_spec(direction, input.text(kLongest));
  if (!spec) return require(!spec.error().text.empty(), "a refusal has words");
  const std::string text = to_string(*spec);
  require(text.starts_with(option_of(direction)), "a spec is shown with its option");
  const auto again = forward::parse_forward_spec(direction, std::string_view(text).substr(option_of(direction).size() + 1));
  require(again && *again == *spec, "a spec is read as it is shown");
}

// In pieces, as they come; whatever it says, it ends within the longest handshake.
void socks5(Input& input) {
  forward::Socks5Handshake talk;
  std::size_t taken = 0;
  while (talk.state() == forward::Socks5Handshake::State::kTalking && !input.empty()) {
    const std::size_t wanted = talk.wants();
    require(wanted > 0 && wanted <= 257, "it wants something while it talks");
    const ConstBytes piece = input.take(1 + input.u8() % wanted);
    talk.take(piece);
    taken += piece.size();
    require(taken <= 2 + 255 + 4 + 257, "a handshake is over after the longest one");
    (void)talk.answer();
  }
  if (talk.state() == forward::Socks5Handshake::State::kAsked)
    require(forward::valid_stp_host(talk.destination().host) && talk.destination().port != 0, "what is asked for is an STP host");
  if (talk.state() == forward::Socks5Handshake::State::kRefused) require(!talk.why().empty(), "a refusal has words");
  if (talk.state() != forward::Socks5Handshake::State::kTalking) require(talk.wants() == 0, "it wants nothing when it is over");
}

void names(Input& input) {
  const std::string_view text = input.text(kLongest);
  if (const auto address = parse_address(text)) {
    const auto again = parse_address(to_string(*address));
    require(again && *again == *address, "an address is read as it is shown");
  }
  require(!valid_instance_name(text) || valid_host_name(base_name(text)), "an instance has a host");
  (void)forward::stp_host_of(text);
  (void)size_text(parse_size(text).value_or(0));
  const std::string shown = printable(text);
  require(std::ranges::none_of(shown, [](unsigned char c) { return c < 0x20 || c == 0x7f; }), "foreign text has no control bytes when it is shown");
}

void ctl(Input& input) {
  const auto command = view::parse_ctl(input.text(kLongest));
  if (!command) return require(!command.error().text.empty(), "a refusal has words");
  if (const auto* connect = std::get_if<view::ConnectCommand>(&*command)) require(connect->to.port != 0 && !connect->to.host.empty(), "who connects knows where to");
  if (const auto* timeout = std::get_if<view::TimeoutCommand>(&*command)) require(timeout->span.count() >= 0, "no time is negative");
}

void mount_options(Input& input) {
  view::MountOptions options;
  const std::string_view text = input.text(kLongest);
  (void)view::others_allowed(text);
  if (!view::parse_mount_options(text, options)) return;
  require((options.mode & ~mode_t{0444}) == 0, "texts are not to be written");
  require(options.deadline >= kSecond && options.fresh >= 0, "waits are bounded");
}

void ftp_commands(Input& input) {
  const std::string directory(input.flag() ? "a/b" : "");
  const std::string_view text = input.text(kLongest);
  const auto commands = ftp::parse_commands(text);
  if (commands) {
    for (const ftp::Words& words : *commands) require(!words.empty(), "a command has a word");
    // Quoted one by one they are the same words.
    std::string quoted;
    for (const ftp::Words& words : *commands) {
      for (const std::string& word : words) {
        quoted += '"';
        for (const char c : word) {
          if (c == '"' || c == '\\') quoted += '\\';
          quoted += c;
        }
        quoted += "\" ";
      }
      quoted += ';';
    }
    const auto again = ftp::parse_commands(quoted);
    require(again && *again == *commands, "quoted words are the same words");
  }
  if (const auto path = ftp::resolve_path(directory, text)) {
    for (std::size_t at = 0; at <= path->size();) {
      const std::size_t end = std::min(path->find('/', at), path->size());
      const std::string_view part = std::string_view(*path).substr(at, end - at);
      require((!part.empty() || path->empty()) && part != "." && part != "..", "a path that is resolved leads down only");
      at = end + 1;
    }
    const auto again = ftp::resolve_path("", *path);
    require(again && *again == *path, "a path that is resolved stays as it is");
  }
  require(!valid_file_name(text) || (valid_relative_path(text) && !text.contains('/')), "a name is a path of one component");
}

void socket_names(Input& input) {
  const std::string_view text = input.text(256);
  if (const auto name = run::decode_text(text)) {
    const auto again = run::decode_text(run::text_of(*name));
    require(again && *again == *name, "a socket's name is read as it was written");
    const run::UnixName whole = run::encode(*name);
    const auto decoded = run::decode(whole.get(), whole.length);
    require(decoded && *decoded == *name, "and so it is as an address");
    (void)run::head_of(*name);
  }
  // Exactly so long, for AddressSanitizer.
  const std::vector<char> exact(text.begin(), text.end());
  sockaddr_storage aligned = {};
  std::ranges::copy(exact.begin(), exact.begin() + static_cast<std::ptrdiff_t>(std::min(exact.size(), sizeof aligned)), reinterpret_cast<char*>(&aligned));
  const auto* address = reinterpret_cast<const sockaddr*>(&aligned);
  const auto length = static_cast<socklen_t>(std::min(exact.size(), sizeof aligned));
  (void)run::decode(address, length);
  if (const auto ip = run::from_sockaddr(address, length)) {
    for (const bool v6 : {false, true}) {
      sockaddr_in6 out = {};
      socklen_t room = sizeof out;
      run::to_sockaddr(*ip, v6, reinterpret_cast<sockaddr*>(&out), &room);
      const auto again = run::from_sockaddr(reinterpret_cast<const sockaddr*>(&out), room);
      require(again && *again == *ip, "an IP address is read as it was written");
    }
  }
  if (const auto stp = host::address_from(address, length)) {
    const sockaddr_stp out = host::sockaddr_from(*stp);
    const auto again = host::address_from(reinterpret_cast<const sockaddr*>(&out), sizeof out);
    require(again && *again == *stp, "an STP address is read as it was written");
  }
}

constexpr void (*kReaders[])(Input&) = {run_rules, forward_spec, socks5, names, ctl, mount_options, ftp_commands, socket_names};

}  // namespace

void run(ConstBytes bytes) {
  Input input(bytes);
  kReaders[input.below(std::size(kReaders))](input);
}

}  // namespace stp::fuzz
