//! `NAME_run`: checks everything that can be wrong with a call, then runs the steps in order.

use super::plan::Plan;
use super::sizes::out;
use crate::cpu::abi::Failure;
use crate::cpu::body::{Body, SLICES, context};
use crate::cpu::code::Code;
use crate::cpu::element::{as_int, load_element};
use crate::cpu::expression::{Scope, dim_value};
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{AbiParam, InstBuilder, Signature, Value, types};
use cranelift_module::{DataId, FuncId, Module};
use mixc_ir::dim::Dim;
use mixc_ir::lowered::{ALIGNMENT, Action, BufferId, Lowered, Phase, Place};
use std::collections::BTreeMap;

/// Where the run function's parts are.
pub struct Parts<'p> {
    /// The model.
    pub lowered: &'p Lowered,
    /// Its memory.
    pub plan: &'p Plan,
    /// Code of each step of the run phase; `None` for checks.
    pub bodies: Vec<Option<Body>>,
    /// `fn(dims, out) -> code`.
    pub sizes: FuncId,
    /// `fn() -> 1 or 0`, when the CPU is to be asked.
    pub cpu: Option<FuncId>,
    /// Bound weights as data of the object.
    pub embedded: Option<DataId>,
    /// Written constants, by buffer.
    pub constants: &'p BTreeMap<BufferId, DataId>,
}

impl Parts<'_> {
    /// Whether `weights` is an argument.
    pub fn takes_weights(&self) -> bool {
        self.plan.binds && self.embedded.is_none()
    }
}

/// `int32_t NAME_run(dims, [weights], params..., results..., workspace, workspace_bytes, par)`.
pub fn signature(module: &dyn Module, parts: &Parts) -> Signature {
    let pointers = 4 + usize::from(parts.takes_weights()) + parts.lowered.params.len() + parts.lowered.results.len();
    let mut signature = module.make_signature();
    signature.params = vec![AbiParam::new(types::I64); pointers];
    signature.returns = vec![AbiParam::new(types::I32)];
    signature
}

/// Checks a pointer, unless nothing is read or written through it: not null, and aligned.
fn check_pointer(f: &mut Code, pointer: Value, align: i64, needed: Option<Value>) {
    let null = f.icmp_imm(IntCC::Equal, pointer, 0);
    let low = f.band_imm(pointer, align - 1);
    let off = f.icmp_imm(IntCC::NotEqual, low, 0);
    for (wrong, failure) in [(null, Failure::Null), (off, Failure::Misaligned)] {
        let wrong = match needed {
            Some(elements) => {
                let some = f.icmp_imm(IntCC::NotEqual, elements, 0);
                f.band(wrong, some)
            }
            None => wrong,
        };
        f.return_if(wrong, failure.code());
    }
}

