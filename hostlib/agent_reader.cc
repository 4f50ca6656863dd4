#include "hostlib/agent_reader.h"

#include <algorithm>
#include <cerrno>
#include <chrono>

#include "hostlib/agent_protocol.h"
#include "hostlib/quiet_thread.h"
#include "stp/scb.h"
#include "stp/system.h"

namespace stp::host {
namespace {

// Processes of other users are nothing that everybody sees. What does not check is handed on as it is: that is what is to be shown.
void hide_processes(Bytes bytes, const Superblock& s, std::uint64_t first) {
  const Geometry& g = s.geometry;
  for (std::size_t at = 0; at < bytes.size(); at += g.block_size, ++first) {
    if (first < g.area_first || first == g.superblock_copy()) continue;
    const Slot slot = static_cast<Slot>((first - g.area_first) / g.area_blocks);
    const std::uint64_t index = (first - g.area_first) % g.area_blocks;
    if (index >= g.scb_blocks) continue;
    const Bytes block = bytes.subspan(at, g.block_size);
    DecodedScbBlock table = decode_scb_block(block, s.uuid, g, slot, static_cast<std::uint32_t>(index));
    if (table.fault != BlockFault::kNone) continue;
    for (Scb& scb : table.block.scbs) scb.pid = 0;
    encode_scb_block(block, table.block, s.uuid, g);
  }
}

}  // namespace

AgentReader::AgentReader(std::shared_ptr<BlockSource> storage, std::function<void(Done)> done) : state_(std::make_shared<State>()) {
  state_->storage = std::move(storage);
  state_->done = std::move(done);
}

int AgentReader::ask(const Wanted& wanted) {
  const Geometry& g = state_->storage->superblock().geometry;
  if (wanted.blocks > kMostTail / g.block_size || !g.describes(wanted.first, wanted.blocks)) return EINVAL;
  std::lock_guard lock(state_->mutex);
  if (state_->stopping) return ESHUTDOWN;
  if (!state_->waiting.insert(wanted.program).second) return EBUSY;
  if (!thread_.joinable()) {
    state_->ended = false;
    if (!start_quiet_thread(thread_, [state = state_] { run(state); })) {
      state_->ended = true;
      state_->waiting.erase(wanted.program);
      return EAGAIN;
    }
  }
  state_->queue.push_back(wanted);
  state_->changed.notify_all();
  return 0;
}

AgentReader::Done AgentReader::read(BlockSource& storage, const Wanted& wanted) {
  const Superblock& s = storage.superblock();
  Done done{.program = wanted.program, .error = 0, .bytes = std::vector<std::byte>(std::size_t{wanted.blocks} * s.geometry.block_size)};
  if (auto read = storage.read(wanted.first, done.bytes); !read) {
    done.error = read.error().code != 0 ? read.error().code : EIO;
    done.bytes.clear();
  }
  if (!wanted.trusted) hide_processes(done.bytes, s, wanted.first);
  return done;
}

void AgentReader::run(const std::shared_ptr<State>& state) {
  const auto time_for = [](std::uint64_t bytes) { return static_cast<Nanos>(bytes * kSecond / kMostASecond); };
  Nanos paid_until = 0;  // when what was read so far would have been read at the pace
  std::unique_lock lock(state->mutex);
  while (!state->stopping) {
    if (state->queue.empty()) {
      state->changed.wait(lock);
      continue;
    }
    const Nanos now = boottime_now();
    paid_until = std::max(paid_until, now - time_for(kAtOnce));
    if (paid_until > now) {
      state->changed.wait_for(lock, std::chrono::nanoseconds(paid_until - now));
      continue;
    }
    const Wanted wanted = state->queue.front();
    state->queue.pop_front();
    lock.unlock();
    Done done = read(*state->storage, wanted);
    paid_until += time_for(std::uint64_t{wanted.blocks} * state->storage->superblock().geometry.block_size);
    lock.lock();
    state->waiting.erase(wanted.program);
    if (!state->stopping) state->done(std::move(done));
  }
  state->ended = true;
  state->changed.notify_all();
}

bool AgentReader::stop(Nanos patience) {
  std::unique_lock lock(state_->mutex);
  state_->stopping = true;
  state_->queue.clear();
  state_->changed.notify_all();
  const bool ended = state_->changed.wait_for(lock, std::chrono::nanoseconds(patience), [&] { return state_->ended; });
  lock.unlock();
  if (!thread_.joinable()) return true;
  if (ended)
    thread_.join();
  else
    thread_.detach();
  return ended;
}

}  // namespace stp::host
