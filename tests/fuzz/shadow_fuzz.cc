// Memory that is shared with somebody hostile: the rings and counters of a socket, the news board, and files that are said to be such memory.
// The other side changes whatever it likes between two calls, and in some inputs from a thread of its own in the middle of them.
#include "hostlib/shadow.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <thread>
#include <vector>

#include "hostlib/news_board.h"
#include "tests/fuzz/target.h"

namespace stp::fuzz {
namespace {

using host::NewsBoard;
using host::ShadowEnd;
using host::ShadowMemory;
using host::ShadowSide;

// Any counter or mark of either side.
void bend(ShadowSide& side, std::uint64_t which, std::uint64_t value) {
  const auto small = static_cast<std::uint32_t>(value);
  switch (which % 8) {
    case 0: return side.tail.store(value);
    case 1: return side.head.store(value);
    case 2: return side.ended.store(small);
    case 3: return side.deaf.store(small);
    case 4: return side.waiting.store(small);
    case 5: return side.bell.store(small);
    case 6: return side.state.store(small);
    default: return side.error.store(small);
  }
}

// A thread that repeats a few changes as fast as it can.
class Meddler {
 public:
  Meddler(ShadowMemory& memory, Input& input) {
    for (std::uint64_t n = 1 + input.below(8); n > 0; --n) changes_.push_back({static_cast<int>(input.below(2)), input.u8(), input.near(input.below(8192))});
    thread_ = std::thread([this, &memory] {
      while (!stop_.load(std::memory_order_relaxed))
        for (const Change& change : changes_) bend(memory.side(change.side), change.which, change.value);
    });
  }
  ~Meddler() {
    stop_ = true;
    thread_.join();
  }

