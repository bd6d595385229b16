#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

typedef long long mx_i64;
typedef uint64_t mx_address;

/* Integers as kernels reckon with them: quotients round down. */
static inline mx_i64 mx_floor_div(mx_i64 a, mx_i64 b) { return b == 0 ? 0 : a / b - (a % b != 0 && (a < 0) != (b < 0)); }
static inline mx_i64 mx_floor_mod(mx_i64 a, mx_i64 b) { return b == 0 ? 0 : a - mx_floor_div(a, b) * b; }
static inline mx_i64 mx_max(mx_i64 a, mx_i64 b) { return a > b ? a : b; }
static inline mx_i64 mx_min(mx_i64 a, mx_i64 b) { return a < b ? a : b; }
static inline uint64_t mx_longer(uint64_t a, uint64_t b) { return a > b ? a : b; }

/* The driver's functions, by the names and signatures of cuda.h. */
typedef struct mx_driver {
  void *library;
  void *context;
  int device;
  int retained;
  int processors;
  int (*init)(unsigned);
  int (*device_get)(int *, int);
  int (*attribute)(int *, int, int);
  int (*retain)(void **, int);
  int (*release)(int);
  int (*set_current)(void *);
  int (*synchronize)(void);
  int (*module_load_data)(void **, const void *);
  int (*module_unload)(void *);
  int (*get_function)(void **, void *, const char *);
  int (*set_attribute)(void *, int, int);
  int (*allocate)(mx_address *, size_t);
  int (*release_memory)(mx_address);
  int (*to_device)(mx_address, const void *, size_t);
  int (*to_host)(void *, mx_address, size_t);
  int (*launch)(void *, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, void *, void **, void **);
} mx_driver;

/* Memory of the device, given back together. */
typedef struct mx_owned {
  mx_address *all;
  size_t count, room;
} mx_owned;

static inline int mx_symbol(void *library, const char *name, void *to) {
  void *found = dlsym(library, name);
  memcpy(to, &found, sizeof found);
  return found == NULL;
}

static inline void mx_close(mx_driver *d) {
  if (d->retained) d->release(d->device);
  if (d->library) dlclose(d->library);
}

static inline int32_t mx_open(mx_driver *d) {
  /* CUdevice_attribute: multiprocessors, and the major number of the compute capability. */
  enum { MULTIPROCESSORS = 16, CAPABILITY_MAJOR = 75 };
  int missing = 0, major = 0;
  d->library = dlopen("libcuda.so.1", RTLD_NOW);
  if (!d->library) d->library = dlopen("libcuda.so", RTLD_NOW);
  if (!d->library) return MX_NO_DRIVER;
  missing |= mx_symbol(d->library, "cuInit", &d->init);
  missing |= mx_symbol(d->library, "cuDeviceGet", &d->device_get);
  missing |= mx_symbol(d->library, "cuDeviceGetAttribute", &d->attribute);
  missing |= mx_symbol(d->library, "cuDevicePrimaryCtxRetain", &d->retain);
  missing |= mx_symbol(d->library, "cuDevicePrimaryCtxRelease_v2", &d->release);
  missing |= mx_symbol(d->library, "cuCtxSetCurrent", &d->set_current);
  missing |= mx_symbol(d->library, "cuCtxSynchronize", &d->synchronize);
  missing |= mx_symbol(d->library, "cuModuleLoadData", &d->module_load_data);
  missing |= mx_symbol(d->library, "cuModuleUnload", &d->module_unload);
  missing |= mx_symbol(d->library, "cuModuleGetFunction", &d->get_function);
  missing |= mx_symbol(d->library, "cuFuncSetAttribute", &d->set_attribute);
  missing |= mx_symbol(d->library, "cuMemAlloc_v2", &d->allocate);
  missing |= mx_symbol(d->library, "cuMemFree_v2", &d->release_memory);
  missing |= mx_symbol(d->library, "cuMemcpyHtoD_v2", &d->to_device);
  missing |= mx_symbol(d->library, "cuMemcpyDtoH_v2", &d->to_host);
  missing |= mx_symbol(d->library, "cuLaunchKernel", &d->launch);
  if (missing) return MX_NO_DRIVER;
  if (d->init(0) || d->device_get(&d->device, 0)) return MX_NO_DEVICE;
  if (d->attribute(&major, CAPABILITY_MAJOR, d->device) || major < 8) return MX_NO_DEVICE;
  if (d->attribute(&d->processors, MULTIPROCESSORS, d->device) || d->processors < 1) return MX_NO_DEVICE;
  if (d->retain(&d->context, d->device)) return MX_NO_DEVICE;
  d->retained = 1;
  return d->set_current(d->context) ? MX_NO_DEVICE : 0;
}

