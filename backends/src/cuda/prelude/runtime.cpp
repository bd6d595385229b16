// The emulator's scheduler: fibers, their queue, barriers, blocks over OS threads, and the reports of what went wrong.
#include "runtime.hpp"
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <memory>
#include <mutex>
#include <sys/mman.h>
#include <thread>
#ifndef __x86_64__
#include <ucontext.h>
#endif

namespace emulator {

thread_local Worker *worker;
thread_local Fiber *self;

namespace {

constexpr size_t PAGE = 4096;
// Tiles in registers live on a thread's stack here: 256 KiB hold any, and pages that nobody touches cost nothing.
constexpr size_t STACK = 256 << 10;

} // namespace

#ifdef __x86_64__
// Keeps the registers that a call keeps, and changes stacks.
extern "C" void mixc_emulator_switch(void **from, void *to);
asm(R"(
.text
.p2align 4
.local mixc_emulator_switch
.type mixc_emulator_switch, @function
mixc_emulator_switch:
  pushq %rbx
  pushq %rbp
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbp
  popq %rbx
  retq
.size mixc_emulator_switch, . - mixc_emulator_switch
)");
#endif

namespace {

__attribute__((noinline)) void switch_to(Fiber &to) {
  Fiber &from = *self;
  if (&from == &to) return;
  self = &to;
#ifdef __x86_64__
  mixc_emulator_switch(&from.stack_pointer, to.stack_pointer);
#else
  swapcontext(static_cast<ucontext_t *>(from.context), static_cast<ucontext_t *>(to.context));
#endif
}

void enqueue(int thread) {
  Worker &w = *worker;
  w.fibers[thread].state = State::RUNNING;
  w.ready[w.tail++ % w.ready.size()] = thread;
}

// The next that is ready; without one, back to the worker, who then looks who is left.
void next() {
  Worker &w = *worker;
  if (w.head == w.tail || w.failed) switch_to(w.outside);
  else switch_to(w.fibers[w.ready[w.head++ % w.ready.size()]]);
}

// SplitMix64 (Steele, Lea, Flood 2014).
uint64_t draw(uint64_t &state) {
  uint64_t z = state += 0x9e3779b97f4a7c15u;
  z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
  z = (z ^ z >> 27) * 0x94d049bb133111ebu;
  return z ^ z >> 31;
}

// The line of `program.cu` that `site` (a return address) belongs to, as " (line 12)", or nothing.
std::string line_of(const void *site) {
  Dl_info info;
  if (!site || !dladdr(site, &info) || !info.dli_fname) return "";
  char offset[32];
  snprintf(offset, sizeof offset, "0x%zx", (size_t)site - (size_t)info.dli_fbase - 1);
  std::string quoted;
  for (const char *c = info.dli_fname; *c; c++) quoted += *c == '\'' ? std::string("'\\''") : std::string(1, *c);
  FILE *out = popen(("addr2line -i -e '" + quoted + "' " + offset + " 2>/dev/null").c_str(), "r");
  if (!out) return "";
  char line[1024];
  std::string found;
  while (fgets(line, sizeof line, out)) {
    const char *at = strstr(line, "program.cu:");
    if (at && found.empty()) found = std::to_string(atoi(at + strlen("program.cu:")));
  }
  pclose(out);
  return found.empty() || found == "0" ? "" : ", line " + found;
}

void returned() {
  Worker &w = *worker;
  Fiber &f = *self;
  Warp &warp = own_warp();
  if (warp.arrived)
    fail(nullptr, std::string("warp divergence: lane ") + std::to_string(f.thread % LANES) + " returned while lane " + std::to_string(warp.first) +
                      " waits in " + warp.operation);
  if (w.at_barrier)
    for (Fiber &other : w.fibers)
      if (other.state == State::AT_BARRIER)
        fail(other.site, "barrier not reached by all: thread " + std::to_string(f.thread) + " returned while thread " +
                             std::to_string(other.thread) + " waits at the barrier");
  f.state = State::RETURNED;
  w.living--;
  next();
}

void fiber_main() {
  worker->launch->record->call(worker->launch->words);
  returned();
  abort(); // nobody wakes who has returned
}

bool prepare_stacks(Worker &w) {
  while (w.stacks.size() < w.fibers.size()) {
    // One page below each stays closed, so that a stack that is too small stops the process where it happens.
    void *p = mmap(nullptr, STACK + PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) return false;
    mprotect(p, PAGE, PROT_NONE);
    w.stacks.push_back(static_cast<char *>(p) + PAGE);
#ifndef __x86_64__
    w.contexts.push_back(new ucontext_t);
#endif
  }
  return true;
}

void start(Fiber &f) {
  char *stack = worker->stacks[f.thread];
#ifdef __x86_64__
  // As after a call: the return address of nobody, then the entry that `ret` takes, then six registers.
  void **top = reinterpret_cast<void **>(stack + STACK);
  *--top = nullptr;
  *--top = reinterpret_cast<void *>(&fiber_main);
  for (int k = 0; k < 6; k++) *--top = nullptr;
  f.stack_pointer = top;
#else
  f.context = worker->contexts[f.thread];
  auto *context = static_cast<ucontext_t *>(f.context);
  getcontext(context);
  context->uc_stack.ss_sp = stack;
  context->uc_stack.ss_size = STACK;
  context->uc_link = nullptr;
  makecontext(context, fiber_main, 0);
#endif
}

std::string deadlock() {
  Worker &w = *worker;
  std::string text;
  for (size_t k = 0; k < w.warps.size(); k++)
    if (w.warps[k].arrived)
      text += (text.empty() ? "warp divergence: " : ", ") + std::to_string(w.warps[k].arrived) + " of 32 lanes of warp " + std::to_string(k) + " wait in " +
              w.warps[k].operation;
  std::map<std::string, std::pair<int, int>> reasons;
  for (Fiber &f : w.fibers) {
    if (f.state == State::RETURNED) continue;
    auto &[count, first] = reasons[f.waits_in];
    if (count++ == 0) first = f.thread;
  }
  text += (text.empty() ? "" : "; ") + std::string("deadlock:");
  const char *comma = " ";
  for (auto &[reason, threads] : reasons) {
    text += comma + std::to_string(threads.first) + " threads wait in " + reason + " (thread " + std::to_string(threads.second) +
            line_of(w.fibers[threads.second].site) + ")";
    comma = ", ";
  }
  return text;
}

void run_block(Worker &w, Launch &launch, int64_t block) {
  worker = &w;
  w.launch = &launch;
  w.block = block;
  w.failed = false;
  w.report.clear();
  w.fibers.resize(launch.threads);
  w.warps.assign(launch.threads / LANES, Warp());
  w.ready.assign(launch.threads, 0);
  w.head = w.tail = 0;
  w.at_barrier = 0;
  w.living = (int)launch.threads;
  w.mbarriers.clear();
  renew_shadow(w);
  w.block_base = w.now++;
  w.random = launch.order * 0x100000001b3u + (uint64_t)block;
#ifndef __x86_64__
  if (!w.outside.context) w.outside.context = new ucontext_t;
#endif
  self = &w.outside;
  if (launch.shared_bytes > w.shared_capacity) {
    free(w.shared);
    w.shared_capacity = ((size_t)launch.shared_bytes + 1023) / 1024 * 1024;
    w.shared = static_cast<unsigned char *>(aligned_alloc(1024, w.shared_capacity));
    if (!w.shared) w.shared_capacity = 0;
  }
  if (!prepare_stacks(w) || (launch.shared_bytes && !w.shared)) {
    w.failed = true;
    w.report = "the emulator has no memory for the block";
    return;
  }
  // All bits set are a NaN in every floating type: what nobody wrote is seen in the results.
  if (launch.shared_bytes) memset(w.shared, 0xff, launch.shared_bytes);
  std::vector<int> all(launch.threads);
  for (int t = 0; t < (int)launch.threads; t++) {
    Fiber &f = w.fibers[t];
    f.thread = t;
    f.clock = w.now;
    f.known.clear();
    f.open.clear();
    f.groups.clear();
    start(f);
    all[t] = t;
  }
  wake(all);
  next();
  if (!w.failed && w.living) {
    w.failed = true;
    w.report = "kernel " + launch.kernel + ", block " + std::to_string(block) + ": " + deadlock();
  }
}

std::mutex idle_lock;
std::vector<std::unique_ptr<Worker>> idle;

std::unique_ptr<Worker> take_worker() {
  std::lock_guard<std::mutex> guard(idle_lock);
  if (idle.empty()) {
    auto fresh = std::make_unique<Worker>();
    fresh->recent.assign(1024, {});
    return fresh;
  }
  auto taken = std::move(idle.back());
  idle.pop_back();
  return taken;
}

unsigned most_threads() {
  const char *text = getenv("MIXC_THREADS");
  const int asked = text ? atoi(text) : 0;
  return asked > 0 ? (unsigned)asked : std::max(1u, std::thread::hardware_concurrency());
}

} // namespace

void fail(const void *site, const std::string &what) {
  Worker &w = *worker;
  w.failed = true;
  w.report = "kernel " + w.launch->kernel + ", block " + std::to_string(w.block) + ", thread " + std::to_string(self->thread) + line_of(site) + ": " + what;
  switch_to(w.outside);
  abort(); // a failed block runs no more
}

void wake(std::vector<int> &threads) {
  Worker &w = *worker;
  if (w.launch->order == 1) std::reverse(threads.begin(), threads.end());
  if (w.launch->order > 1)
    for (size_t n = threads.size(); n > 1; n--) std::swap(threads[n - 1], threads[draw(w.random) % n]);
  for (int t : threads) enqueue(t);
}

void wait(State state, const char *in, const void *site) {
  self->state = state;
  self->waits_in = in;
  self->site = site;
  next();
}

bool run(Launch &launch, std::string &report) {
  std::atomic<int64_t> next_block{0};
  std::atomic<int64_t> first_failed{launch.blocks};
  std::mutex lock;
  const auto work = [&] {
    auto w = take_worker();
    w->found.assign(64, {});
    // Blocks are handed out in order and those below a failed one still run: the report is that of the first that
    // fails, whatever the number of OS threads.
    for (int64_t b = next_block++; b < first_failed.load(); b = next_block++) {
      run_block(*w, launch, b);
      if (!w->failed) continue;
      std::lock_guard<std::mutex> guard(lock);
      if (b < first_failed.load()) {
        first_failed = b;
        report = w->report;
      }
    }
    std::lock_guard<std::mutex> guard(idle_lock);
    idle.push_back(std::move(w));
  };
  std::vector<std::thread> others;
  const unsigned threads = std::min(launch.blocks, most_threads());
  for (unsigned k = 1; k < threads; k++) others.emplace_back(work);
  work();
  for (auto &t : others) t.join();
  return first_failed.load() == (int64_t)launch.blocks;
}

} // namespace emulator

