//! The C header of a model: C99, usable from C++, self-contained.

use super::{dims, names};
use mixc_backends::cpu::abi::{Argument, Failure, Interface};
use mixc_ir::dtype::DType;

/// The C type of an element.
pub fn c_type(d: DType) -> &'static str {
    match d {
        DType::F32 => "float",
        DType::F64 => "double",
        DType::F16 | DType::BF16 => "uint16_t",
        DType::I32 => "int32_t",
        DType::I64 => "int64_t",
        DType::Bool => "uint8_t",
    }
}

fn shape(a: &Argument) -> String {
    let dims: Vec<String> = a.shape.iter().map(ToString::to_string).collect();
    format!("{} [{}]", a.dtype, dims.join(", "))
}

/// The header.
pub fn text(i: &Interface, target: &str) -> String {
    let name = &i.name;
    let guard = format!("{}_H", name.to_ascii_uppercase());
    let (params, results) = names::arguments(i);
    let codes: Vec<String> = Failure::ALL.iter().map(|f| format!("  MIXC_{} = {}", f.name(), f.code())).collect();
    let mut out = format!(
        "/* {name}: compiled by mixc {} for {target}. Needs no runtime, allocates nothing, starts no threads. */
#ifndef {guard}
#define {guard}
#include <stddef.h>
#include <stdint.h>
#ifdef __cplusplus
extern \"C\" {{
#endif

#ifndef MIXC_ABI_1
#define MIXC_ABI_1
/* The contents of a safetensors file. */
typedef struct mixc_blob {{ const void *data; size_t size; }} mixc_blob;
/* The application's own threads: calls body(arg, i) for every i < n, in any order, and returns when all are done. */
typedef struct mixc_parallel {{
  void *ctx;
  void (*parallel_for)(void *ctx, size_t n, void (*body)(void *arg, size_t i), void *arg);
}} mixc_parallel;
/* What calls return; NAME_strerror says each in words. */
enum mixc_code {{
  MIXC_OK = 0,
{}
}};
#endif
{PTHREADS}
",
        env!("CARGO_PKG_VERSION"),
        codes.join(",\n")
    );
    let dims_type = if i.dims.is_empty() {
        out.push_str("/* The model has no symbolic dims: pass NULL for d. */\n");
        "void".to_string()
    } else {
        let fields: Vec<String> = names::dims(i).iter().map(|f| format!("int64_t {f};")).collect();
        out.push_str(&format!("typedef struct {name}_dims {{ {} }} {name}_dims;\n\n", fields.join(" ")));
        format!("{name}_dims")
    };
    out.push_str(&format!(
        "/* Bytes of workspace (aligned to 64) that a run needs; SIZE_MAX when the dims are out of bounds. */\n\
         size_t {name}_workspace_bytes(const {dims_type} *d);\n\n"
    ));
    if i.binds {
        out.push_str(&format!(
            "/* Bind once: reads the weights from safetensors files into memory of the caller (aligned to 64), which every\n   \
             run then needs; the files are no longer needed. */\n\
             size_t {name}_weights_bytes(void);\n\
             int32_t {name}_bind(const mixc_blob *safetensors, size_t count, void *weights, size_t weights_bytes);\n\n"
        ));
    }
    out.push_str("/* Returns 0 or a negative code; par NULL runs on this thread. Tensors are dense, row-major:\n");
    for (n, a) in params.iter().zip(&i.params).chain(results.iter().zip(&i.results)) {
        out.push_str(&format!("     {n}: {}\n", shape(a)));
    }
    out.push_str("*/\n");
    let mut arguments = vec![format!("const {dims_type} *d")];
    if i.binds {
        arguments.push("const void *weights".into());
    }
    arguments.extend(params.iter().zip(&i.params).map(|(n, a)| format!("const {} *{n}", c_type(a.dtype))));
    arguments.extend(results.iter().zip(&i.results).map(|(n, a)| format!("{} *{n}", c_type(a.dtype))));
    arguments.extend(["void *workspace", "size_t workspace_bytes", "const mixc_parallel *par"].map(String::from));
    out.push_str(&format!("int32_t {name}_run({});\n\n", arguments.join(", ")));
    for (n, a) in results.iter().zip(&i.results) {
        let count = dims::elements(&a.shape, &|s| format!("(d)->{}", names::field(i, s)));
        out.push_str(&format!("/* Elements of {n}. */\n#define {name}_{n}_elements(d) ((size_t)({count}))\n"));
    }
    out.push_str(&format!(
        "\n/* What a code means, in words. */\nconst char *{name}_strerror(int32_t code);\n\n\
         #ifdef __cplusplus\n}}\n#endif\n#endif\n"
    ));
    out
}

/// Threads for C programs that have none of their own, on request.
const PTHREADS: &str = "
#if defined(MIXC_PTHREADS) && !defined(MIXC_PTHREADS_1)
#define MIXC_PTHREADS_1
/* A mixc_parallel over POSIX threads: threads are started for every call (tens of microseconds). */
#include <pthread.h>
#include <stdatomic.h>
typedef struct mixc_pthreads_job {
  atomic_size_t next; size_t n; void (*body)(void *, size_t); void *arg;
} mixc_pthreads_job;
static inline void *mixc_pthreads_work(void *p) {
  mixc_pthreads_job *job = (mixc_pthreads_job *)p;
  for (size_t i; (i = atomic_fetch_add(&job->next, 1)) < job->n;) job->body(job->arg, i);
  return 0;
}
static inline void mixc_pthreads_for(void *ctx, size_t n, void (*body)(void *, size_t), void *arg) {
  pthread_t helpers[63];
  size_t want = *(const size_t *)ctx, started = 0;
  mixc_pthreads_job job = {0, n, body, arg};
  while (started + 1 < want && started + 1 < n && started < 63 &&
         pthread_create(&helpers[started], 0, mixc_pthreads_work, &job) == 0) started++;
  mixc_pthreads_work(&job);
  while (started > 0) pthread_join(helpers[--started], 0);
}
/* threads must outlive its use. */
static inline mixc_parallel mixc_pthreads(const size_t *threads) {
  mixc_parallel p = {(void *)threads, mixc_pthreads_for};
  return p;
}
#endif";
