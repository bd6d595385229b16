//! `NAME_bind`: finds the weights in the caller's files and makes from them, once, what runs read.

use super::plan::{Plan, WEIGHTS_HEADER};
use super::run::check_ids;
use super::safetensors::{found, type_number};
use crate::cpu::abi::Failure;
use crate::cpu::body::{Body, SLICES, context};
use crate::cpu::code::Code;
use crate::cpu::element::load_element;
use crate::cpu::expression::{Emitter, Scope};
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{AbiParam, Signature, Value, types};
use cranelift_module::{DataId, FuncId, Module};
use mixc_ir::dtype::DType;
use mixc_ir::lowered::{ALIGNMENT, Action, BufferId, Lowered, Phase, Place};
use std::collections::BTreeMap;

/// Where the bind function's parts are.
pub struct Parts<'p> {
    /// The model.
    pub lowered: &'p Lowered,
    /// Its memory.
    pub plan: &'p Plan,
    /// Code of each step of the bind phase; `None` for checks.
    pub bodies: Vec<Option<Body>>,
    /// The weight finder, when there are weights.
    pub find: Option<FuncId>,
    /// `fn() -> 1 or 0`, when the CPU is to be asked.
    pub cpu: Option<FuncId>,
    /// Of each weight: its key in a header and its shape as words.
    pub weights: BTreeMap<BufferId, WeightData>,
    /// Written constants, by buffer.
    pub constants: &'p BTreeMap<BufferId, DataId>,
}

/// What the finder is given for one weight.
pub struct WeightData {
    /// The key's bytes.
    pub key: DataId,
    /// How many.
    pub key_length: usize,
    /// The shape, words of eight bytes.
    pub shape: DataId,
    /// Number of axes.
    pub rank: usize,
    /// Number of elements.
    pub elements: i64,
}

/// `int32_t NAME_bind(const mixc_blob *blobs, size_t count, void *weights, size_t weights_bytes)`.
pub fn signature(module: &dyn Module) -> Signature {
    let mut signature = module.make_signature();
    signature.params = vec![AbiParam::new(types::I64); 4];
    signature.returns = vec![AbiParam::new(types::I32)];
    signature
}

/// Copies `elements` of a stored type to memory, widened to f32 when they are halves.
fn copy_weight(f: &mut Code, dtype: DType, stored: Value, from: Value, to: Value, elements: i64) {
    let count = f.int(elements);
    let each = |f: &mut Code, of: DType, into: DType| {
        f.for_count(count, |f, k| {
            let offset = f.imul_imm(k, of.bytes() as i64);
            let from = f.iadd(from, offset);
            let x = load_element(f, of, from, types::F32);
            let offset = f.imul_imm(k, into.bytes() as i64);
            let to = f.iadd(to, offset);
            f.store(x.value, to, 0);
        });
    };
    // An element is moved as bits, so that not even a signalling NaN changes.
    let moved = |f: &mut Code| {
        f.for_count(count, |f, k| {
            let offset = f.imul_imm(k, dtype.bytes() as i64);
            let (from, to) = (f.iadd(from, offset), f.iadd(to, offset));
            let ty = match dtype.bytes() {
                8 => types::I64,
                4 => types::I32,
                2 => types::I16,
                _ => types::I8,
            };
            let bits = f.load(ty, from, 0);
            f.store(bits, to, 0);
        });
    };
    if dtype != DType::F32 {
        return moved(f);
    }
    let f16 = f.icmp_imm(IntCC::Equal, stored, type_number(DType::F16));
    let bf16 = f.icmp_imm(IntCC::Equal, stored, type_number(DType::BF16));
    f.if_else(
        f16,
        |f| each(f, DType::F16, DType::F32),
        |f| f.if_else(bf16, |f| each(f, DType::BF16, DType::F32), moved),
    );
}

