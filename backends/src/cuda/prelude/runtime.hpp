// What the parts of the emulator share: threads of a block as fibers, the block that an OS thread runs, the memory table.
//
// One OS thread runs one block at a time and a fiber never leaves it. The fibers of a block take turns in a queue; who
// waits is in no queue until somebody wakes it. An empty queue with fibers left is a deadlock.
#pragma once
#include <atomic>
#include <cstdint>
#include <deque>
#include <map>
#include <string>
#include <vector>

struct mx_record {
  void (*call)(void **words);
  int threads;
  int words;
};

namespace emulator {

enum Kind { SHARED, SCRATCH, GLOBAL, CONSTANT };
constexpr int LANES = 32;

// One allocation of the emulated device. `touched` has two words a byte (the last block that wrote and the last that
// read an element starting there), mapped when first used.
struct Region {
  uint64_t address;
  uint64_t bytes;
  std::atomic<std::atomic<uint32_t> *> touched{nullptr};
};

// The allocation that holds `address`, or whose end it is; null where there is none.
Region *find_region(uint64_t address);

struct Launch {
  const mx_record *record;
  std::string kernel;
  unsigned blocks, threads, shared_bytes;
  void **words;
  unsigned order;
  uint32_t first_serial; // block b of this launch is first_serial + b in `Region::touched`
};

// Runs all blocks. False with a report where the kernel did what it may not.
bool run(Launch &launch, std::string &report);

// A stretch of shared memory that a copy will fill, and what its issuer knew then of the others.
struct Copy {
  void *to;
  const void *from;
  int bytes;
  unsigned block_base, warp_base;
};

enum class State { RUNNING, IN_WARP, AT_BARRIER, AT_MBARRIER, RETURNED };

struct Fiber {
  void *stack_pointer = nullptr;
  void *context = nullptr; // a ucontext_t, where the switch is the C library's
  int thread = 0;
  State state = State::RUNNING;
  const char *waits_in = "";
  const void *site = nullptr;
  unsigned clock = 0;          // the time of its last release; accesses are stamped with it
  std::vector<unsigned> known; // by thread: what it heard of through mbarriers; empty before the first
  std::vector<Copy> open;
  std::deque<std::vector<Copy>> groups;
  void *operands[3] = {};
  uint64_t value = 0;
  int source = 0;
};

struct Warp {
  int arrived = 0;
  const char *operation = "";
  int first = 0;          // the lane that arrived first
  unsigned base = 0;      // accesses of the warp's lanes up to this time are ordered before all its lanes
};

struct Mbarrier {
  int count = 0, pending = 0;
  int64_t expected = 0;
  unsigned phase = 0;
  std::vector<int> waiters;
  std::vector<Copy> copies;
  std::vector<unsigned> heard; // by thread: what arrivals of the current phase knew
  std::vector<unsigned> said;  // the same of the phase that ended last
};

// Who touched four bytes last (or one byte: the cells of `Page::bytes`), in times of the worker's clock.
struct Cell {
  uint32_t written, read;
  uint32_t reading_warps;
  uint16_t writer, reader;
  uint8_t readers; // of `read`: 0 one thread, 1 several lanes of a warp, 2 several warps
  uint8_t in_bytes; // parts of the word were accessed alone
};

struct Page {
  Cell words[1024];
  Cell *bytes; // 4096, mapped when first used
};

struct Worker {
  Launch *launch = nullptr;
  int64_t block = 0;
  std::vector<Fiber> fibers;
  std::vector<Warp> warps;
  std::vector<char *> stacks; // by thread, kept from block to block
  std::vector<void *> contexts;
  std::vector<int> ready; // a ring
  size_t head = 0, tail = 0;
  int living = 0, at_barrier = 0;
  Fiber outside; // the worker's own stack
  unsigned char *shared = nullptr;
  size_t shared_capacity = 0;
  unsigned now = 1;        // the clock of releases
  unsigned block_base = 0; // accesses up to this time are ordered before all the block's threads
  std::map<void *, Mbarrier> mbarriers;
  std::map<uint64_t, Page *> pages;
  std::vector<std::pair<uint64_t, Page *>> recent; // by page number modulo its length
  std::vector<std::pair<uint64_t, Region *>> found;
  uint64_t random = 0;
  bool failed = false;
  std::string report;
};

extern thread_local Worker *worker;
extern thread_local Fiber *self;

inline Warp &own_warp() { return worker->warps[self->thread / LANES]; }

// Ends the block with a report; `site` is an address in the program, for the line.
[[noreturn]] void fail(const void *site, const std::string &what);
// Puts fibers back into the queue, in the launch's order.
void wake(std::vector<int> &threads);
// Lets others run until somebody wakes this fiber.
void wait(State state, const char *in, const void *site);

// The race check of one access (`shadow.cpp`). A copy's write is judged by what its issuer knew.
void check(const void *site, const void *address, int bytes, bool write, unsigned block_base, unsigned warp_base);
void check(const void *site, const void *address, int bytes, int kind, void *region, bool write);
// Frees the race check's memory and starts its clock anew, between blocks, when that is due.
void renew_shadow(Worker &w);

} // namespace emulator
