#include "fuse/source.h"

#include <fmt/format.h>

#include <algorithm>

#include "stp/medium.h"
#include "stp/superblock.h"
#include "stp/system.h"

namespace stp::view {
namespace {

class StorageSource final : public Source {
 public:
  explicit StorageSource(std::string path) : path_(std::move(path)), title_(fmt::format("storage \"{}\"", path_)) {}
  const std::string& title() const override { return title_; }
  Result<std::shared_ptr<BlockSource>> blocks() override {
    std::lock_guard lock(mutex_);
    if (storage_ != nullptr && !is_another()) return storage_;
    storage_.reset();
    auto opened = Storage::open(path_, Storage::Access::kReadOnly);
    if (!opened) return std::unexpected(opened.error());
    storage_ = std::move(*opened);
    return storage_;
  }
  Result<std::optional<AgentFacts>> agent() override { return std::nullopt; }
  bool talks() const override { return false; }

 private:
  // Formatted anew since it was opened, or not readable any more. One whose first block is damaged stays what it was.
  bool is_another() {
    const AlignedBuffer block(storage_->superblock().geometry.block_size);
    if (!storage_->read(0, block.span())) return true;
    const auto now = decode_superblock(block.span());
    return now && now->uuid != storage_->superblock().uuid;
  }
  const std::string path_;
  const std::string title_;
  std::mutex mutex_;
  std::shared_ptr<Storage> storage_;
};

// One connection to an agent; its answers come one after the other.
class AgentBlocks final : public BlockSource {
 public:
  AgentBlocks(host::AgentClient client, std::string path) : client_(std::move(client)), superblock_(client_.superblock()), path_(std::move(path)) {}

  const std::string& path() const override { return path_; }
  const Superblock& superblock() const override { return superblock_; }
  Result<void> read(std::uint64_t block, Bytes into) override {
    // Piece by piece, so that nobody waits for another's long table.
    const std::size_t piece = host::kMostTail / superblock_.geometry.block_size * superblock_.geometry.block_size;
    while (!into.empty()) {
      const Bytes now = into.first(std::min(piece, into.size()));
      std::lock_guard lock(mutex_);
      if (auto read = client_.read(block, now); !read) return gone_or(read.error());
      into = into.subspan(now.size());
      block += now.size() / superblock_.geometry.block_size;
    }
    return {};
  }
  // What its membership says: it watches all the time, so nobody has to wait for a beat here.
  Holder holder(Slot, const Lease& lease) override {
    auto facts = this->facts(kViewFor);
    if (!facts) return Holder::kUnknown;
    if (lease.name == facts->view.self.name) return facts->view.self.state == MemberState::kMember ? Holder::kThere : Holder::kUnknown;
    const auto peer = std::ranges::find(facts->view.peers, lease.name, &Peer::name);
    if (peer == facts->view.peers.end()) return Holder::kUnknown;
    return peer->state == PeerState::kAlive ? Holder::kThere : peer->state == PeerState::kDead ? Holder::kGone : Holder::kUnknown;
  }
  // Not older than `age`.
  Result<Source::AgentFacts> facts(Nanos age) {
    std::lock_guard lock(mutex_);
    const Nanos now = boottime_now();
    if (facts_ && now - facts_at_ <= age) return *facts_;
    auto view = client_.hosts();
    if (!view) return std::unexpected(gone_or(view.error()).error());
    auto stats = client_.stats();
    if (!stats) return std::unexpected(gone_or(stats.error()).error());
    facts_ = Source::AgentFacts{.host = client_.host(), .view = std::move(*view), .stats = *stats};
    facts_at_ = now;
    return *facts_;
  }
  bool dead() {
    std::lock_guard lock(mutex_);
    return client_.dead();
  }

 private:
  static constexpr Nanos kViewFor = 50 * kMillisecond;
  Result<void> gone_or(const Error& error) {
    if (client_.dead()) return fail(ENOTCONN, error.text);
    return std::unexpected(error);
  }
  std::mutex mutex_;
  host::AgentClient client_;
  const Superblock superblock_;
  const std::string path_;
  std::optional<Source::AgentFacts> facts_;
  Nanos facts_at_ = 0;
};

class AgentSource final : public Source {
 public:
  explicit AgentSource(AgentSourceSettings settings) : settings_(std::move(settings)), title_(fmt::format("agent \"{}\"", settings_.path)) {}
  const std::string& title() const override { return title_; }
  Result<std::shared_ptr<BlockSource>> blocks() override { return connected(); }
  Result<std::optional<AgentFacts>> agent() override {
    auto blocks = connected();
    if (!blocks) return std::unexpected(blocks.error());
    auto facts = (*blocks)->facts(0);
    if (!facts) return std::unexpected(facts.error());
    return std::optional(std::move(*facts));
  }
  bool talks() const override { return true; }

  void disconnect() {
    std::lock_guard lock(mutex_);
    blocks_.reset();
  }
  Result<std::shared_ptr<AgentBlocks>> connected() {
    std::lock_guard lock(mutex_);
    if (blocks_ != nullptr && !blocks_->dead()) return blocks_;
    blocks_.reset();
    auto client = host::AgentClient::connect(settings_.path, settings_.stg, static_cast<unsigned>(settings_.patience / kMillisecond));
    if (!client) {
      // There is no file, nobody listens on it, or it died in the middle: all the same to whoever looks.
      const int code = client.error().code;
      const bool nobody = code == ENOENT || code == ECONNREFUSED || code == ECONNRESET || code == EPIPE;
      return fail(nobody ? ENOTCONN : code, client.error().text);
    }
    blocks_ = std::make_shared<AgentBlocks>(std::move(*client), title_);
    return blocks_;
  }

 private:
  const AgentSourceSettings settings_;
  const std::string title_;
  std::mutex mutex_;
  std::shared_ptr<AgentBlocks> blocks_;
};

}  // namespace

Result<std::unique_ptr<Source>> make_storage_source(const std::string& path) {
  if (auto opened = Storage::open(path, Storage::Access::kReadOnly); !opened) return std::unexpected(opened.error());
  return std::make_unique<StorageSource>(path);
}

Result<std::unique_ptr<Source>> make_agent_source(const AgentSourceSettings& settings) {
  auto source = std::make_unique<AgentSource>(settings);
  if (auto connected = source->connected(); !connected) return std::unexpected(connected.error());
  // The agent watches the process that connects: and that one ends when the mount goes into the background.
  source->disconnect();
  return source;
}

}  // namespace stp::view