/// Writes the function's body.
pub fn emit(f: &mut Code, parts: &Parts) {
    let lowered = parts.lowered;
    let (blobs, count, weights, bytes) = (f.param(0), f.param(1), f.param(2), f.param(3));
    if let Some(cpu) = parts.cpu {
        let able = f.call(cpu, &[]);
        let unable = f.icmp_imm(IntCC::Equal, able, 0);
        f.return_if(unable, Failure::CpuUnsupported.code());
    }
    let null = f.icmp_imm(IntCC::Equal, weights, 0);
    f.return_if(null, Failure::Null.code());
    let no_blobs = f.icmp_imm(IntCC::Equal, blobs, 0);
    let some = f.icmp_imm(IntCC::NotEqual, count, 0);
    let missing = f.band(no_blobs, some);
    f.return_if(missing, Failure::Null.code());
    let low = f.band_imm(weights, ALIGNMENT as i64 - 1);
    let off = f.icmp_imm(IntCC::NotEqual, low, 0);
    f.return_if(off, Failure::Misaligned.code());
    let needed = f.int(parts.plan.total as i64);
    let small = f.icmp(IntCC::UnsignedLessThan, bytes, needed);
    f.return_if(small, Failure::WeightsTooSmall.code());
    // Not bound until everything is done.
    let zero = f.int(0);
    for word in 0..WEIGHTS_HEADER as i32 / 8 {
        f.store(zero, weights, 8 * word);
    }

    // All weights are found before anything is made of them.
    let result = f.stack(2 * parts.weights.len());
    let mut places = BTreeMap::new();
    for (k, (id, weight)) in parts.weights.iter().enumerate() {
        let Some(find) = parts.find else { continue };
        let dtype = lowered.buffer(*id).dtype;
        let (key, shape) = (f.data(weight.key), f.data(weight.shape));
        let (key_length, rank) = (f.int(weight.key_length as i64), f.int(weight.rank as i64));
        let wanted = f.int(type_number(dtype));
        let into = f.iadd_imm(result, 16 * k as i64);
        let code = f.call(find, &[blobs, count, key, key_length, shape, rank, wanted, into]);
        let wrong = f.icmp_imm(IntCC::NotEqual, code, 0);
        f.if_(wrong, |f| f.return_(&[code]));
        let data = f.load(types::I64, into, found::DATA);
        let stored = f.load(types::I64, into, found::TYPE);
        places.insert(*id, (data, stored));
        if let Some(offset) = parts.plan.bound.get(id) {
            let to = f.iadd_imm(weights, *offset as i64);
            copy_weight(f, dtype, stored, data, to, weight.elements);
        }
    }

    let tensors = lowered.phase(Phase::Bind).map(|s| match &s.action {
        Action::Run { buffers, .. } => buffers.len(),
        Action::CheckIds { .. } => 0,
    });
    let ctx = f.stack(context::words(lowered.dims.len(), tensors.max().unwrap_or(0)));
    for k in 0..lowered.dims.len() {
        f.store(zero, ctx, context::SYMBOLS + 8 * k as i32);
    }
    let scratch = f.iadd_imm(weights, parts.plan.bind_scratch_at as i64);
    f.store(scratch, ctx, context::SCRATCH);
    f.store(zero, ctx, context::STRIDE);
    let first_tensor = context::SYMBOLS + 8 * lowered.dims.len() as i32;
    let scope = Scope::default();
    for (k, step) in lowered.phase(Phase::Bind).enumerate() {
        let widened = &parts.plan.widened[k];
        let address = |f: &mut Code, id: BufferId| -> Value {
            let buffer = lowered.buffer(id);
            match &buffer.place {
                Place::Weight(_) => match (places.get(&id), parts.plan.bound.get(&id)) {
                    (Some(_), Some(offset)) => f.iadd_imm(weights, *offset as i64),
                    (Some(&(data, stored)), None) => match widened.get(&id) {
                        Some(offset) => {
                            let area = f.iadd_imm(weights, *offset as i64);
                            let same = f.icmp_imm(IntCC::Equal, stored, type_number(buffer.dtype));
                            let elements = parts.weights.get(&id).map_or(0, |w| w.elements);
                            f.choose(
                                same,
                                types::I64,
                                |_| data,
                                |f| {
                                    copy_weight(f, buffer.dtype, stored, data, area, elements);
                                    area
                                },
                            )
                        }
                        None => data,
                    },
                    (None, _) => zero,
                },
                Place::Bound => match parts.plan.bound.get(&id) {
                    Some(offset) => f.iadd_imm(weights, *offset as i64),
                    None => zero,
                },
                Place::Temporary => match parts.plan.temporaries.get(&id) {
                    Some(offset) => f.iadd_imm(weights, *offset as i64),
                    None => zero,
                },
                Place::Constant(_) => match parts.constants.get(&id) {
                    Some(data) => f.data(*data),
                    None => zero,
                },
                Place::Param(_) | Place::Result(_) => zero,
            }
        };
        match (&step.action, &parts.bodies[k]) {
            (Action::CheckIds { ids, below }, _) => {
                let at = address(f, *ids);
                check_ids(f, &scope, lowered, *ids, at, below);
            }
            (Action::Run { program, buffers, .. }, Some(body)) => {
                for (t, id) in buffers.iter().enumerate() {
                    let at = address(f, *id);
                    f.store(at, ctx, first_tensor + 8 * t as i32);
                }
                let mut points = f.int(1);
                for axis in &program.grid {
                    let extent = Emitter::new(&scope, types::F64).int(f, &axis.extent);
                    let extent = f.smax(extent, zero);
                    points = f.imul(points, extent);
                }
                let some = f.icmp_imm(IntCC::SignedGreaterThan, points, 0);
                f.if_(some, |f| {
                    let most = f.int(SLICES);
                    let slices = f.smin(points, most);
                    f.store(points, ctx, context::POINTS);
                    f.store(slices, ctx, context::SLICES);
                    f.for_count(slices, |f, s| f.call_void(body.function, &[ctx, s]));
                });
            }
            (Action::Run { .. }, None) => {}
        }
    }
    let mark = f.int(parts.plan.mark);
    f.store(mark, weights, 0);
    let fine = f.int_of(types::I32, 0);
    f.return_(&[fine]);
}