static inline int mx_bind(mx_driver *d) { return d->retained ? d->set_current(d->context) : 1; }

static inline void mx_free_all(mx_driver *d, mx_owned *o) {
  while (o->count > 0) d->release_memory(o->all[--o->count]);
  free(o->all);
  o->all = NULL;
  o->room = 0;
}

static inline int32_t mx_allocate(mx_driver *d, mx_owned *o, uint64_t bytes, mx_address *to) {
  if (o->count == o->room) {
    size_t room = o->room * 2 + 16;
    mx_address *all = realloc(o->all, room * sizeof *all);
    if (!all) return MX_NO_HOST_MEMORY;
    o->all = all;
    o->room = room;
  }
  /* An empty tensor has an address of its own as well. */
  if (bytes > SIZE_MAX || d->allocate(to, bytes ? (size_t)bytes : 1)) return MX_NO_MEMORY;
  o->all[o->count++] = *to;
  return 0;
}

static inline int32_t mx_upload(mx_driver *d, mx_owned *o, const void *from, uint64_t bytes, mx_address *to) {
  int32_t code = mx_allocate(d, o, bytes, to);
  if (code || !bytes) return code;
  return d->to_device(*to, from, (size_t)bytes) ? MX_LAUNCH : 0;
}

static inline int32_t mx_download(mx_driver *d, mx_address from, void *to, uint64_t bytes) {
  return bytes && d->to_host(to, from, (size_t)bytes) ? MX_LAUNCH : 0;
}

static inline int32_t mx_kernel(mx_driver *d, void *module, const char *name, int shared, void **kernel) {
  /* CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES; without asking a block has 48 KiB. */
  enum { MAX_DYNAMIC_SHARED = 8 };
  if (d->get_function(kernel, module, name)) return MX_BAD_IMAGE;
  return shared > (48 << 10) && d->set_attribute(*kernel, MAX_DYNAMIC_SHARED, shared) ? MX_NO_DEVICE : 0;
}

/* One block for each grid point; blocks with scratch memory take several points each. */
static inline int32_t mx_launch(mx_driver *d, void *kernel, mx_i64 points, unsigned threads, unsigned shared,
                                uint64_t *words, void **arguments, size_t count, uint64_t scratch, size_t scratch_word) {
  mx_owned owned = {0};
  mx_i64 blocks = mx_min(points, 0x7fffffff);
  int32_t code = 0;
  if (points <= 0) return 0;
  if (scratch) {
    blocks = mx_min(blocks, MX_BLOCKS_WITH_SCRATCH * (mx_i64)d->processors);
    if ((code = mx_allocate(d, &owned, scratch * (uint64_t)blocks, &words[scratch_word]))) return code;
  }
  for (size_t k = 0; k < count; k++) arguments[k] = &words[k];
  if (d->launch(kernel, (unsigned)blocks, 1, 1, threads, 1, 1, shared, NULL, arguments, NULL)) code = MX_LAUNCH;
  if (scratch) {
    if (d->synchronize()) code = MX_LAUNCH;
    mx_free_all(d, &owned);
  }
  return code;
}

static inline int32_t mx_check_ids(mx_driver *d, mx_address ids, uint64_t bytes, int wide, mx_i64 below, int32_t bad) {
  if (!bytes) return 0;
  char *copy = malloc((size_t)bytes);
  if (!copy) return MX_NO_HOST_MEMORY;
  int32_t code = mx_download(d, ids, copy, bytes);
  for (uint64_t k = 0; !code && k < bytes; k += (uint64_t)wide) {
    int64_t id = 0;
    int32_t narrow = 0;
    if (wide == 4) memcpy(&narrow, copy + k, 4), id = narrow;
    else memcpy(&id, copy + k, 8);
    if (id < 0 || id >= below) code = bad;
  }
  free(copy);
  return code;
}
