#include "stp/request_fate.h"

#include <algorithm>
#include <cerrno>
#include <cmath>

namespace stp {
namespace {

constexpr std::int64_t kFarthestMiss = 8;  // blocks

Nanos draw_span(Dice& random, const FaultSpan& span) {
  if (span.chance <= 0 || !random.chance(span.chance)) return 0;
  return std::max<Nanos>(1, random.log_between(span.shortest, span.longest));
}

// Some sectors are missing, some are not: as if the power had failed in the middle, or any of them.
std::vector<bool> tear(Dice& random, std::size_t sectors) {
  std::vector<bool> missing(sectors, false);
  if (sectors < 2) return std::vector<bool>(sectors, true);
  if (random.chance(0.5)) {
    const auto landed = static_cast<std::size_t>(random.between(1, static_cast<std::int64_t>(sectors) - 1));
    std::fill(missing.begin() + static_cast<std::ptrdiff_t>(landed), missing.end(), true);
    return missing;
  }
  for (std::size_t s = 0; s < sectors; ++s) missing[s] = random.chance(0.5);
  const std::size_t one = random.below(sectors);
  const std::size_t other = (one + 1 + random.below(sectors - 1)) % sectors;
  missing[one] = true;
  missing[other] = false;
  return missing;
}

// From one flip to the next: as if every byte had been asked.
void draw_flips(Dice& random, const FaultPlan& plan, std::size_t bytes, std::uint32_t block_size, std::vector<std::uint64_t>& out) {
  if (plan.flip <= 0) return;
  const double scale = plan.flip < 1 ? 1 / std::log1p(-plan.flip) : 0;
  double at = 0;
  for (;;) {
    at += std::floor(std::log1p(-random.unit()) * scale);
    if (!(at < static_cast<double>(bytes))) return;
    auto byte = static_cast<std::uint64_t>(at);
    if (plan.flip_front > 0 && random.chance(plan.flip_front)) byte = byte / block_size * block_size + random.below(kFaultSectorBytes);
    out.push_back(byte * 8 + random.below(8));
    at += 1;
  }
}

std::uint64_t draw_miss(Dice& random, const IoRequest& request, std::uint64_t total_blocks) {
  const std::int64_t by = random.between(1, kFarthestMiss) * (random.chance(0.5) ? 1 : -1);
  const std::int64_t place = static_cast<std::int64_t>(request.block) + by;
  const bool fits = place >= 0 && static_cast<std::uint64_t>(place) + request.blocks <= total_blocks;
  return fits ? static_cast<std::uint64_t>(place) : request.block;
}

}  // namespace

bool RequestFate::nothing_lands() const { return !missing.empty() && std::ranges::all_of(missing, [](bool m) { return m; }); }

bool RequestFate::good(const IoRequest& request) const {
  return delay == 0 && error == 0 && place == request.block && missing.empty() && flips.empty() && undo_after == 0;
}

RequestFate draw_fate(Dice& random, const FaultPlan& plan, const IoRequest& request, std::uint32_t block_size, std::uint64_t total_blocks) {
  const std::size_t bytes = static_cast<std::size_t>(request.blocks) * block_size;
  const bool write = request.op == IoRequest::Op::kWrite;
  RequestFate fate;
  fate.place = request.block;
  fate.delay = draw_span(random, plan.delay);
  if (random.chance(write ? plan.eio_write : plan.eio_read)) fate.error = EIO;
  draw_flips(random, plan, bytes, block_size, fate.flips);
  if (!write) return fate;
  const std::size_t sectors = bytes / kFaultSectorBytes;
  const bool torn = random.chance(plan.torn), lost = random.chance(plan.lost);
  const std::uint64_t after_error = fate.error == 0 ? 0 : random.below(3);  // whole, in part, not at all
  if (lost || after_error == 2)
    fate.missing.assign(sectors, true);
  else if (torn || after_error == 1)
    fate.missing = tear(random, sectors);
  if (random.chance(plan.misdirected)) fate.place = draw_miss(random, request, total_blocks);
  fate.undo_after = draw_span(random, plan.undo);
  return fate;
}

void flip_bits(Bytes bytes, const std::vector<std::uint64_t>& bits) {
  for (const std::uint64_t bit : bits) bytes[bit / 8] ^= static_cast<std::byte>(1u << (bit % 8));
}

}  // namespace stp
