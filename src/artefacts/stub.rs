//! The host's side of a CUDA model in C: it opens the driver when the program runs (nothing links against CUDA), keeps the
//! weights on the device and launches the kernels in order. Where there is no driver, a code says so.

use super::{dims, header, names};
use crate::Compilation;
use mixc_backends::cpu::abi::{Failure, Interface};
use mixc_backends::cuda::emit::symbol;
use mixc_backends::cuda::{BLOCKS_WITH_SCRATCH, Source};
use mixc_ir::dim::{Atom, Dim, DimValues};
use mixc_ir::lowered::{Action, Buffer, BufferId, Lowered, Phase, Place, Step};
use mixc_ir::tensor::Tensor;
use std::fmt::Write;

/// Codes beside those of CPU models.
const CODES: [(&str, i32, &str); 6] = [
    ("NO_DRIVER", -100, "there is no CUDA driver"),
    ("NO_DEVICE", -101, "there is no CUDA device that can be used"),
    ("BAD_IMAGE", -102, "the driver does not take the image, or a kernel is missing in it"),
    ("NO_MEMORY", -103, "the device has no memory left"),
    ("LAUNCH", -104, "a kernel failed or a copy was refused"),
    ("NO_HOST_MEMORY", -105, "the host has no memory left"),
];

/// The header and the program.
pub fn texts(c: &Compilation, source: &Source) -> (String, String) {
    let stub = Stub { lowered: &c.lowered, source, interface: Interface::of(&c.lowered, true) };
    (stub.header(), stub.program())
}

struct Stub<'c> {
    lowered: &'c Lowered,
    source: &'c Source,
    interface: Interface,
}