/// Writes the function's body.
pub fn emit(f: &mut Code, parts: &Parts) {
    let lowered = parts.lowered;
    if let Some(cpu) = parts.cpu {
        let able = f.call(cpu, &[]);
        let unable = f.icmp_imm(IntCC::Equal, able, 0);
        f.return_if(unable, Failure::CpuUnsupported.code());
    }
    let dims = f.param(0);
    let first = 1 + usize::from(parts.takes_weights());
    let tensors = lowered.params.len() + lowered.results.len();
    let (workspace, workspace_bytes, par) =
        (f.param(first + tensors), f.param(first + tensors + 1), f.param(first + tensors + 2));
    let steps: Vec<_> = lowered.phase(Phase::Run).collect();
    let sizes = f.stack(out::words(lowered.plan.run.len(), steps.len()));
    let code = f.call(parts.sizes, &[dims, sizes]);
    let wrong = f.icmp_imm(IntCC::NotEqual, code, 0);
    f.if_(wrong, |f| f.return_(&[code]));

    // The sizes were accepted: lengths can be computed without further care.
    let mut scope = Scope::default();
    for (k, item) in lowered.dims.iter().enumerate() {
        let value = f.load(types::I64, dims, 8 * k as i32);
        scope.symbols.insert(item.name.clone(), value);
    }
    let weights = match (parts.embedded, parts.takes_weights()) {
        (Some(data), _) => Some(f.data(data)),
        (None, true) => {
            let weights = f.param(1);
            check_pointer(f, weights, ALIGNMENT as i64, None);
            let mark = f.load(types::I64, weights, 0);
            let foreign = f.icmp_imm(IntCC::NotEqual, mark, parts.plan.mark);
            f.return_if(foreign, Failure::NotBound.code());
            Some(weights)
        }
        (None, false) => None,
    };
    let mut arguments = BTreeMap::new();
    for (k, id) in lowered.params.iter().chain(&lowered.results).enumerate() {
        let buffer = lowered.buffer(*id);
        let pointer = f.param(first + k);
        let mut elements = f.int(1);
        for d in &buffer.shape {
            let length = dim_value(f, &scope, d);
            elements = f.imul(elements, length);
        }
        check_pointer(f, pointer, buffer.dtype.bytes() as i64, Some(elements));
        arguments.insert(*id, pointer);
    }
    let serial_bytes = f.load(types::I64, sizes, out::SERIAL);
    let parallel_bytes = f.load(types::I64, sizes, out::PARALLEL);
    let serial = f.icmp_imm(IntCC::Equal, par, 0);
    let needed = f.select(serial, serial_bytes, parallel_bytes);
    check_pointer(f, workspace, ALIGNMENT as i64, Some(needed));
    let small = f.icmp(IntCC::UnsignedLessThan, workspace_bytes, needed);
    f.return_if(small, Failure::WorkspaceTooSmall.code());

    let most_tensors = steps.iter().map(|s| match &s.action {
        Action::Run { buffers, .. } => buffers.len(),
        Action::CheckIds { .. } => 0,
    });
    let words = context::words(lowered.dims.len(), most_tensors.max().unwrap_or(0));
    let ctx = f.stack(words);
    for (k, item) in lowered.dims.iter().enumerate() {
        let value = scope.symbols[&item.name];
        f.store(value, ctx, context::SYMBOLS + 8 * k as i32);
    }
    let scratch_at = f.load(types::I64, sizes, out::SCRATCH);
    let scratch = f.iadd(workspace, scratch_at);
    f.store(scratch, ctx, context::SCRATCH);
    let (zero, stride) = (f.int(0), f.int(parts.plan.scratch as i64));
    let stride = f.select(serial, zero, stride);
    f.store(stride, ctx, context::STRIDE);

    let slot_of: BTreeMap<BufferId, usize> =
        lowered.plan.run.iter().enumerate().flat_map(|(k, slot)| slot.iter().map(move |b| (*b, k))).collect();
    let address = |f: &mut Code, id: BufferId| -> Value {
        let buffer = lowered.buffer(id);
        match &buffer.place {
            Place::Param(_) | Place::Result(_) => arguments.get(&id).copied().unwrap_or(zero),
            Place::Constant(_) => match parts.constants.get(&id) {
                Some(data) => f.data(*data),
                None => zero,
            },
            Place::Weight(_) | Place::Bound => match (weights, parts.plan.bound.get(&id)) {
                (Some(weights), Some(offset)) => f.iadd_imm(weights, *offset as i64),
                _ => zero,
            },
            Place::Temporary => match slot_of.get(&id) {
                Some(slot) => {
                    let offset = f.load(types::I64, sizes, out::SLOTS + 8 * *slot as i32);
                    f.iadd(workspace, offset)
                }
                None => zero,
            },
        }
    };
    let first_points = out::SLOTS + 8 * lowered.plan.run.len() as i32;
    let first_tensor = context::SYMBOLS + 8 * lowered.dims.len() as i32;
    for (k, step) in steps.iter().enumerate() {
        match (&step.action, &parts.bodies[k]) {
            (Action::CheckIds { ids, below }, _) => {
                let at = address(f, *ids);
                check_ids(f, &scope, lowered, *ids, at, below);
            }
            (Action::Run { buffers, .. }, Some(body)) => {
                for (t, id) in buffers.iter().enumerate() {
                    let at = address(f, *id);
                    f.store(at, ctx, first_tensor + 8 * t as i32);
                }
                let points = f.load(types::I64, sizes, first_points + 8 * k as i32);
                let some = f.icmp_imm(IntCC::SignedGreaterThan, points, 0);
                f.if_(some, |f| {
                    let most = f.int(SLICES);
                    let slices = f.smin(points, most);
                    f.store(points, ctx, context::POINTS);
                    f.store(slices, ctx, context::SLICES);
                    dispatch(f, body.function, par, serial, slices, ctx);
                });
            }
            (Action::Run { .. }, None) => {}
        }
    }
    let fine = f.int_of(types::I32, 0);
    f.return_(&[fine]);
}

/// Runs all slices: through the caller's `parallel_for(ctx, n, body, arg)`, or one after another.
fn dispatch(f: &mut Code, body: FuncId, par: Value, serial: Value, slices: Value, ctx: Value) {
    let single = f.icmp_imm(IntCC::Equal, slices, 1);
    let here = f.bor(serial, single);
    f.if_else(
        here,
        |f| f.for_count(slices, |f, s| f.call_void(body, &[ctx, s])),
        |f| {
            let reference = f.import(body);
            let function = f.b.ins().func_addr(types::I64, reference);
            let mut signature = f.module.make_signature();
            signature.params = vec![AbiParam::new(types::I64); 4];
            let signature = f.b.import_signature(signature);
            let owner = f.load(types::I64, par, 0);
            let parallel_for = f.load(types::I64, par, 8);
            f.b.ins().call_indirect(signature, parallel_for, &[owner, slices, function, ctx]);
        },
    );
}

/// Leaves with a code when an id is not in `0..below`.
pub fn check_ids(f: &mut Code, scope: &Scope, lowered: &Lowered, ids: BufferId, at: Value, below: &Dim) {
    let buffer = lowered.buffer(ids);
    let mut elements = f.int(1);
    for d in &buffer.shape {
        let length = dim_value(f, scope, d);
        elements = f.imul(elements, length);
    }
    let below = dim_value(f, scope, below);
    f.for_count(elements, |f, k| {
        let offset = f.imul_imm(k, buffer.dtype.bytes() as i64);
        let address = f.iadd(at, offset);
        let id = load_element(f, buffer.dtype, address, types::F64);
        let id = as_int(f, id);
        // As unsigned numbers the negative ones are above every bound.
        let outside = f.icmp(IntCC::UnsignedGreaterThanOrEqual, id, below);
        f.return_if(outside, Failure::IdOutOfRange.code());
    });
}

/// `size_t NAME_workspace_bytes(dims)`: enough for a run with `par`; `SIZE_MAX` for dims that a run would reject.
pub fn emit_workspace_bytes(f: &mut Code, parts: &Parts) {
    let dims = f.param(0);
    let steps = parts.lowered.phase(Phase::Run).count();
    let sizes = f.stack(out::words(parts.lowered.plan.run.len(), steps));
    let code = f.call(parts.sizes, &[dims, sizes]);
    let bytes = f.load(types::I64, sizes, out::PARALLEL);
    let none = f.int(-1);
    let fine = f.icmp_imm(IntCC::Equal, code, 0);
    let bytes = f.select(fine, bytes, none);
    f.return_(&[bytes]);
}
