// The CUDA driver's interface over the emulator: what a host program calls, with memory of the process as device memory.
//
// Everything is done when the call returns. What the driver refuses is refused here too: copies out of bounds, launches
// beyond the limits, shared memory above 48 KiB that nobody asked for. A failed launch gives CUDA_ERROR_LAUNCH_FAILED,
// and cuGetErrorString then gives the report of what the kernel did. A module's image is text: the line
// "mixc-emulator", the path of the program's library, and the order in which threads that wait together go on.
#include "runtime.hpp"
#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <sys/mman.h>

using namespace emulator;
#define API extern "C" __attribute__((visibility("default"))) int

namespace {

// Numbers of the driver's interface (cuda.h).
enum { SUCCESS = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, INVALID_DEVICE = 101, INVALID_IMAGE = 200, NOT_FOUND = 500, LAUNCH_FAILED = 719 };
enum { THREADS_PER_BLOCK = 1, WARP_SIZE = 10, MULTIPROCESSORS = 16, SHARED_PER_BLOCK_OPT_IN = 97, MAJOR = 75, MINOR = 76, MEMORY_POOLS = 115 };
enum { FUNCTION_MAX_DYNAMIC_SHARED = 8 };
// An H100's: capability 9.0, 132 multiprocessors, 227 KiB of shared memory for a block.
constexpr int MOST_SHARED = 232448, DEFAULT_SHARED = 48 << 10;

struct Function {
  std::string name;
  const mx_record *record;
  int shared = DEFAULT_SHARED;
  unsigned order;
};
struct Module {
  void *library;
  unsigned order;
  std::mutex lock;
  std::map<std::string, std::unique_ptr<Function>> functions;
};

std::shared_mutex regions_lock;
std::map<uint64_t, std::unique_ptr<Region>> regions;
std::mutex serial_lock;
uint32_t next_serial = 1;
thread_local std::string last_report;
int context;

bool within(uint64_t address, size_t bytes) {
  Region *r = find_region(address);
  return r && bytes <= r->address + r->bytes - address;
}

void forget_touched(Region &r) {
  if (auto *touched = r.touched.exchange(nullptr)) munmap((void *)touched, r.bytes * 2 * sizeof(uint32_t));
}

uint32_t take_serials(unsigned blocks) {
  std::lock_guard<std::mutex> guard(serial_lock);
  if (next_serial > UINT32_MAX - blocks) {
    std::unique_lock<std::shared_mutex> all(regions_lock);
    for (auto &[address, region] : regions) forget_touched(*region);
    next_serial = 1;
  }
  const uint32_t first = next_serial;
  next_serial += blocks;
  return first;
}

} // namespace

namespace emulator {
Region *find_region(uint64_t address) {
  std::shared_lock<std::shared_mutex> guard(regions_lock);
  auto after = regions.upper_bound(address);
  if (after == regions.begin()) return nullptr;
  Region *r = std::prev(after)->second.get();
  return address - r->address <= r->bytes ? r : nullptr;
}
} // namespace emulator

API cuInit(unsigned) { return SUCCESS; }
API cuDriverGetVersion(int *version) { return *version = 13000, SUCCESS; }
API cuDeviceGetCount(int *count) { return *count = 1, SUCCESS; }
API cuDeviceGet(int *device, int ordinal) { return ordinal ? INVALID_DEVICE : (*device = 0, SUCCESS); }
API cuDeviceGetName(char *name, int length, int) {
  if (length <= 0) return INVALID_VALUE;
  strncpy(name, "mixc emulator", (size_t)length);
  return name[length - 1] = 0, SUCCESS;
}
API cuDeviceTotalMem_v2(size_t *bytes, int) { return *bytes = (size_t)1 << 36, SUCCESS; }
API cuDeviceGetAttribute(int *value, int attribute, int) {
  switch (attribute) {
  case THREADS_PER_BLOCK: *value = 1024; break;
  case WARP_SIZE: *value = 32; break;
  case MULTIPROCESSORS: *value = 132; break;
  case SHARED_PER_BLOCK_OPT_IN: *value = MOST_SHARED; break;
  case MAJOR: *value = 9; break;
  case MINOR:
  case MEMORY_POOLS: *value = 0; break;
  default: return INVALID_VALUE;
  }
  return SUCCESS;
}

API cuDevicePrimaryCtxRetain(void **out, int) { return *out = &context, SUCCESS; }
API cuDevicePrimaryCtxRelease_v2(int) { return SUCCESS; }
API cuCtxSetCurrent(void *) { return SUCCESS; }
API cuCtxGetCurrent(void **out) { return *out = &context, SUCCESS; }
API cuCtxSynchronize() { return SUCCESS; }
API cuStreamCreate(void **stream, unsigned) { return *stream = new int, SUCCESS; }
API cuStreamDestroy_v2(void *stream) { return delete static_cast<int *>(stream), SUCCESS; }
API cuStreamSynchronize(void *) { return SUCCESS; }
API cuStreamWaitEvent(void *, void *, unsigned) { return SUCCESS; }
API cuEventCreate(void **event, unsigned) { return *event = new int, SUCCESS; }
API cuEventDestroy_v2(void *event) { return delete static_cast<int *>(event), SUCCESS; }
API cuEventRecord(void *, void *) { return SUCCESS; }
API cuEventSynchronize(void *) { return SUCCESS; }