impl Stub<'_> {
    fn signature(&self) -> String {
        let i = &self.interface;
        let (params, results) = names::arguments(i);
        let dims = if i.dims.is_empty() { "void".to_owned() } else { format!("{}_cuda_dims", i.name) };
        let mut all = vec![format!("{}_cuda *model", i.name), format!("const {dims} *d")];
        all.extend(params.iter().zip(&i.params).map(|(n, a)| format!("const {} *{n}", header::c_type(a.dtype))));
        all.extend(results.iter().zip(&i.results).map(|(n, a)| format!("{} *{n}", header::c_type(a.dtype))));
        format!("int32_t {}_cuda_run({})", i.name, all.join(", "))
    }

    fn weights(&self) -> impl Iterator<Item = (&str, &Buffer)> {
        self.lowered.buffers.iter().filter_map(|b| match &b.place {
            Place::Weight(name) => Some((name.as_str(), b)),
            _ => None,
        })
    }

    fn header(&self) -> String {
        let i = &self.interface;
        let name = &i.name;
        let guard = format!("{}_CUDA_H", name.to_ascii_uppercase());
        let mut out = format!(
            "/* {name} on a CUDA device: made by mixc {}. Compile {name}_cuda.c with the program and link with -ldl. */\n\
             #ifndef {guard}\n#define {guard}\n#include <stddef.h>\n#include <stdint.h>\n\
             #ifdef __cplusplus\nextern \"C\" {{\n#endif\n\n",
            env!("CARGO_PKG_VERSION")
        );
        if !i.dims.is_empty() {
            let fields: Vec<String> = names::dims(i).iter().map(|f| format!("int64_t {f};")).collect();
            let _ = writeln!(out, "typedef struct {name}_cuda_dims {{ {} }} {name}_cuda_dims;\n", fields.join(" "));
        }
        let _ = writeln!(
            out,
            "typedef struct {name}_cuda {name}_cuda;\n\n\
             /* Opens the first device and loads the kernels. image: the contents of {name}.cubin, or of {name}.ptx with a\n   \
             zero byte behind. weights: the stored tensors on the host, dense and row-major, in this order:"
        );
        for (weight, buffer) in self.weights() {
            let shape: Vec<String> = buffer.shape.iter().map(ToString::to_string).collect();
            let _ = writeln!(out, "     \"{}\": {} [{}]", weight.replace("*/", "* /"), buffer.dtype, shape.join(", "));
        }
        let _ = writeln!(
            out,
            "   Returns 0 or a negative code; *model is then NULL. */\n\
             int32_t {name}_cuda_open(const void *image, const void *const *weights, {name}_cuda **model);\n\n\
             /* Runs the model on tensors of the host; returns 0 or a negative code. */\n{};\n\n\
             /* Gives everything back; NULL does nothing. */\nvoid {name}_cuda_close({name}_cuda *model);\n\n\
             /* What a code means, in words. */\nconst char *{name}_cuda_strerror(int32_t code);\n\n\
             #ifdef __cplusplus\n}}\n#endif\n#endif",
            self.signature()
        );
        out
    }

    fn bytes(&self, b: BufferId) -> String {
        let buffer = self.lowered.buffer(b);
        let count = dims::elements(&buffer.shape, &symbol);
        format!("(uint64_t)({count}) * {}", buffer.dtype.bytes())
    }

    fn program(&self) -> String {
        let (i, lowered) = (&self.interface, self.lowered);
        let name = &i.name;
        let (buffers, kernels) = (lowered.buffers.len().max(1), self.source.kernels.len().max(1));
        let codes: Vec<String> = CODES.iter().map(|(code, n, _)| format!("MX_{code} = {n}")).collect();
        let mut out = format!(
            "#include \"{name}_cuda.h\"\n\nenum {{ {}, MX_BLOCKS_WITH_SCRATCH = {BLOCKS_WITH_SCRATCH} }};\n{RUNTIME_HEAD}\n",
            codes.join(", ")
        );
        for (k, buffer) in lowered.buffers.iter().enumerate() {
            if let Place::Constant(numbers) = &buffer.place {
                let bytes = Tensor::floats(&[numbers.len()], numbers.clone()).to_blob(buffer.dtype).bytes;
                let text: Vec<String> = bytes.iter().map(u8::to_string).collect();
                let text = if text.is_empty() { "0".to_owned() } else { text.join(",") };
                let _ = writeln!(out, "static const unsigned char constant_{k}[] = {{{text}}};");
            }
        }
        let _ = writeln!(
            out,
            "\nstruct {name}_cuda {{\n  mx_driver driver;\n  void *module;\n  void *kernels[{kernels}];\n  \
             mx_address kept[{buffers}];\n  mx_owned owned;\n}};\n"
        );
        let codes = CODES.iter().map(|(_, code, text)| (*code, *text));
        let known = Failure::ALL.iter().map(|f| (f.code(), f.message()));
        let _ = writeln!(
            out,
            "const char *{name}_cuda_strerror(int32_t code) {{\n  switch (code) {{\n    case 0: return \"no error\";"
        );
        for (code, text) in known.chain(codes) {
            let _ = writeln!(out, "    case {code}: return \"{text}\";");
        }
        let _ = writeln!(out, "    default: return \"unknown code\";\n  }}\n}}\n");
        self.open(&mut out, buffers);
        self.run(&mut out, buffers);
        let _ = writeln!(
            out,
            "void {name}_cuda_close({name}_cuda *m) {{\n  if (!m) return;\n  mx_bind(&m->driver);\n  \
             mx_free_all(&m->driver, &m->owned);\n  if (m->module) m->driver.module_unload(m->module);\n  \
             mx_close(&m->driver);\n  free(m);\n}}"
        );
        out
    }

    fn open(&self, out: &mut String, buffers: usize) {
        let name = &self.interface.name;
        let _ = writeln!(
            out,
            "int32_t {name}_cuda_open(const void *image, const void *const *weights, {name}_cuda **model) {{\n  \
             *model = NULL;\n  {name}_cuda *m = calloc(1, sizeof *m);\n  if (!m) return MX_NO_HOST_MEMORY;\n  \
             mx_owned owned = {{0}};\n  mx_address at[{buffers}] = {{0}};\n  (void)at;\n  (void)weights;\n  \
             int32_t code = mx_open(&m->driver);\n  if (code) goto end;\n  \
             if (m->driver.module_load_data(&m->module, image)) {{ code = MX_BAD_IMAGE; goto end; }}"
        );
        for (k, kernel) in self.source.kernels.iter().enumerate() {
            let (symbol, shared) = (&kernel.kernel.name, kernel.kernel.shared_bytes);
            let _ = writeln!(
                out,
                "  if ((code = mx_kernel(&m->driver, m->module, \"{symbol}\", {shared}, &m->kernels[{k}]))) goto end;"
            );
        }
        let mut weight = 0;
        for (k, buffer) in self.lowered.buffers.iter().enumerate() {
            let bytes = buffer.bytes(&DimValues::new()).unwrap_or(0);
            match &buffer.place {
                Place::Constant(_) => {
                    let _ = writeln!(
                        out,
                        "  if ((code = mx_upload(&m->driver, &m->owned, constant_{k}, {bytes}, &at[{k}]))) goto end;\n  \
                         m->kept[{k}] = at[{k}];"
                    );
                }
                Place::Weight(_) => {
                    let _ = writeln!(
                        out,
                        "  if ((code = mx_upload(&m->driver, &owned, weights[{weight}], {bytes}, &at[{k}]))) goto end;"
                    );
                    weight += 1;
                }
                Place::Bound => {
                    let _ = writeln!(
                        out,
                        "  if ((code = mx_allocate(&m->driver, &m->owned, {bytes}, &at[{k}]))) goto end;\n  \
                         m->kept[{k}] = at[{k}];"
                    );
                }
                _ => {}
            }
        }
        self.temporaries(out, &self.lowered.plan.bind);
        self.steps(out, Phase::Bind);
        let _ = writeln!(
            out,
            "  if (m->driver.synchronize()) code = MX_LAUNCH;\nend:\n  mx_free_all(&m->driver, &owned);\n  \
             if (code) {{ {name}_cuda_close(m); return code; }}\n  *model = m;\n  return 0;\n}}\n"
        );
    }

    fn temporaries(&self, out: &mut String, slots: &[Vec<BufferId>]) {
        for slot in slots {
            let longest = slot.iter().map(|b| self.bytes(*b)).reduce(|a, b| format!("mx_longer({a}, {b})"));
            let Some(longest) = longest else { continue };
            let first = slot[0].index();
            let _ = writeln!(out, "  if ((code = mx_allocate(&m->driver, &owned, {longest}, &at[{first}]))) goto end;");
            for b in &slot[1..] {
                let _ = writeln!(out, "  at[{}] = at[{first}];", b.index());
            }
        }
    }

    fn run(&self, out: &mut String, buffers: usize) {
        let (i, lowered) = (&self.interface, self.lowered);
        let _ = writeln!(out, "{} {{\n  {}_cuda *m = model;", self.signature(), i.name);
        let fields = names::dims(i);
        if fields.is_empty() {
            out.push_str("  (void)d;\n");
        }
        for (item, field) in lowered.dims.iter().zip(&fields) {
            let s = symbol(&item.name);
            let (low, high, code) = (item.low, item.high, Failure::DimOutOfBounds.code());
            let _ = writeln!(
                out,
                "  const mx_i64 {s} = d->{field};\n  if ({s} < {low}LL || {s} > {high}LL) return {code};"
            );
        }
        for d in &lowered.must_hold {
            let mut divisions = Vec::new();
            exact(d, &mut divisions);
            for (inner, n) in divisions {
                let _ = writeln!(out, "  if ({} % {n}LL != 0) return {};", dim(&inner), Failure::BadLength.code());
            }
            let _ = writeln!(out, "  if ({} < 0) return {};", dim(d), Failure::BadLength.code());
        }
        let _ = writeln!(
            out,
            "  int32_t code = 0;\n  mx_owned owned = {{0}};\n  mx_address at[{buffers}];\n  \
             memcpy(at, m->kept, sizeof at);\n  if (mx_bind(&m->driver)) return MX_LAUNCH;"
        );
        let (params, results) = names::arguments(i);
        for (b, n) in lowered.params.iter().zip(&params) {
            let (bytes, k) = (self.bytes(*b), b.index());
            let _ = writeln!(out, "  if ((code = mx_upload(&m->driver, &owned, {n}, {bytes}, &at[{k}]))) goto end;");
        }
        for b in &lowered.results {
            let (bytes, k) = (self.bytes(*b), b.index());
            let _ = writeln!(out, "  if ((code = mx_allocate(&m->driver, &owned, {bytes}, &at[{k}]))) goto end;");
        }
        self.temporaries(out, &lowered.plan.run);
        self.steps(out, Phase::Run);
        for (b, n) in lowered.results.iter().zip(&results) {
            let (bytes, k) = (self.bytes(*b), b.index());
            let _ = writeln!(out, "  if ((code = mx_download(&m->driver, at[{k}], {n}, {bytes}))) goto end;");
        }
        out.push_str("end:\n  mx_free_all(&m->driver, &owned);\n  return code;\n}\n\n");
    }

    fn steps(&self, out: &mut String, phase: Phase) {
        let all: Vec<(&Step, &Option<usize>)> = self.lowered.steps.iter().zip(&self.source.of_steps).collect();
        for (step, kernel) in all.into_iter().filter(|(s, _)| s.phase == phase) {
            match (&step.action, kernel) {
                (Action::Run { buffers, form, site, .. }, Some(k)) => {
                    let emitted = &self.source.kernels[*k];
                    let mut words: Vec<String> = buffers.iter().map(|b| format!("at[{}]", b.index())).collect();
                    let scratch_word = words.len();
                    if emitted.scratch_bytes > 0 {
                        words.push("0".to_owned());
                    }
                    words.extend(emitted.symbols.iter().map(|s| format!("(uint64_t){}", symbol(s))));
                    let count = words.len().max(1);
                    let (threads, shared) = (emitted.kernel.threads, emitted.kernel.shared_bytes);
                    let _ = writeln!(
                        out,
                        "  {{ /* {form} for %{site} */\n    uint64_t words[{count}] = {{{}}};\n    void *arguments[{count}];\n    \
                         if ((code = mx_launch(&m->driver, m->kernels[{k}], {}, {threads}, {shared}, words, arguments, \
                         {}, {}, {scratch_word}))) goto end;\n  }}",
                        if words.is_empty() { "0".to_owned() } else { words.join(", ") },
                        emitted.points,
                        words.len(),
                        emitted.scratch_bytes,
                    );
                }
                (Action::CheckIds { ids, below }, _) => {
                    let (bytes, k) = (self.bytes(*ids), ids.index());
                    let wide = self.lowered.buffer(*ids).dtype.bytes();
                    let _ = writeln!(
                        out,
                        "  if ((code = mx_check_ids(&m->driver, at[{k}], {bytes}, {wide}, {}, {}))) goto end;",
                        dim(below),
                        Failure::IdOutOfRange.code()
                    );
                }
                (Action::Run { .. }, None) => {}
            }
        }
    }
}

/// A dim as a C expression of its symbols.
fn dim(d: &Dim) -> String {
    format!("({})", dims::expression(d, &symbol))
}

/// The divisions in a dim that must come out.
fn exact(d: &Dim, found: &mut Vec<(Dim, i64)>) {
    for atom in d.terms().flat_map(|(product, _)| product) {
        match atom {
            Atom::Symbol(_) => {}
            Atom::Ceil(inner, _) => exact(inner, found),
            Atom::Exact(inner, n) => {
                exact(inner, found);
                found.push(((**inner).clone(), *n));
            }
        }
    }
}

/// What every stub has: the driver's functions, memory, launches.
const RUNTIME_HEAD: &str = include_str!("stub.c");
