//! Objects linked into C programs by the system's compiler.

use super::harness::model_of;
use super::weights;
use crate::cpu::target::Target;
use crate::cpu::{Options, compile, compile_object, object_interface};
use mixc_ir::tile::examples;
use std::path::PathBuf;
use std::process::Command;

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("mixc-object-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn undefined_symbols(path: &PathBuf) -> Vec<String> {
    let output = Command::new("nm").arg("-u").arg(path).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().filter_map(|l| l.split_whitespace().last()).map(str::to_owned).collect()
}

const PROGRAM: &str = r#"
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
typedef struct { const void *data; size_t size; } mixc_blob;
typedef struct { void *ctx; void (*parallel_for)(void *, int64_t, void (*)(void *, int64_t), void *); } mixc_parallel;
typedef struct { int64_t T; } dims;
size_t weighted_weights_bytes(void);
size_t weighted_workspace_bytes(const dims *);
int32_t weighted_bind(const mixc_blob *, size_t, void *, size_t);
int32_t weighted_run(const dims *, const void *, const float *, float *, void *, size_t, const mixc_parallel *);
const char *weighted_strerror(int32_t);
size_t norm_workspace_bytes(const dims *);
int32_t norm_run(const dims *, const float *, const float *, const float *, float *, void *, size_t, const mixc_parallel *);
const char *norm_strerror(int32_t);
static int64_t calls;
static void backwards(void *ctx, int64_t n, void (*body)(void *, int64_t), void *arg) {
  (void)ctx;
  while (n-- > 0) { body(arg, n); calls++; }
}
#define CHECK(c) do { if (!(c)) { printf("line %d\n", __LINE__); return 1; } } while (0)
int main(int argc, char **argv) {
  CHECK(argc == 2);
  FILE *f = fopen(argv[1], "rb");
  static char file[4096];
  size_t size = fread(file, 1, sizeof file, f);
  fclose(f);
  void *weights = aligned_alloc(64, (weighted_weights_bytes() + 63) / 64 * 64);
  mixc_blob blob = {file, size};
  dims d = {2};
  float x[2] = {1, -2}, y[10];
  size_t bytes = weighted_workspace_bytes(&d);
  void *work = aligned_alloc(64, (bytes + 63) / 64 * 64 + 64);
  memset(weights, 0, weighted_weights_bytes());
  CHECK(weighted_run(&d, weights, x, y, work, bytes, 0) < 0);
  CHECK(!strcmp(weighted_strerror(weighted_run(&d, weights, x, y, work, bytes, 0)), "the weights were not bound by this model"));
  CHECK(weighted_bind(&blob, 1, weights, 8) < 0);
  CHECK(weighted_bind(&blob, 1, (char *)weights + 4, weighted_weights_bytes()) < 0);
  int32_t code = weighted_bind(&blob, 1, weights, weighted_weights_bytes());
  if (code) { puts(weighted_strerror(code)); return 1; }
  CHECK(weighted_run(0, weights, x, y, work, bytes, 0) < 0);
  CHECK(weighted_run(&d, 0, x, y, work, bytes, 0) < 0);
  CHECK(weighted_run(&d, weights, 0, y, work, bytes, 0) < 0);
  CHECK(weighted_run(&d, weights, (float *)((char *)x + 1), y, work, bytes, 0) < 0);
  dims far = {101};
  CHECK(weighted_run(&far, weights, x, y, work, bytes, 0) < 0);
  CHECK(weighted_workspace_bytes(&far) == SIZE_MAX);
  code = weighted_run(&d, weights, x, y, work, bytes, 0);
  if (code) { puts(weighted_strerror(code)); return 1; }
  for (int k = 0; k < 10; k++) CHECK(y[k] == x[k / 5] * 4 * (1 + 0.25f * (k % 5)) + k % 5);
  /* The other model, through a callback. */
  d.T = 100;
  static float a[900], g[9], b[9], o[900], p[900];
  for (int k = 0; k < 900; k++) a[k] = (float)((k * 37) % 101);
  for (int k = 0; k < 9; k++) g[k] = 1, b[k] = 0;
  bytes = norm_workspace_bytes(&d);
  work = aligned_alloc(64, (bytes + 63) / 64 * 64 + 64);
  mixc_parallel par = {0, backwards};
  CHECK(norm_run(&d, a, g, b, o, work, bytes, 0) == 0);
  CHECK(norm_run(&d, a, g, b, p, work, bytes, &par) == 0);
  CHECK(calls == 25);
  CHECK(!memcmp(o, p, sizeof o));
  CHECK(norm_run(&d, a, g, b, p, work, bytes - 1, &par) < 0);
  CHECK(!strcmp(norm_strerror(0), "no error"));
  puts("good");
  return 0;
}
"#;

#[test]
fn two_models_link_into_a_c_program() {
    let folder = Folder::new("link");
    let mut norm = model_of(&examples::layer_norm(9, 4, 1e-5));
    norm.name = "norm".to_owned();
    let options = Options::default();
    let first = folder.write("weighted.o", &compile_object(&weights::model(), &Target::native(), &options).unwrap());
    let second = folder.write("norm.o", &compile_object(&norm, &Target::native(), &options).unwrap());
    for object in [&first, &second] {
        let allowed = ["memcpy", "memset", "memmove", "memcmp", "_GLOBAL_OFFSET_TABLE_"];
        let undefined = undefined_symbols(object);
        assert!(undefined.iter().all(|s| allowed.contains(&s.as_str())), "{undefined:?}");
    }
    let source = folder.write("main.c", PROGRAM.as_bytes());
    let weights = folder.write("weights.safetensors", &weights::good_file());
    for flags in [&["-pie", "-fPIE"][..], &["-no-pie"][..]] {
        let program = folder.0.join("program");
        let built = Command::new("cc")
            .args(flags)
            .args(["-O1", "-Wall", "-Werror", "-o"])
            .args([&program, &source, &first, &second])
            .output()
            .unwrap();
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        let run = Command::new(&program).arg(&weights).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&run.stdout).trim(), "good", "{:?}", run.status);
    }
}

#[test]
fn objects_are_reproducible_and_embed_their_weights() {
    let lowered = weights::model();
    let target = Target::native();
    let options = Options::default();
    let object = compile_object(&lowered, &target, &options).unwrap();
    assert_eq!(object, compile_object(&lowered, &target, &options).unwrap());
    let bound = compile(&lowered, &target).unwrap().bind(&[&weights::good_file()]).unwrap();
    let options = Options { embed: Some(bound.bytes().to_vec()) };
    let embedded = compile_object(&lowered, &target, &options).unwrap();
    assert!(embedded.windows(bound.bytes().len()).any(|w| w == bound.bytes()));
    assert!(object_interface(&lowered, &Options::default()).binds && !object_interface(&lowered, &options).binds);
}