API cuMemAlloc_v2(uint64_t *address, size_t bytes) {
  if (bytes == 0) return INVALID_VALUE;
  const size_t rounded = (bytes + 255) / 256 * 256;
  void *memory = rounded < bytes ? nullptr : aligned_alloc(256, rounded);
  if (!memory) return OUT_OF_MEMORY;
  memset(memory, 0xff, rounded); // a NaN in every floating type, as in shared memory
  auto region = std::make_unique<Region>();
  *address = region->address = (uint64_t)memory;
  region->bytes = bytes;
  std::unique_lock<std::shared_mutex> guard(regions_lock);
  regions[*address] = std::move(region);
  return SUCCESS;
}
API cuMemFree_v2(uint64_t address) {
  std::unique_ptr<Region> gone;
  {
    std::unique_lock<std::shared_mutex> guard(regions_lock);
    auto found = regions.find(address);
    if (found == regions.end()) return INVALID_VALUE;
    gone = std::move(found->second);
    regions.erase(found);
  }
  forget_touched(*gone);
  free((void *)address);
  return SUCCESS;
}
API cuMemAllocAsync(uint64_t *address, size_t bytes, void *) { return cuMemAlloc_v2(address, bytes); }
API cuMemFreeAsync(uint64_t address, void *) { return cuMemFree_v2(address); }
API cuMemcpyHtoDAsync_v2(uint64_t to, const void *from, size_t bytes, void *) {
  if (!within(to, bytes)) return INVALID_VALUE;
  return memcpy((void *)to, from, bytes), SUCCESS;
}
API cuMemcpyDtoHAsync_v2(void *to, uint64_t from, size_t bytes, void *) {
  if (!within(from, bytes)) return INVALID_VALUE;
  return memcpy(to, (const void *)from, bytes), SUCCESS;
}
API cuMemcpyHtoD_v2(uint64_t to, const void *from, size_t bytes) { return cuMemcpyHtoDAsync_v2(to, from, bytes, nullptr); }
API cuMemcpyDtoH_v2(void *to, uint64_t from, size_t bytes) { return cuMemcpyDtoHAsync_v2(to, from, bytes, nullptr); }
API cuMemsetD8Async(uint64_t to, unsigned char value, size_t bytes, void *) {
  if (!within(to, bytes)) return INVALID_VALUE;
  return memset((void *)to, value, bytes), SUCCESS;
}

API cuModuleLoadData(void **out, const void *image) {
  const char *text = static_cast<const char *>(image);
  const char *head = "mixc-emulator\n";
  if (strncmp(text, head, strlen(head)) != 0) return INVALID_IMAGE;
  const std::string rest = text + strlen(head);
  const size_t line = rest.find('\n');
  if (line == std::string::npos) return INVALID_IMAGE;
  void *library = dlopen(rest.substr(0, line).c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!library) {
    const char *why = dlerror();
    last_report = why ? why : "the program's library cannot be opened";
    return INVALID_IMAGE;
  }
  auto module = std::make_unique<Module>();
  module->library = library;
  module->order = (unsigned)strtoul(rest.c_str() + line, nullptr, 10);
  return *out = module.release(), SUCCESS;
}
API cuModuleUnload(void *module) {
  dlclose(static_cast<Module *>(module)->library);
  return delete static_cast<Module *>(module), SUCCESS;
}
API cuModuleGetFunction(void **out, void *module, const char *name) {
  Module &m = *static_cast<Module *>(module);
  std::lock_guard<std::mutex> guard(m.lock);
  auto &function = m.functions[name];
  if (!function) {
    auto record = static_cast<const mx_record *>(dlsym(m.library, ("mx_record_" + std::string(name)).c_str()));
    if (!record) return m.functions.erase(name), NOT_FOUND;
    function = std::make_unique<Function>();
    function->name = name;
    function->record = record;
    function->order = m.order;
  }
  return *out = function.get(), SUCCESS;
}
API cuFuncSetAttribute(void *function, int attribute, int value) {
  if (attribute != FUNCTION_MAX_DYNAMIC_SHARED) return SUCCESS;
  if (value < 0 || value > MOST_SHARED) return INVALID_VALUE;
  static_cast<Function *>(function)->shared = std::max(value, DEFAULT_SHARED);
  return SUCCESS;
}
API cuFuncGetAttribute(int *value, int, void *) { return *value = 0, SUCCESS; }

API cuLaunchKernel(void *function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned shared, void *, void **words,
                   void **) {
  const Function &f = *static_cast<Function *>(function);
  last_report.clear();
  if (gx == 0 || gx > 0x7fffffff || gy != 1 || gz != 1 || by != 1 || bz != 1) return INVALID_VALUE;
  // `__launch_bounds__` allows fewer threads; here a kernel states how many it runs with.
  if ((int)bx != f.record->threads || (int)shared > f.shared) return INVALID_VALUE;
  Launch launch{f.record, f.name, gx, bx, shared, words, f.order, take_serials(gx)};
  return run(launch, last_report) ? SUCCESS : LAUNCH_FAILED;
}

API cuGetErrorName(int error, const char **name) {
  switch (error) {
  case SUCCESS: *name = "CUDA_SUCCESS"; break;
  case INVALID_VALUE: *name = "CUDA_ERROR_INVALID_VALUE"; break;
  case OUT_OF_MEMORY: *name = "CUDA_ERROR_OUT_OF_MEMORY"; break;
  case INVALID_DEVICE: *name = "CUDA_ERROR_INVALID_DEVICE"; break;
  case INVALID_IMAGE: *name = "CUDA_ERROR_INVALID_IMAGE"; break;
  case NOT_FOUND: *name = "CUDA_ERROR_NOT_FOUND"; break;
  case LAUNCH_FAILED: *name = "CUDA_ERROR_LAUNCH_FAILED"; break;
  default: return INVALID_VALUE;
  }
  return SUCCESS;
}
API cuGetErrorString(int error, const char **text) {
  if ((error != LAUNCH_FAILED && error != INVALID_IMAGE) || last_report.empty()) return cuGetErrorName(error, text);
  return *text = last_report.c_str(), SUCCESS;
}
