/* Links three models into one program, runs each on inputs from files, and calls each in every wrong way.
   usage: caller DIR; results go to DIR/NAME.out, complaints to standard error, their number is the exit code. */
#define MIXC_PTHREADS
#include "attention.h"
#include "weighted.h"
#include "fixed.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int wrong = 0;

static void expect(int32_t got, int32_t want, const char *what) {
  if (got == want) return;
  fprintf(stderr, "%s: %d (%s), expected %d\n", what, (int)got, attention_strerror(got), (int)want);
  wrong++;
}

static void holds(int condition, const char *what) {
  if (condition) return;
  fprintf(stderr, "%s does not hold\n", what);
  wrong++;
}

/* Memory of exactly that size, so that a checker sees every byte beyond it. */
static void *memory(size_t bytes) {
  void *p = NULL;
  if (posix_memalign(&p, 64, bytes ? bytes : 1)) exit(100);
  return p;
}

static void *content(const char *dir, const char *name, size_t *bytes) {
  char path[4096];
  snprintf(path, sizeof path, "%s/%s", dir, name);
  FILE *f = fopen(path, "rb");
  if (!f) { perror(path); exit(100); }
  fseek(f, 0, SEEK_END);
  *bytes = (size_t)ftell(f);
  rewind(f);
  void *p = memory(*bytes);
  if (fread(p, 1, *bytes, f) != *bytes) exit(100);
  fclose(f);
  return p;
}

static void store(const char *dir, const char *name, const void *p, size_t bytes) {
  char path[4096];
  snprintf(path, sizeof path, "%s/%s", dir, name);
  FILE *f = fopen(path, "wb");
  if (!f || fwrite(p, 1, bytes, f) != bytes) exit(100);
  fclose(f);
}

static void *odd(void *p) { return (char *)p + 1; }

static void attention(const char *dir) {
  size_t n;
  float *q = content(dir, "attention.q", &n), *k = content(dir, "attention.k", &n), *v = content(dir, "attention.v", &n);
  attention_dims d = {(int64_t)(n / (2 * 8 * sizeof(float)))};
  holds(attention_out0_elements(&d) * sizeof(float) == n, "the number of elements");
  float *y = memory(n), *z = memory(n);
  size_t bytes = attention_workspace_bytes(&d);
  void *w = memory(bytes);
  expect(attention_run(&d, q, k, v, y, w, bytes, NULL), MIXC_OK, "run");
  store(dir, "attention.out", y, n);
  size_t threads = 3;
  mixc_parallel p = mixc_pthreads(&threads);
  memset(z, 0xff, n);
  expect(attention_run(&d, q, k, v, z, w, bytes, &p), MIXC_OK, "run on threads");
  holds(memcmp(y, z, n) == 0, "threads give the same bits");

  expect(attention_run(NULL, q, k, v, y, w, bytes, NULL), MIXC_NULL, "no dims");
  expect(attention_run(&d, NULL, k, v, y, w, bytes, NULL), MIXC_NULL, "no q");
  expect(attention_run(&d, q, k, NULL, y, w, bytes, NULL), MIXC_NULL, "no v");
  expect(attention_run(&d, q, k, v, NULL, w, bytes, NULL), MIXC_NULL, "no result");
  expect(attention_run(&d, odd(q), k, v, y, w, bytes, NULL), MIXC_MISALIGNED, "q misaligned");
  expect(attention_run(&d, q, k, v, odd(y), w, bytes, NULL), MIXC_MISALIGNED, "result misaligned");
  int64_t beyond[] = {0, -1, 257, INT64_MAX, INT64_MIN, (int64_t)1 << 62};
  for (size_t i = 0; i < sizeof beyond / sizeof *beyond; i++) {
    attention_dims bad = {beyond[i]};
    expect(attention_run(&bad, q, k, v, y, w, bytes, NULL), MIXC_DIM_OUT_OF_BOUNDS, "dim out of bounds");
    holds(attention_workspace_bytes(&bad) == SIZE_MAX, "no workspace is enough for a dim out of bounds");
  }
  holds(attention_workspace_bytes(NULL) == SIZE_MAX, "no workspace is enough for no dims");
  for (int32_t code = -40; code <= 2; code++) holds(attention_strerror(code) != NULL, "every code has words");
  holds(strcmp(attention_strerror(MIXC_NULL), attention_strerror(MIXC_MISALIGNED)) != 0, "codes differ in words");
  free(q); free(k); free(v); free(y); free(z); free(w);
}

