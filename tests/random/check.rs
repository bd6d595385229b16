//! One program through the reference, the interpreter of tile programs and native code.

use crate::source::Source;
use mixc::ir::attr::Attrs;
use mixc::ir::dim::DimValues;
use mixc::ir::dtype::DType;
use mixc::ir::lowered::Action;
use mixc::ir::lowered_interp::interpret_lowered;
use mixc::ir::program::{Node, NodeKind, Program, ValueId};
use mixc::ir::reference::{Weights, interpret};
use mixc::ir::tensor::{Blob, Tensor};
use mixc::ir::tile::Rounding;
use mixc::{Error, Model, Request, Runner, Target, inputs};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

/// What became of a program.
#[derive(Clone, Debug)]
pub enum Outcome {
    Agrees,
    /// Nothing to compare, and why.
    Skipped(&'static str),
    Fails {
        kind: &'static str,
        message: String,
    },
}

fn fails(kind: &'static str, message: impl ToString) -> Outcome {
    Outcome::Fails { kind, message: message.to_string() }
}

/// The share of the largest value by which a result may differ (section 7 of the language reference); the widest of the
/// types that values of the program have, since a value may have passed through any of them.
pub fn tolerance(model: &Model) -> f64 {
    let of = |d: DType| match d {
        DType::BF16 => 2e-2,
        DType::F16 => 4e-3,
        _ => 1e-5,
    };
    model.program.values.iter().map(|v| of(v.ty.dtype())).fold(0.0, f64::max)
}

/// The largest difference as a share of the largest value, and where; infinite for elements that are not numbers alike.
pub fn difference(got: &[Tensor], want: &[Tensor]) -> (f64, String) {
    let (mut worst, mut place) = (0.0, String::new());
    for (k, (g, w)) in got.iter().zip(want).enumerate() {
        // What vanishes but for rounding, in the reference too, is compared with one.
        let scale = (0..w.len()).map(|n| w.at(n).abs()).fold(0.0, f64::max);
        // Inputs reach hundreds.
        let scale = if scale < 1e-9 { 1e3 } else { scale };
        for n in 0..w.len() {
            let (a, b) = (g.at(n), w.at(n));
            let d = if a == b { 0.0 } else { (a - b).abs() / scale };
            let d = if d.is_nan() { f64::INFINITY } else { d };
            if d > worst {
                (worst, place) = (d, format!("out{k}[{n}] is {a}, the reference has {b}"));
            }
        }
    }
    (worst, place)
}

fn tensors(blobs: &[Blob]) -> Vec<Tensor> {
    blobs.iter().map(Blob::to_tensor).collect()
}

/// Whether every float that the program makes, results or not, stays far within what its type holds: squares and sums
/// of a few are formed on the way.
fn moderate(model: &Model, dims: &DimValues, inputs: &[Tensor], weights: &Weights) -> bool {
    let float = |v: &ValueId| {
        let ty = model.program.ty(*v);
        ty.as_tensor().is_some() && ty.dtype().is_float()
    };
    let all: Vec<ValueId> = model.program.nodes.iter().flat_map(|n| &n.results).copied().filter(float).collect();
    let most = |v: &ValueId| match model.program.ty(*v).dtype() {
        DType::F16 => 1e4,
        DType::F64 => 1e100,
        _ => 1e15,
    };
    let limits: Vec<f64> = all.iter().map(most).collect();
    let program = Program { results: all, ..model.program.clone() };
    match interpret(&program, dims, inputs, weights) {
        Ok(values) => values.iter().zip(limits).all(|(t, most)| (0..t.len()).all(|n| t.at(n).abs() < most)),
        Err(_) => false,
    }
}

/// Operations, and types to which one casts, that jump: rounding may change their results by any amount.
const JUMPS: &[&str] = &[
    "argmax",
    "top_k",
    "top_k_axis",
    "top_k_tree",
    "floor",
    "round",
    "sign",
    "mod",
    "eq",
    "ne",
    "lt",
    "le",
    "gt",
    "ge",
    "i64",
    "i32",
    "bool",
];

fn jumps(text: &str) -> bool {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').any(|word| JUMPS.contains(&word))
}

/// The results where every float, given, constant or computed, is moved by about the rounding of f32, or of its type
/// where that is shorter. Constants that an operation ranks or compares as they are stay: their ties are real.
fn nudged(
    source: &Source,
    model: &Model,
    dims: &DimValues,
    inputs: &[Tensor],
    weights: &Weights,
) -> Result<Vec<Tensor>, String> {
    let mut random = inputs::Random::new(source.seed ^ 0x5555);
    let mut factors = |shape: &[usize], dtype: DType| {
        let step = match dtype {
            DType::BF16 => 2f64.powi(-9),
            DType::F16 => 2f64.powi(-12),
            _ => 2f64.powi(-24),
        };
        let factors = (0..shape.iter().product()).map(|_| 1.0 + step * (2.0 * random.uniform() - 1.0)).collect();
        Tensor::floats(shape, factors)
    };
    let mut program = model.program.clone();
    let jumps = |n: &&Node| n.op_name().is_some_and(|name| JUMPS.contains(&name));
    let ranked: Vec<ValueId> =
        program.nodes.iter().filter(jumps).flat_map(|n| n.operands.iter().flatten()).copied().collect();
    let mul = mixc::ir::ops::find("mul").expect("there is multiplication");
    let mut all = inputs.to_vec();
    for (t, v) in all.iter_mut().zip(&program.params) {
        let dtype = program.ty(*v).dtype();
        if dtype.is_float() {
            let f = factors(&t.shape, dtype);
            *t = Tensor::floats(&t.shape, (0..t.len()).map(|n| t.at(n) * f.at(n)).collect());
        }
    }
    // Every float that a node makes is made under another name, and multiplied.
    for mut node in std::mem::take(&mut program.nodes) {
        let constant = matches!(node.kind, NodeKind::Const(_));
        let mut multiplied = Vec::new();
        for result in &mut node.results {
            let Some(ty) = program.ty(*result).as_tensor().cloned() else { continue };
            if !ty.dtype.is_float() || (constant && ranked.contains(result)) {
                continue;
            }
            let shape: Result<Vec<i64>, _> = ty.shape.iter().map(|d| d.eval(dims)).collect();
            let shape: Vec<usize> = shape.map_err(|e| e.to_string())?.iter().map(|n| *n as usize).collect();
            let copies = [0, 1].map(|k| ValueId((program.values.len() + k) as u32));
            let value = program.values[result.index()].clone();
            program.values.extend([value.clone(), value]);
            program.params.push(copies[1]);
            all.push(factors(&shape, ty.dtype));
            let operands = copies.map(Some).to_vec();
            let results = vec![std::mem::replace(result, copies[0])];
            multiplied.push(Node { kind: NodeKind::Op(mul), operands, attrs: Attrs::new(), results, span: node.span });
        }
        program.nodes.push(node);
        program.nodes.extend(multiplied);
    }
    interpret(&program, dims, &all, weights)
}

/// The panic's message.
fn caught<T>(f: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(f)).map_err(|e| {
        let text = e.downcast_ref::<String>().cloned();
        text.or_else(|| e.downcast_ref::<&str>().map(ToString::to_string)).unwrap_or_default()
    })
}