using namespace emulator;
#define SITE __builtin_return_address(0)
#define EXPORT extern "C" __attribute__((visibility("default")))

struct mxr_extent {
  void *region;
  long long bytes;
};

EXPORT int mxr_thread() { return self->thread; }
EXPORT long long mxr_block() { return worker->block; }
EXPORT long long mxr_blocks() { return worker->launch->blocks; }
EXPORT unsigned char *mxr_shared() { return worker->shared; }
EXPORT long long mxr_shared_bytes() { return worker->launch->shared_bytes; }

EXPORT void mxr_barrier() {
  Worker &w = *worker;
  const void *site = SITE;
  if (w.living < (int)w.fibers.size())
    for (Fiber &f : w.fibers)
      if (f.state == State::RETURNED)
        fail(site, "barrier not reached by all: thread " + std::to_string(f.thread) + " has returned");
  if (++w.at_barrier < (int)w.fibers.size()) return wait(State::AT_BARRIER, "the barrier", site);
  w.at_barrier = 0;
  w.block_base = w.now++;
  std::vector<int> all;
  for (Fiber &f : w.fibers) {
    f.clock = w.now;
    all.push_back(f.thread);
  }
  wake(all);
  next();
}

EXPORT mxr_extent mxr_find(const void *address) {
  Worker &w = *worker;
  const uint64_t a = (uint64_t)address;
  auto &known = w.found[(a >> 6) % w.found.size()];
  if (!known.second || known.first != a) known = {a, find_region(a)};
  Region *r = known.second;
  return r ? mxr_extent{r, (long long)(r->address + r->bytes - a)} : mxr_extent{nullptr, 0};
}

EXPORT void mxr_read(const void *address, int bytes, int kind, void *region) { check(SITE, address, bytes, kind, region, false); }
EXPORT void mxr_write(const void *address, int bytes, int kind, void *region) { check(SITE, address, bytes, kind, region, true); }

namespace {
const char *memory_name(int kind) { return kind == SHARED ? "shared memory" : kind == SCRATCH ? "scratch memory" : "global memory"; }
} // namespace

EXPORT void mxr_out_of_bounds(const char *name, long long index, long long count, int kind) {
  fail(SITE, "out of bounds: " + std::string(name) + "[" + std::to_string(index) + "] of " + std::to_string(count) + " elements in " + memory_name(kind));
}

EXPORT void mxr_bad_view(const char *name, long long offset, long long count, int size, long long bytes, int kind) {
  fail(SITE, "out of bounds: " + std::string(name) + ", " + std::to_string(count) + " elements of " + std::to_string(size) + " bytes at offset " +
                 std::to_string(offset) + ", does not fit into or is not aligned in " + std::to_string(bytes) + " bytes of " + memory_name(kind));
}