 private:
  struct Change {
    int side;
    std::uint64_t which, value;
  };
  std::vector<Change> changes_;
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

void within_ring(ShadowMemory& memory, int number, ConstBytes piece) {
  const std::byte* const ring = memory.ring(number);
  require(piece.data() >= ring && piece.data() + piece.size() <= ring + memory.ring_bytes(), "a piece lies in its ring");
}

void use(ShadowEnd& end, ShadowMemory& memory, Input& input, std::vector<std::byte>& buffer) {
  const int mine = end.side();
  const std::size_t n = input.below(2 * memory.ring_bytes());
  switch (input.below(10)) {
    case 0: require(end.room() <= memory.ring_bytes(), "no more room than the ring"); return;
    case 1: {
      // Whoever writes touches its own ring and its counters alone.
      require(end.write(ConstBytes(buffer).first(n)) <= std::min<std::size_t>(n, memory.ring_bytes()), "no more is taken than there is");
      return;
    }
    case 2: {
      const Bytes room = end.next_room();
      within_ring(memory, mine, room);
      std::ranges::fill(room, std::byte{0x33});
      return end.publish(std::min(n, room.size()));
    }
    case 3: require(end.readable() <= memory.ring_bytes(), "no more to read than the ring"); return;
    case 4:
    case 5: {
      std::vector<std::byte> exact(n);  // for AddressSanitizer
      require(end.read(exact, input.flag()) <= std::min<std::size_t>(n, memory.ring_bytes()), "no more is given than is wanted");
      return;
    }
    case 6: {
      const ConstBytes piece = end.next_readable();
      within_ring(memory, 1 - mine, piece);
      return end.take(std::min(n, piece.size()));
    }
    case 7: (void)end.at_end(), (void)end.at_reset(), (void)end.broken(), (void)end.unread(); return;
    case 8: (void)end.wake_other(); return end.want_news();
    default: return end.end(ShadowSide::kEnd);
  }
}

void rings(Input& input) {
  const auto memory = ShadowMemory::create(ShadowMemory::kSmallestRing);
  require(memory.has_value(), "there is memory");
  ShadowEnd end(*memory, input.flag() ? 1 : 0);
  std::vector<std::byte> buffer(2 * (*memory)->ring_bytes(), std::byte{0x22});
  // Behind the sides, or where their page ends there, in front of them lies nothing that anybody writes.
  const std::uint32_t header_at = (*memory)->header_at(), behind = header_at + sizeof(host::ShadowHeader);
  std::byte* const gap = (*memory)->ring(0) - ShadowMemory::kHeaderBytes + (behind + 512 <= ShadowMemory::kHeaderBytes ? behind : header_at - 512);
  std::fill(gap, gap + 512, std::byte{0x77});
  {
    std::unique_ptr<Meddler> meddler;
    if (input.below(8) == 7) meddler = std::make_unique<Meddler>(**memory, input);
    for (int i = 0; i < 500 && !input.empty(); ++i) {
      if (input.below(3) == 2) {
        const int side = static_cast<int>(input.below(2));
        const std::uint64_t which = input.u8();
        bend((*memory)->side(side), which, input.near(end.mine().tail.load() + input.below(5000)));
      } else {
        use(end, **memory, input, buffer);
      }
    }
  }
  require(std::all_of(gap, gap + 512, [](std::byte b) { return b == std::byte{0x77}; }), "nobody writes beside the rings");
}

void board(Input& input) {
  const auto news = std::make_unique<NewsBoard>();
  for (int i = 0; i < 64 && !input.empty(); ++i) {
    news->to_agent.groups[input.below(std::size(news->to_agent.groups))].store(input.u64());
    news->to_agent.words[input.below(std::size(news->to_agent.words))].store(input.u64());
    (void)news->to_agent.set(input.u32());
  }
  std::size_t told = 0;
  news->to_agent.take([&](std::uint32_t index) {
    ++told;
    require(index < host::kMostSocketsOfAProgram, "news are of a socket that there can be");
  });
  require(told <= host::kMostSocketsOfAProgram, "news come to an end");
}

void foreign_file(Input& input) {
  const int fd = ::memfd_create("stp-shadow", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  require(fd >= 0, "there is a memory file");
  const std::uint32_t ring = static_cast<std::uint32_t>(input.near(8192)), told = static_cast<std::uint32_t>(input.near(ring));
  const std::uint64_t size = std::min<std::uint64_t>(input.near(ShadowMemory::kHeaderBytes + 2ull * ring), 1 << 20);
  (void)::ftruncate(fd, static_cast<off_t>(size));
  std::byte head[16];
  std::memcpy(head, host::ShadowHeader::kMagic, 8);
  store_le(head + 8, host::ShadowHeader::kVersion);
  store_le(head + 12, told);
  if (input.flag()) input.patch(head);
  const std::uint32_t header_at = static_cast<std::uint32_t>(input.near(256 * input.below(16)));
  if (size >= header_at + sizeof head) (void)!::pwrite(fd, head, sizeof head, header_at);
  const std::uint8_t seals = input.u8();
  (void)::fcntl(fd, F_ADD_SEALS, seals < 200 ? F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL : seals & 15);
  if (const auto memory = ShadowMemory::map(fd, header_at)) {
    require((*memory)->ring_bytes() >= ShadowMemory::kSmallestRing && ShadowMemory::kHeaderBytes + 2ull * (*memory)->ring_bytes() == size, "the rings fill the file");
    (*memory)->ring(1)[(*memory)->ring_bytes() - 1] = std::byte{1};
    // What it says of itself later is nobody's business.
    store_le(head + 12, input.u32());
    (void)!::pwrite(fd, head, sizeof head, header_at);
    ShadowEnd end(*memory, 0);
    std::vector<std::byte> buffer(2 * (*memory)->ring_bytes());
    for (int i = 0; i < 8; ++i) use(end, **memory, input, buffer);
  }
  (void)::close(fd);
}

}  // namespace

void run(ConstBytes bytes) {
  Input input(bytes);
  switch (input.below(8)) {
    case 6: return board(input);
    case 7: return foreign_file(input);
    default: return rings(input);
  }
}

}  // namespace stp::fuzz