/// Runs `source` everywhere and compares.
pub fn check(source: &Source) -> Outcome {
    let weights = source.weight_values();
    if weights.is_empty() {
        return check_text(&source.text(), &source.inputs(), &[], source);
    }
    let path = weight_file();
    inputs::write(&weights, &path).expect("the target folder is writable");
    check_text(&source.text(), &source.inputs(), &weights, source)
}

/// One file a process; programs are checked one after the other.
fn weight_file() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("random.{}.safetensors", std::process::id()))
}

fn check_text(text: &str, inputs: &[Blob], weights: &[Blob], source: &Source) -> Outcome {
    let files = if weights.is_empty() { vec![] } else { vec![weight_file()] };
    let weights: Weights = weights.iter().enumerate().map(|(k, b)| (format!("out{k}"), b.to_tensor())).collect();
    let model = match caught(|| Model::from_text(text, "random", Path::new("."), &files)) {
        Err(e) => return fails("the front end panics", e),
        Ok(Err(_)) => return Outcome::Skipped("not well typed"),
        Ok(Ok(m)) => m,
    };
    let reference = match caught(|| Runner::new(&model, &Target::Reference, &Request::default())) {
        Err(e) => return fails("the reference panics", e),
        Ok(Err(e)) => return fails("the reference rejects", e),
        Ok(Ok(r)) => r,
    };
    let Ok(dims) = reference.dims(inputs) else { return Outcome::Skipped("lengths do not fit") };
    let run = |inputs: &[Tensor]| interpret(&model.program, &dims, inputs, &weights);
    let wide = tensors(inputs);
    let want = match caught(|| run(&wide)) {
        Err(e) => return fails("the reference panics", e),
        Ok(Err(_)) => return Outcome::Skipped("the reference fails"),
        Ok(Ok(w)) => w,
    };
    let target = Target::native().expect("this machine runs native code");
    let runner = match caught(|| Runner::new(&model, &target, &Request::default())) {
        Err(e) => return fails("compilation panics", e),
        Ok(Err(Error::Rejected { diagnostics, .. })) => {
            let texts: Vec<String> = diagnostics.iter().map(ToString::to_string).collect();
            let known = texts.iter().all(|t| t.contains("native form"));
            return if known {
                Outcome::Skipped("no native form")
            } else {
                fails("lowering rejects", texts.join("; "))
            };
        }
        Ok(Err(e)) => return fails("compilation fails", e),
        Ok(Ok(r)) => r,
    };
    let lowered = &runner.compilation().expect("native runners keep it").lowered;
    for step in &lowered.steps {
        if let Action::Run { program, form, .. } = &step.action {
            let problems = mixc::ir::tile::verify(program);
            if !problems.is_empty() {
                return fails("a tile program is wrong", format!("{form}: {problems:?}\n{program}"));
            }
        }
    }
    let problems = mixc::ir::plan::check_plan(lowered, &lowered.plan);
    if !problems.is_empty() {
        return fails("the plan is wrong", format!("{problems:?}"));
    }
    let allowed = tolerance(&model);
    let body = text.split_once('{').map_or("", |(_, body)| body);
    let meaningful = moderate(&model, &dims, &wide, &weights);
    // Whether moving everything by its rounding makes such a difference, give or take what operations round on the way.
    let sensitive = |d: f64, allowed: f64| match nudged(source, &model, &dims, &wide, &weights) {
        Ok(moved) => {
            let own = difference(&moved, &want).0;
            own * 4.0 > allowed && own * 64.0 > d
        }
        Err(_) => true,
    };
    let interpreted =
        |rounding| caught(|| interpret_lowered(lowered, &dims, &wide, &weights, rounding).map_err(|e| e.to_string()));
    match interpreted(Rounding::Nowhere) {
        Err(e) => return fails("the tile interpreter panics", e),
        Ok(Err(e)) => return fails("the tile interpreter fails", e),
        Ok(Ok(got)) if meaningful => {
            let (d, place) = difference(&got, &want);
            let exact = if allowed > 1e-5 { allowed } else { 1e-6 };
            // Transforms leave the last bits of sums that vanish, and casts to halves round: jumps may see either.
            let noise = jumps(body) && (allowed > 1e-5 || body.contains("fft ") || body.contains("fourier_mix "));
            if d > exact && !noise && !sensitive(d, exact) {
                return fails("tile programs differ", format!("{place}: {d:.1e}"));
            }
        }
        Ok(Ok(_)) => {}
    }
    let native = |threads| caught(|| runner.run(inputs, threads));
    let single = match native(1) {
        Err(e) => return fails("native code panics", e),
        Ok(Err(e)) => return fails("native code fails", e),
        Ok(Ok(y)) => y,
    };
    match native(2) {
        Err(e) => return fails("native code panics", e),
        Ok(Err(e)) => return fails("native code fails with two threads", e),
        Ok(Ok(y)) if y != single => return fails("threads change bits", ""),
        Ok(Ok(_)) => {}
    }
    if !meaningful {
        return Outcome::Skipped("not finite");
    }
    let (d, place) = difference(&tensors(&single), &want);
    if d <= allowed {
        return Outcome::Agrees;
    }
    if sensitive(d, allowed) {
        return Outcome::Skipped("ill-conditioned");
    }
    // The tile programs agree when nothing rounds; a jump may do the rest.
    if jumps(body) {
        return Outcome::Skipped("differs after a jump");
    }
    match interpreted(Rounding::Tiles) {
        Ok(Ok(got)) if d <= 4.0 * difference(&got, &want).0 => {
            if std::env::var("MIXC_REPORT").is_ok() {
                eprintln!("seed {}: as its rounding: {place}: {d:.1e}\n{text}", source.seed);
            }
            Outcome::Skipped("differs as much as its own rounding")
        }
        _ => fails("native code differs", format!("{place}: {d:.1e} of the largest value, allowed {allowed:.0e}")),
    }
}

/// Text and inputs that must agree, not merely be skipped, unless no native form is known.
pub fn must_agree(text: &str, inputs: &[Blob]) -> Result<bool, String> {
    let source = Source {
        seed: 7,
        dims: vec![],
        lengths: Default::default(),
        params: vec![],
        statements: vec![],
        results: vec![],
        weights: false,
    };
    match check_text(text, inputs, &[], &source) {
        Outcome::Agrees => Ok(true),
        Outcome::Skipped("no native form") => Ok(false),
        Outcome::Skipped(why) => Err(format!("skipped: {why}\n{text}")),
        Outcome::Fails { kind, message } => Err(format!("{kind}: {message}\n{text}")),
    }
}
