#include "stp/cpu_cache.h"

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
#endif

namespace stp {

#if defined(__x86_64__)
namespace {

constexpr std::size_t kLine = 64;

// CPUID: leaf 1, ECX bit 31 is set by hypervisors alone; leaf 7, EBX bit 23 is CLFLUSHOPT.
bool ask_processor() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (__get_cpuid(1, &a, &b, &c, &d) == 0 || (c & (1u << 31)) == 0) return false;
  return __get_cpuid_count(7, 0, &a, &b, &c, &d) != 0 && (b & (1u << 23)) != 0;
}

__attribute__((target("clflushopt"))) void evict(const std::byte* begin, std::size_t size) {
  for (std::size_t i = 0; i < size; i += kLine) _mm_clflushopt(const_cast<std::byte*>(begin + i));
}

}  // namespace

bool eviction_helps_hypervisor() {
  static const bool helps = ask_processor();
  return helps;
}

void evict_from_cpu_cache(ConstBytes bytes) {
  if (eviction_helps_hypervisor()) evict(bytes.data(), bytes.size());
}
#else
bool eviction_helps_hypervisor() { return false; }
void evict_from_cpu_cache(ConstBytes) {}
#endif

}  // namespace stp
