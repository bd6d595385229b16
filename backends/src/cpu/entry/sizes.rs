//! The lengths and sizes of a call: checked once, before anything is read.
//!
//! `fn(dims, out) -> code` fills `out`, words of eight bytes: see [`out`].

use crate::cpu::abi::Failure;
use crate::cpu::body::SLICES;
use crate::cpu::code::Code;
use crate::cpu::expression::{Emitter, Scope, ceil_div};
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{Value, types};
use mixc_ir::dim::{Atom, Dim};
use mixc_ir::lowered::{ALIGNMENT, Action, Lowered, Phase, Place};

/// What the function writes.
pub mod out {
    /// Bytes of workspace of a serial run.
    pub const SERIAL: i32 = 0;
    /// Bytes of workspace of a parallel run.
    pub const PARALLEL: i32 = 8;
    /// Where the scratch memory starts in the workspace.
    pub const SCRATCH: i32 = 16;
    /// Where each slot starts; then the grid points of each step of the run phase.
    pub const SLOTS: i32 = 24;

    /// Words in all.
    pub fn words(slots: usize, steps: usize) -> usize {
        SLOTS as usize / 8 + slots + steps
    }
}

/// Arithmetic that notes when it leaves its range.
struct Checked {
    overflow: Value,
    bad: Value,
}

impl Checked {
    fn mul(&mut self, f: &mut Code, a: Value, b: Value) -> Value {
        let (low, high) = (f.imul(a, b), f.smulhi(a, b));
        let sign = f.sshr_imm(low, 63);
        let lost = f.icmp(IntCC::NotEqual, high, sign);
        self.overflow = f.bor(self.overflow, lost);
        low
    }

    fn add(&mut self, f: &mut Code, a: Value, b: Value) -> Value {
        let sum = f.iadd(a, b);
        let (x, y) = (f.bxor(a, sum), f.bxor(b, sum));
        let both = f.band(x, y);
        let lost = f.icmp_imm(IntCC::SignedLessThan, both, 0);
        self.overflow = f.bor(self.overflow, lost);
        sum
    }

    fn dim(&mut self, f: &mut Code, scope: &Scope, dim: &Dim) -> Value {
        if let Some(known) = scope.dims.get(dim) {
            return *known;
        }
        let mut sum = f.int(0);
        for (product, c) in dim.terms() {
            let mut value = f.int(c);
            for atom in product {
                let factor = match atom {
                    Atom::Symbol(s) => scope.symbols.get(s).copied().unwrap_or(value),
                    Atom::Exact(d, n) => {
                        let d = self.dim(f, scope, d);
                        let n = f.int(*n);
                        let rest = f.srem(d, n);
                        let broken = f.icmp_imm(IntCC::NotEqual, rest, 0);
                        self.bad = f.bor(self.bad, broken);
                        f.sdiv(d, n)
                    }
                    Atom::Ceil(d, n) => {
                        let d = self.dim(f, scope, d);
                        ceil_div(f, d, *n)
                    }
                };
                value = self.mul(f, value, factor);
            }
            sum = self.add(f, sum, value);
        }
        sum
    }

    /// A length: not negative.
    fn length(&mut self, f: &mut Code, scope: &mut Scope, dim: &Dim) -> Value {
        if let Some(known) = scope.dims.get(dim) {
            return *known;
        }
        let value = self.dim(f, scope, dim);
        let negative = f.icmp_imm(IntCC::SignedLessThan, value, 0);
        self.bad = f.bor(self.bad, negative);
        scope.dims.insert(dim.clone(), value);
        value
    }

    fn aligned(&mut self, f: &mut Code, bytes: Value) -> Value {
        let more = f.int(ALIGNMENT as i64 - 1);
        let up = self.add(f, bytes, more);
        f.band_imm(up, -(ALIGNMENT as i64))
    }
}

/// Bytes of each buffer that the run phase knows, in the order of the model's buffers.
fn buffer_bytes(f: &mut Code, checked: &mut Checked, scope: &mut Scope, lowered: &Lowered) -> Vec<Value> {
    let mut all = Vec::new();
    for buffer in &lowered.buffers {
        let mut bytes = f.int(buffer.dtype.bytes() as i64);
        // A weight's bytes belong to the bind phase; its lengths are constants.
        if !matches!(buffer.place, Place::Weight(_)) {
            for d in &buffer.shape {
                let length = checked.length(f, scope, d);
                bytes = checked.mul(f, bytes, length);
            }
        }
        all.push(bytes);
    }
    all
}

/// Writes the function's body. `scratch` is the bytes of scratch memory that one slice of any run step needs.
pub fn emit(f: &mut Code, lowered: &Lowered, scratch: usize) {
    let (dims, results) = (f.param(0), f.param(1));
    let mut scope = Scope::default();
    if !lowered.dims.is_empty() {
        let null = f.icmp_imm(IntCC::Equal, dims, 0);
        f.return_if(null, Failure::Null.code());
    }
    for (k, item) in lowered.dims.iter().enumerate() {
        let value = f.load(types::I64, dims, 8 * k as i32);
        scope.symbols.insert(item.name.clone(), value);
        let (low, high) = (f.int(item.low), f.int(item.high));
        let below = f.icmp(IntCC::SignedLessThan, value, low);
        let above = f.icmp(IntCC::SignedGreaterThan, value, high);
        let outside = f.bor(below, above);
        f.return_if(outside, Failure::DimOutOfBounds.code());
    }
    let no = f.bool(false);
    let mut checked = Checked { overflow: no, bad: no };
    for d in &lowered.must_hold {
        checked.length(f, &mut scope, d);
    }
    let bytes = buffer_bytes(f, &mut checked, &mut scope, lowered);
    let (bad, overflow) = (checked.bad, checked.overflow);
    f.return_if(bad, Failure::BadLength.code());
    f.return_if(overflow, Failure::Overflow.code());

    let mut total = f.int(0);
    for (k, slot) in lowered.plan.run.iter().enumerate() {
        f.store(total, results, out::SLOTS + 8 * k as i32);
        let mut longest = f.int(0);
        for b in slot {
            longest = f.smax(longest, bytes[b.index()]);
        }
        let longest = checked.aligned(f, longest);
        total = checked.add(f, total, longest);
    }
    f.store(total, results, out::SCRATCH);
    let mut most_slices = f.int(1);
    let first = out::SLOTS + 8 * lowered.plan.run.len() as i32;
    for (k, step) in lowered.phase(Phase::Run).enumerate() {
        let points = match &step.action {
            Action::CheckIds { .. } => f.int(1),
            Action::Run { program, .. } => {
                let mut points = f.int(1);
                for axis in &program.grid {
                    let extent = Emitter::new(&scope, types::F64).int(f, &axis.extent);
                    let zero = f.int(0);
                    let extent = f.smax(extent, zero);
                    points = checked.mul(f, points, extent);
                }
                points
            }
        };
        f.store(points, results, first + 8 * k as i32);
        let most = f.int(SLICES);
        let slices = f.smin(points, most);
        most_slices = f.smax(most_slices, slices);
    }
    let one = f.int(scratch as i64);
    let serial = checked.add(f, total, one);
    let all = checked.mul(f, most_slices, one);
    let parallel = checked.add(f, total, all);
    let overflow = checked.overflow;
    f.return_if(overflow, Failure::Overflow.code());
    f.store(serial, results, out::SERIAL);
    f.store(parallel, results, out::PARALLEL);
    let fine = f.int_of(types::I32, 0);
    f.return_(&[fine]);
}
