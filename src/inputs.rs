//! Tensors for a run: from a safetensors file by the parameters' names, or random ones that make sense for the model.

use crate::{Error, shapes};
use mixc_ir::dim::{Dim, DimValues};
use mixc_ir::dtype::DType;
use mixc_ir::program::{Program, ValueId};
use mixc_ir::tensor::{Blob, Tensor};
use std::io::Write;
use std::path::Path;

/// Reads the parameters from a safetensors file (`-` is standard input); tensors of other names are ignored.
pub fn read(program: &Program, path: &Path) -> Result<Vec<Blob>, Error> {
    let file = crate::weights::WeightFiles::open(&[path.to_path_buf()])?;
    let mut inputs = Vec::new();
    let mut missing = Vec::new();
    for v in &program.params {
        let name = program.name_of(*v);
        match file.get(name) {
            Some(blob) => {
                let wanted = program.ty(*v).dtype();
                if blob.dtype != wanted {
                    return Err(Error::Usage(format!("input `{name}` must be {wanted}, the file has {}", blob.dtype)));
                }
                inputs.push(blob);
            }
            None => missing.push(format!("`{name}`")),
        }
    }
    if missing.is_empty() {
        return Ok(inputs);
    }
    Err(Error::Usage(format!("{} has no tensor {}", path.display(), missing.join(", "))))
}

/// Writes results as `out0`, `out1`, ...; to standard output for `-`.
pub fn write(results: &[Blob], path: &Path) -> Result<(), Error> {
    let names: Vec<String> = (0..results.len()).map(|k| format!("out{k}")).collect();
    let bytes = safetensors(&names, results);
    let written = match path == Path::new("-") {
        true => std::io::stdout().lock().write_all(&bytes),
        false => std::fs::write(path, bytes),
    };
    written.map_err(|e| Error::io(path, e))
}

/// Tensors in the safetensors format: the header's length, the header, the data.
fn safetensors(names: &[String], tensors: &[Blob]) -> Vec<u8> {
    let mut header = serde_json::Map::new();
    let mut at = 0;
    for (name, t) in names.iter().zip(tensors) {
        let end = at + t.bytes.len();
        let dtype = t.dtype.name().to_ascii_uppercase();
        header.insert(name.clone(), serde_json::json!({ "dtype": dtype, "shape": t.shape, "data_offsets": [at, end] }));
        at = end;
    }
    let mut text = serde_json::Value::Object(header).to_string();
    // Data starts at a multiple of 8 bytes.
    while !text.len().is_multiple_of(8) {
        text.push(' ');
    }
    let mut out = (text.len() as u64).to_le_bytes().to_vec();
    out.extend(text.bytes());
    for t in tensors {
        out.extend(&t.bytes);
    }
    out
}

/// A small deterministic generator (splitmix64, Steele et al. 2014).
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// From a seed.
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Uniform in (0, 1).
    pub fn uniform(&mut self) -> f64 {
        ((self.bits() >> 11) as f64 + 0.5) / (1u64 << 53) as f64
    }

    /// Standard normal (Box and Muller 1958).
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * self.uniform().ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform()).cos()
    }

    /// Uniform in 0..n.
    pub fn below(&mut self, n: i64) -> i64 {
        (self.bits() % n.max(1) as u64) as i64
    }
}

/// What a parameter is for, as far as its numbers must make sense.
#[derive(Clone, Debug, PartialEq)]
enum Use {
    /// Any numbers.
    Data,
    /// A matrix that features are multiplied with: scaled so that products keep their size.
    Matrix,
    /// The taps of a convolution, scaled likewise.
    Taps,
    /// Log decays: not positive.
    LogDecay,
    /// Decays: between 0 and 1.
    Decay,
    /// Steps of time: small and positive.
    Step,
    /// Ids below a dim.
    Ids(Dim),
    /// Lengths up to a dim.
    Lengths(Dim),
}

fn use_of(program: &Program, v: ValueId) -> Use {
    for node in &program.nodes {
        let (Some(op), Some(k)) = (node.op_name(), node.operands.iter().position(|o| *o == Some(v))) else { continue };
        let first = || node.operands[0].map(|x| program.ty(x).dims()).unwrap_or_default();
        match (op, k) {
            ("gather", 1) => return Use::Ids(first().first().cloned().unwrap_or_default()),
            ("take", 1) => {
                let dims = first();
                let axis = node.attrs.int("axis").unwrap_or(0).rem_euclid(dims.len().max(1) as i64) as usize;
                return Use::Ids(dims.get(axis).cloned().unwrap_or_default());
            }
            ("mask_lengths", 1) => return Use::Lengths(first().last().cloned().unwrap_or_default()),
            ("semiseparable", 2) | ("ssd", 1) | ("gated_linear_attention", 3) | ("delta_rule", 4) => {
                return Use::LogDecay;
            }
            ("selective_scan", 2) => return Use::LogDecay,
            ("retention", 3) | ("decay", 1) | ("delta_rule", 3) => return Use::Decay,
            ("selective_scan", 1) => return Use::Step,
            ("linear" | "lora", 1..=3) if program.ty(v).dims().len() == 2 => return Use::Matrix,
            ("conv1d" | "pgn", 1) => return Use::Taps,
            ("pgn", 2 | 3) | ("matmul", 1) | ("dense", 0) | ("short_conv", 1) | ("long_conv", 1) => return Use::Matrix,
            _ => {}
        }
    }
    Use::Data
}

/// Random inputs at these lengths.
pub fn random(program: &Program, dims: &DimValues, seed: u64) -> Vec<Blob> {
    let mut random = Random::new(seed);
    let mut one = |v: &ValueId| {
        let ty = program.ty(*v);
        let shape = shapes::lengths(&ty.dims(), dims);
        let count: usize = shape.iter().product();
        let what = use_of(program, *v);
        let limit = match &what {
            Use::Ids(d) | Use::Lengths(d) => d.eval(dims).unwrap_or(1),
            _ => 2,
        };
        // Of a convolution's weights [d, c, K] all but the first axis are summed over.
        let summed =
            if shape.len() == 3 && what == Use::Taps { &shape[1..] } else { &shape[shape.len().saturating_sub(1)..] };
        let fan_in = summed.iter().product::<usize>() as f64;
        let dtype = ty.dtype();
        let tensor = match dtype {
            DType::Bool => Tensor::bools(&shape, (0..count).map(|_| random.below(4) > 0).collect()),
            d if d.is_int() => {
                let low = i64::from(matches!(what, Use::Lengths(_)) && limit > 0);
                Tensor::ints(&shape, (0..count).map(|_| low + random.below(limit - low + i64::from(low > 0))).collect())
            }
            _ => Tensor::floats(
                &shape,
                (0..count)
                    .map(|_| match what {
                        Use::Matrix | Use::Taps => random.normal() / fan_in.max(1.0).sqrt(),
                        Use::LogDecay => -random.uniform(),
                        Use::Decay => 0.8 + 0.2 * random.uniform(),
                        Use::Step => 0.1 * random.uniform(),
                        _ => random.normal(),
                    })
                    .collect(),
            ),
        };
        tensor.to_blob(dtype)
    };
    program.params.iter().map(&mut one).collect()
}
