//! A program as a list of statements that can be dropped one by one, with inputs.

use mixc::inputs::Random;
use mixc::ir::dim::{Dim, DimValues};
use mixc::ir::dtype::DType;
use mixc::ir::tensor::{Blob, Tensor};
use mixc::ir::ty::{TensorType, Type};

/// What a parameter's numbers are for.
#[derive(Clone, Debug, PartialEq)]
pub enum Role {
    /// Any numbers around 0.
    Data,
    /// Numbers so large that exponentials overflow unless a maximum is taken out.
    Large,
    /// Not positive.
    LogDecay,
    /// Between 0.7 and 1.
    Decay,
    /// Between 0.5 and 1.5.
    Positive,
    /// Ids below a dim.
    Ids(Dim),
    /// Lengths from below 0 to above a dim.
    Lengths(Dim),
    /// Few different numbers.
    Segments,
    /// Mostly true.
    Mask,
}

#[derive(Clone, Debug)]
pub struct Param {
    pub name: String,
    pub ty: TensorType,
    pub role: Role,
}

#[derive(Clone, Debug)]
pub struct Statement {
    pub results: Vec<(String, Type)>,
    pub text: String,
}

/// A program and the lengths to run it at.
#[derive(Clone, Debug)]
pub struct Source {
    pub seed: u64,
    /// Name, bounds.
    pub dims: Vec<(String, i64, i64)>,
    pub lengths: DimValues,
    pub params: Vec<Param>,
    pub statements: Vec<Statement>,
    pub results: Vec<(String, TensorType)>,
    /// Whether parameters of fixed shape are weights of a file instead.
    pub weights: bool,
}

/// Whether `text` names the value `name`.
pub fn mentions(text: &str, name: &str) -> bool {
    let mut rest = text;
    let full = format!("%{name}");
    while let Some(at) = rest.find(&full) {
        rest = &rest[at + full.len()..];
        if !rest.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.') {
            return true;
        }
    }
    false
}

pub fn dims_text(dims: &[Dim]) -> String {
    dims.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

impl Source {
    /// The program as text.
    pub fn text(&self) -> String {
        let mut out = String::new();
        for (name, low, high) in &self.dims {
            out.push_str(&format!("dim {name} = {low}..{high}\n"));
        }
        if self.params.iter().any(|p| self.is_weight(p)) {
            out.push_str("weights \"random.safetensors\"\n");
        }
        let mut params: Vec<String> =
            self.params.iter().filter(|p| !self.is_weight(p)).map(|p| format!("%{}: {}", p.name, p.ty)).collect();
        for (name, ..) in &self.dims {
            let alone = |p: &Param| p.ty.shape.iter().any(|d| d.as_symbol().is_some_and(|s| s.to_string() == *name));
            if !self.params.iter().any(alone) {
                params.push(format!("%length_{name}: f32[{name}]"));
            }
        }
        let types: Vec<String> = self.results.iter().map(|(_, t)| t.to_string()).collect();
        let types = if types.len() == 1 { types[0].clone() } else { format!("({})", types.join(", ")) };
        out.push_str(&format!("func @main({}) -> {types} {{\n", params.join(", ")));
        for (k, p) in self.params.iter().filter(|p| self.is_weight(p)).enumerate() {
            out.push_str(&format!("  const %{} = weight \"out{k}\" : {}\n", p.name, p.ty));
        }
        for s in &self.statements {
            let names: Vec<String> = s.results.iter().map(|(n, _)| format!("%{n}")).collect();
            // A constant is a statement of another form.
            let word = if s.text.starts_with("splat") || s.text.starts_with("dense [") { "const " } else { "" };
            out.push_str(&format!("  {word}{} = {}\n", names.join(", "), s.text));
        }
        let names: Vec<String> = self.results.iter().map(|(n, _)| format!("%{n}")).collect();
        out.push_str(&format!("  return {}\n}}\n", names.join(", ")));
        out
    }

    fn is_weight(&self, p: &Param) -> bool {
        self.weights && p.ty.dtype.is_float() && p.ty.shape.iter().all(|d| d.as_constant().is_some())
    }

    fn numbers(&self, p: &Param) -> Blob {
        let length = |d: &Dim| usize::try_from(d.eval(&self.lengths).unwrap_or(0)).unwrap_or(0);
        let seed = p.name.bytes().fold(self.seed, |s, b| s.wrapping_mul(31).wrapping_add(u64::from(b)));
        let shape: Vec<usize> = p.ty.shape.iter().map(length).collect();
        tensor(p, &shape, &mut Random::new(seed), &self.lengths).to_blob(p.ty.dtype)
    }

    /// The weights, named `out0`, `out1`, ...
    pub fn weight_values(&self) -> Vec<Blob> {
        self.params.iter().filter(|p| self.is_weight(p)).map(|p| self.numbers(p)).collect()
    }

    /// The inputs; the same whatever else the program has, so that shrinking keeps them.
    pub fn inputs(&self) -> Vec<Blob> {
        let length = |d: &Dim| usize::try_from(d.eval(&self.lengths).unwrap_or(0)).unwrap_or(0);
        let mut all = Vec::new();
        all.extend(self.params.iter().filter(|p| !self.is_weight(p)).map(|p| self.numbers(p)));
        for (name, ..) in &self.dims {
            let alone = |p: &Param| p.ty.shape.iter().any(|d| d.as_symbol().is_some_and(|s| s.to_string() == *name));
            if !self.params.iter().any(alone) {
                all.push(Blob::zeros(DType::F32, &[length(&Dim::symbol(name))]));
            }
        }
        all
    }
}

fn tensor(p: &Param, shape: &[usize], random: &mut Random, lengths: &DimValues) -> Tensor {
    let count: usize = shape.iter().product();
    let limit = |d: &Dim| d.eval(lengths).unwrap_or(1);
    match p.ty.dtype {
        DType::Bool => Tensor::bools(shape, (0..count).map(|_| random.below(4) > 0).collect()),
        d if d.is_int() => {
            let mut one = || match &p.role {
                Role::Ids(d) => random.below(limit(d)),
                Role::Lengths(d) => random.below(limit(d) + 4) - 1,
                _ => random.below(3),
            };
            Tensor::ints(shape, (0..count).map(|_| one()).collect())
        }
        _ => {
            let mut one = || match p.role {
                Role::LogDecay => -random.uniform(),
                Role::Decay => 0.7 + 0.3 * random.uniform(),
                Role::Positive => 0.5 + random.uniform(),
                Role::Large => 200.0 * random.normal(),
                _ => random.normal(),
            };
            Tensor::floats(shape, (0..count).map(|_| one()).collect())
        }
    }
}
