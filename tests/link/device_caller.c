/* Runs three models through their CUDA stubs on inputs in files: device_caller DIR T. Exits with 77 without a driver. */
#include "attention_cuda.h"
#include "fixed_cuda.h"
#include "weighted_cuda.h"
#include <stdio.h>
#include <stdlib.h>

static void *contents(const char *dir, const char *name) {
  char path[4096];
  snprintf(path, sizeof path, "%s/%s", dir, name);
  FILE *f = fopen(path, "rb");
  if (!f) { perror(path); exit(2); }
  fseek(f, 0, SEEK_END);
  long size = ftell(f);
  rewind(f);
  /* A zero byte behind: PTX is text. */
  char *data = calloc(1, (size_t)size + 1);
  if (fread(data, 1, (size_t)size, f) != (size_t)size) exit(2);
  fclose(f);
  return data;
}

static void keep(const char *dir, const char *name, const void *data, size_t size) {
  char path[4096];
  snprintf(path, sizeof path, "%s/%s", dir, name);
  FILE *f = fopen(path, "wb");
  if (!f || fwrite(data, 1, size, f) != size || fclose(f)) exit(2);
}

static void must(const char *what, int32_t code, const char *text) {
  if (!code) return;
  fprintf(stderr, "%s: %d: %s\n", what, code, text);
  exit(code == -100 ? 77 : 1);
}

int main(int argc, char **argv) {
  if (argc < 3) return 2;
  const char *dir = argv[1];
  int64_t t = atoll(argv[2]);
  float *out = malloc((size_t)t * 16 * sizeof(float) + 4096);

  attention_cuda *attention;
  must("attention", attention_cuda_open(contents(dir, "built/attention.image"), NULL, &attention), "open");
  attention_cuda_dims ad = {t};
  for (int k = 0; k < 2; k++) {
    int32_t code = attention_cuda_run(attention, &ad, contents(dir, "attention.q"), contents(dir, "attention.k"),
                                      contents(dir, "attention.v"), out);
    must("attention", code, attention_cuda_strerror(code));
  }
  keep(dir, "attention.device", out, (size_t)t * 16 * sizeof(float));
  attention_cuda_dims far = {100000};
  if (attention_cuda_run(attention, &far, out, out, out, out) != -3) return 3;
  attention_cuda_close(attention);

  const void *weights[] = {contents(dir, "weighted.w0"), contents(dir, "weighted.w1"), contents(dir, "weighted.w2")};
  weighted_cuda *weighted;
  must("weighted", weighted_cuda_open(contents(dir, "built/weighted.image"), weights, &weighted), "open");
  weighted_cuda_dims wd = {t};
  int32_t code = weighted_cuda_run(weighted, &wd, contents(dir, "weighted.x"), out);
  must("weighted", code, weighted_cuda_strerror(code));
  keep(dir, "weighted.device", out, (size_t)t * 12 * sizeof(float));
  weighted_cuda_close(weighted);

  fixed_cuda *fixed;
  must("fixed", fixed_cuda_open(contents(dir, "built/fixed.image"), NULL, &fixed), "open");
  int64_t *ids = contents(dir, "fixed.ids");
  code = fixed_cuda_run(fixed, NULL, contents(dir, "fixed.x"), ids, out);
  must("fixed", code, fixed_cuda_strerror(code));
  keep(dir, "fixed.device", out, 3 * 7 * sizeof(float));
  ids[1] = 50;
  if (fixed_cuda_run(fixed, NULL, contents(dir, "fixed.x"), ids, out) != -8) return 3;
  fixed_cuda_close(fixed);
  return 0;
}