static void weighted(const char *dir) {
  size_t n, file_bytes;
  void *file = content(dir, "weights.safetensors", &file_bytes);
  float *x = content(dir, "weighted.x", &n);
  weighted_dims d = {(int64_t)(n / (24 * sizeof(float)))};
  size_t weights_bytes = weighted_weights_bytes(), bytes = weighted_workspace_bytes(&d);
  size_t results = weighted_out0_elements(&d) * sizeof(float);
  void *weights = memory(weights_bytes), *w = memory(bytes);
  float *y = memory(results), *z = memory(results);
  holds(bytes > 0 && bytes != SIZE_MAX, "this model has temporaries");

  mixc_blob blob = {file, file_bytes}, none = {NULL, file_bytes}, empty = {file, 0};
  memset(weights, 0, weights_bytes);
  expect(weighted_run(&d, weights, x, y, w, bytes, NULL), MIXC_NOT_BOUND, "not bound");
  expect(weighted_bind(&blob, 0, weights, weights_bytes), MIXC_WEIGHT_MISSING, "no file");
  expect(weighted_bind(NULL, 1, weights, weights_bytes), MIXC_NULL, "no blobs");
  expect(weighted_bind(&none, 1, weights, weights_bytes), MIXC_NULL, "a blob without data");
  expect(weighted_bind(&empty, 1, weights, weights_bytes), MIXC_BAD_WEIGHT_FILE, "an empty file");
  expect(weighted_bind(&blob, 1, NULL, weights_bytes), MIXC_NULL, "no memory for weights");
  expect(weighted_bind(&blob, 1, odd(weights), weights_bytes), MIXC_MISALIGNED, "weights misaligned");
  expect(weighted_bind(&blob, 1, weights, weights_bytes - 1), MIXC_WEIGHTS_TOO_SMALL, "weights too small");
  /* Files cut anywhere: a copy of exactly that size, so that reading beyond it is seen. */
  for (size_t cut = 0; cut < file_bytes; cut += 1 + file_bytes / 60) {
    void *part = memory(cut);
    memcpy(part, file, cut);
    mixc_blob b = {part, cut};
    expect(weighted_bind(&b, 1, weights, weights_bytes), MIXC_BAD_WEIGHT_FILE, "a cut file");
    free(part);
  }
  expect(weighted_bind(&blob, 1, weights, weights_bytes), MIXC_OK, "bind");
  memset(file, 0xee, file_bytes);
  free(file);
  expect(weighted_run(&d, weights, x, y, w, bytes, NULL), MIXC_OK, "run");
  store(dir, "weighted.out", y, results);
  size_t threads = 2;
  mixc_parallel p = mixc_pthreads(&threads);
  memset(w, 0xff, bytes);
  expect(weighted_run(&d, weights, x, z, w, bytes, &p), MIXC_OK, "run on threads");
  holds(memcmp(y, z, results) == 0, "threads and what the workspace held give the same bits");

  expect(weighted_run(&d, NULL, x, y, w, bytes, NULL), MIXC_NULL, "no weights");
  expect(weighted_run(&d, odd(weights), x, y, w, bytes, NULL), MIXC_MISALIGNED, "weights misaligned");
  expect(weighted_run(&d, weights, x, y, NULL, bytes, NULL), MIXC_NULL, "no workspace");
  expect(weighted_run(&d, weights, x, y, odd(w), bytes, NULL), MIXC_MISALIGNED, "workspace misaligned");
  expect(weighted_run(&d, weights, x, y, w, bytes - 1, NULL), MIXC_WORKSPACE_TOO_SMALL, "workspace too small");
  expect(weighted_run(&d, weights, x, y, w, 0, NULL), MIXC_WORKSPACE_TOO_SMALL, "no bytes of workspace");
  free(x); free(y); free(z); free(w); free(weights);
}

static void fixed(const char *dir) {
  size_t n, m;
  float *x = content(dir, "fixed.x", &n);
  int64_t *ids = content(dir, "fixed.ids", &m);
  size_t results = fixed_out0_elements(NULL) * sizeof(float), bytes = fixed_workspace_bytes(NULL);
  float *y = memory(results);
  void *w = memory(bytes);
  expect(fixed_run(NULL, x, ids, y, w, bytes, NULL), MIXC_OK, "run without dims");
  store(dir, "fixed.out", y, results);
  int64_t out_of_range[] = {-1, 50, INT64_MAX, INT64_MIN};
  for (size_t i = 0; i < sizeof out_of_range / sizeof *out_of_range; i++) {
    int64_t kept = ids[1];
    ids[1] = out_of_range[i];
    expect(fixed_run(NULL, x, ids, y, w, bytes, NULL), MIXC_ID_OUT_OF_RANGE, "an id out of range");
    ids[1] = kept;
  }
  free(x); free(ids); free(y); free(w);
}

int main(int argc, char **argv) {
  if (argc != 2) return 100;
  attention(argv[1]);
  weighted(argv[1]);
  fixed(argv[1]);
  return wrong > 99 ? 99 : wrong;
}
