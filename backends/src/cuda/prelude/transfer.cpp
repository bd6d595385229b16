// Copies that run beside the threads, as late as the program allows, and the mbarriers that some of them complete on.
//
// From its issue on the destination is poison, and it is filled when the first thread that may rely on it waits: a
// missing wait is then seen in the results, not only now and then.
#include "runtime.hpp"
#include <cmath>
#include <cstring>

namespace emulator {
namespace {

void issue(const void *site, std::vector<Copy> &queue, void *to, const void *from, int bytes, int kind, void *region) {
  check(site, to, bytes, SHARED, nullptr, true);
  // Elements of 2 bytes and more start at even places.
  if (from)
    for (int k = 0; k < bytes; k += 2) check(site, (const char *)from + k, 2, kind, region, false);
  memset(to, 0xff, (size_t)bytes);
  queue.push_back({to, from, bytes, worker->block_base, own_warp().base});
}

void complete(const Copy &copy) {
  if (copy.from) memcpy(copy.to, copy.from, (size_t)copy.bytes);
  else memset(copy.to, 0, (size_t)copy.bytes);
}

Mbarrier &mbarrier(const void *site, void *at) {
  auto found = worker->mbarriers.find(at);
  if (found == worker->mbarriers.end()) fail(site, "an mbarrier is used before it is initialised");
  check(site, at, 8, SHARED, nullptr, false); // others see the initialisation after a barrier only
  return found->second;
}

void join(std::vector<unsigned> &into, const std::vector<unsigned> &from) {
  if (from.empty()) return;
  into.resize(worker->fibers.size(), 0);
  for (size_t k = 0; k < from.size(); k++) into[k] = std::max(into[k], from[k]);
}

// This thread tells what it did and knows; what it does later is not told.
void release(Mbarrier &b) {
  Worker &w = *worker;
  b.heard.resize(w.fibers.size(), 0);
  join(b.heard, self->known);
  const int first = self->thread / LANES * LANES;
  for (size_t k = 0; k < b.heard.size(); k++) b.heard[k] = std::max(b.heard[k], w.block_base);
  for (int k = first; k < first + LANES; k++) b.heard[k] = std::max(b.heard[k], own_warp().base);
  b.heard[self->thread] = self->clock;
  self->clock = ++w.now;
  w.now++;
}

void end_phase(Mbarrier &b) {
  if (b.pending != 0 || b.expected != 0) return;
  b.phase++;
  b.pending = b.count;
  b.said = std::move(b.heard);
  b.heard.clear();
  auto waiters = std::move(b.waiters);
  b.waiters.clear();
  wake(waiters);
}

} // namespace
} // namespace emulator

using namespace emulator;
#define SITE __builtin_return_address(0)
#define EXPORT extern "C" __attribute__((visibility("default")))

EXPORT void mxr_copy16(void *to, const void *from, int kind, void *region, bool present) {
  if ((uint64_t)to % 16 != 0 || (uint64_t)from % 16 != 0) fail(SITE, "copy16_async: an address is no multiple of 16");
  issue(SITE, self->open, to, present ? from : nullptr, 16, kind, region);
}

EXPORT void mxr_copy_commit() {
  self->groups.push_back(std::move(self->open));
  self->open.clear();
}

EXPORT void mxr_copy_wait(int newest) {
  while ((int)self->groups.size() > newest) {
    for (const Copy &copy : self->groups.front()) {
      // Whoever touched the destination after the issue, by the order that the issuer knew then, raced with the copy.
      check(SITE, copy.to, copy.bytes, true, copy.block_base, copy.warp_base);
      complete(copy);
    }
    self->groups.pop_front();
  }
}

EXPORT void mxr_mbarrier_init(void *at, int count) {
  check(SITE, at, 8, SHARED, nullptr, true);
  if (count <= 0) fail(SITE, "an mbarrier counts at least one arrival");
  Mbarrier &b = worker->mbarriers[at];
  b = Mbarrier();
  b.count = b.pending = count;
}

EXPORT void mxr_mbarrier_arrive(void *at, int expected_bytes) {
  Mbarrier &b = mbarrier(SITE, at);
  if (b.pending <= 0) fail(SITE, "an mbarrier gets more arrivals than it counts");
  b.expected += expected_bytes;
  release(b);
  b.pending--;
  end_phase(b);
}

EXPORT void mxr_mbarrier_wait(void *at, int parity) {
  const void *site = SITE;
  for (;;) {
    Mbarrier &b = mbarrier(site, at);
    if ((int)(b.phase & 1) != parity) {
      join(self->known, b.said);
      return;
    }
    if (!b.copies.empty()) {
      auto copies = std::move(b.copies);
      b.copies.clear();
      for (const Copy &copy : copies) {
        complete(copy);
        b.expected -= copy.bytes;
      }
      end_phase(b);
      continue;
    }
    b.waiters.push_back(self->thread);
    wait(State::AT_MBARRIER, "an mbarrier", site);
  }
}

EXPORT void mxr_bulk_copy(void *to, const void *from, int bytes, int kind, void *region, void *at) {
  if (bytes <= 0 || bytes % 16 != 0 || (uint64_t)to % 16 != 0 || (uint64_t)from % 16 != 0)
    fail(SITE, "bulk_copy: an address or the number of bytes is no multiple of 16");
  Mbarrier &b = mbarrier(SITE, at);
  issue(SITE, b.copies, to, from, bytes, kind, region);
  release(b); // who waits for the bytes may read what the copy wrote
  auto waiters = std::move(b.waiters);
  b.waiters.clear();
  wake(waiters);
}

// IEEE 754 binary16, to nearest even; too large is infinite, and a NaN is the one that the GPU's conversion gives.
EXPORT unsigned short mxr_f16_from_float(float x) {
  uint32_t u;
  memcpy(&u, &x, 4);
  const uint16_t sign = (uint16_t)(u >> 16 & 0x8000);
  u &= 0x7fffffff;
  if (u > 0x7f800000) return 0x7fff;
  if (u >= 0x47800000) return sign | 0x7c00;
  if (u < 0x38800000) {
    // Below the smallest normal number its last place is 2^-24.
    float a;
    memcpy(&a, &u, 4);
    return sign | (uint16_t)std::nearbyintf(a * 16777216.0f);
  }
  u += 0xfff + (u >> 13 & 1);
  return sign | (uint16_t)((u - 0x38000000) >> 13);
}

EXPORT float mxr_float_from_f16(unsigned short bits) {
  const uint32_t exponent = bits >> 10 & 31, fraction = bits & 1023;
  float magnitude;
  if (exponent == 0) {
    magnitude = (float)fraction * (1.0f / 16777216.0f);
  } else {
    const uint32_t u = exponent == 31 ? 0x7f800000 | fraction << 13 : (exponent + 112) << 23 | fraction << 13;
    memcpy(&magnitude, &u, 4);
  }
  return bits & 0x8000 ? -magnitude : magnitude;
}
