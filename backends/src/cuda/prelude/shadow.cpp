// The race check: for every four bytes that a block touches, who wrote and who read last, and at which time.
//
// Times are those of a clock that ticks at every release: at the block's barrier, a warp's barrier, an arrival at an
// mbarrier. An access is ordered before another when a barrier lies between that both took part in; what threads learn
// through mbarriers is kept thread by thread. Two accesses of one place, one of them a write, by two threads without
// such an order are a race whatever values they meet. Reads by more than one warp, with mbarriers in use, are kept
// less exactly than all else: such a race may be missed, and none is made up.
#include "runtime.hpp"
#include <sys/mman.h>

namespace emulator {
namespace {

void *zeroed(size_t bytes) {
  void *p = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return p == MAP_FAILED ? nullptr : p;
}

Page *page_of(uint64_t number) {
  Worker &w = *worker;
  auto &recent = w.recent[number % w.recent.size()];
  if (recent.second && recent.first == number) return recent.second;
  Page *&page = w.pages[number];
  if (!page) page = static_cast<Page *>(zeroed(sizeof(Page)));
  recent = {number, page};
  return page;
}

struct View {
  int thread;
  unsigned block_base, warp_base;
};

inline bool ordered(const View &v, int other, unsigned time) {
  if (time <= v.block_base || other == v.thread) return true;
  if (other / LANES == v.thread / LANES && time <= v.warp_base) return true;
  return !self->known.empty() && time <= self->known[other];
}

unsigned known_of_warp(int warp) {
  unsigned least = ~0u;
  for (int lane = 0; lane < LANES; lane++) least = std::min(least, self->known[warp * LANES + lane]);
  return least;
}

bool reads_ordered(const View &v, const Cell &c) {
  if (c.read <= v.block_base) return true;
  if (c.readers == 0) return ordered(v, c.reader, c.read);
  const int own = v.thread / LANES;
  if (c.readers == 1) {
    if (c.reader / LANES == own) return c.read <= v.warp_base;
    return !self->known.empty() && c.read <= known_of_warp(c.reader / LANES);
  }
  if (self->known.empty()) return false;
  for (int warp = 0; warp < (int)worker->warps.size(); warp++)
    if ((c.reading_warps >> warp & 1) && warp != own && known_of_warp(warp) <= v.block_base) return false;
  return true;
}

[[noreturn]] __attribute__((noinline)) void race(const void *site, const void *address, bool write, const char *verb, int other) {
  const auto a = (const unsigned char *)address;
  const unsigned char *shared = worker->shared;
  const bool is_shared = a >= shared && a < shared + worker->launch->shared_bytes;
  std::string where = is_shared ? "byte " + std::to_string(a - shared) + " of shared memory" : "global memory";
  if (!is_shared)
    if (Region *r = find_region((uint64_t)a)) where = "byte " + std::to_string((uint64_t)a - r->address) + " of an allocation";
  fail(site, "race: thread " + std::to_string(self->thread) + (write ? " writes " : " reads ") + where + " after thread " +
                 std::to_string(other) + " " + verb + " it, with no barrier between");
}

inline __attribute__((always_inline)) void touch(const View &v, Cell &c, const void *site, const void *address, bool write, bool record) {
  if (!ordered(v, c.writer, c.written)) race(site, address, write, "wrote", c.writer);
  const unsigned now = self->clock;
  if (write) {
    if (!reads_ordered(v, c)) race(site, address, write, "read", c.reader);
    if (!record) return;
    c.written = now;
    c.writer = (uint16_t)v.thread;
    c.read = 0;
    return;
  }
  if (!record) return;
  const int warp = v.thread / LANES, before = c.reader / LANES;
  const bool alone = c.read <= v.block_base || (c.readers == 0 && c.reader == v.thread) ||
                     (c.readers < 2 && before == warp && c.read <= v.warp_base);
  if (alone) {
    c.readers = 0;
    c.reading_warps = 1u << warp;
  } else {
    c.reading_warps |= 1u << warp;
    if (before != warp) c.readers = 2;
    else if (c.readers == 0) c.readers = 1;
  }
  c.read = now;
  c.reader = (uint16_t)v.thread;
}

void check_as(const View &v, const void *site, const void *address, int bytes, bool write) {
  uint64_t at = (uint64_t)address;
  const uint64_t end = at + (uint64_t)bytes;
  while (at < end) {
    Page *page = page_of(at >> 12);
    if (!page) return; // no memory left to check with
    const unsigned offset = at & 4095;
    Cell &word = page->words[offset >> 2];
    const unsigned part = (offset & 3) || end - at < 4 ? std::min<uint64_t>(4 - (offset & 3), end - at) : 4;
    const bool whole = part == 4;
    touch(v, word, site, (const void *)at, write, whole);
    if (!whole) word.in_bytes = 1;
    if (word.in_bytes) {
      if (!page->bytes) page->bytes = static_cast<Cell *>(zeroed(sizeof(Cell) * 4096));
      for (unsigned k = 0; page->bytes && k < part; k++) touch(v, page->bytes[offset + k], site, (const void *)(at + k), write, !whole);
    }
    at += part;
  }
}

// Two blocks of one launch have no order at all.
void check_blocks(const void *site, const void *address, Region &region, int kind, bool write) {
  auto *touched = region.touched.load(std::memory_order_acquire);
  if (!touched) {
    touched = static_cast<std::atomic<uint32_t> *>(zeroed(region.bytes * 2 * sizeof(uint32_t)));
    if (!touched) return;
    std::atomic<uint32_t> *expected = nullptr;
    if (!region.touched.compare_exchange_strong(expected, touched)) {
      munmap((void *)touched, region.bytes * 2 * sizeof(uint32_t));
      touched = expected;
    }
  }
  const uint64_t offset = (uint64_t)address - region.address;
  auto &writer = touched[2 * offset], &reader = touched[2 * offset + 1];
  const Launch &launch = *worker->launch;
  const uint32_t own = launch.first_serial + (uint32_t)worker->block;
  const auto other = [&](uint32_t s) { return s != own && s - launch.first_serial < launch.blocks; };
  const auto tell = [&](const char *verb, uint32_t s) {
    fail(site, "race between blocks: block " + std::to_string(worker->block) + (write ? " writes" : " reads") + " byte " +
                   std::to_string(offset) + " of an allocation that block " + std::to_string(s - launch.first_serial) + " " + verb);
  };
  if (write) {
    const uint32_t before = writer.exchange(own, std::memory_order_relaxed);
    if (other(before)) tell("wrote", before);
    const uint32_t read = reader.load(std::memory_order_relaxed);
    if (other(read)) tell("read", read);
  } else {
    if (reader.load(std::memory_order_relaxed) != own) reader.store(own, std::memory_order_relaxed);
    const uint32_t before = writer.load(std::memory_order_relaxed);
    if (other(before)) tell("wrote", before);
    if (kind == CONSTANT && before == own)
      fail(site, "byte " + std::to_string(offset) + " of an allocation is read through a pointer to constants after this launch wrote it");
  }
}

} // namespace

void check(const void *site, const void *address, int bytes, bool write, unsigned block_base, unsigned warp_base) {
  check_as({self->thread, block_base, warp_base}, site, address, bytes, write);
}

void check(const void *site, const void *address, int bytes, int kind, void *region, bool write) {
  if (kind != CONSTANT) check_as({self->thread, worker->block_base, own_warp().base}, site, address, bytes, write);
  if (kind != SHARED && region) check_blocks(site, address, *static_cast<Region *>(region), kind, write);
}

void renew_shadow(Worker &w) {
  // 4096 pages check 16 MiB and take 80: more is given back, so that long test runs stay small.
  if (w.now < 1u << 30 && w.pages.size() < 4096) return;
  for (auto &[number, page] : w.pages) {
    if (!page) continue;
    if (page->bytes) munmap(page->bytes, sizeof(Cell) * 4096);
    munmap(page, sizeof(Page));
  }
  w.pages.clear();
  w.recent.assign(w.recent.size(), {});
  w.now = 1;
}

} // namespace emulator
