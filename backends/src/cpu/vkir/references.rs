//! Which registers an operation reads and writes, on a given instruction set.
//!
//! The register assignment and the builder's checks share this one table.

use super::ir::{Addr, Element, IReg, IntSource, Isa, MReg, Op, Source, Tail, VReg};

/// A register of any class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AnyReg {
    Int(IReg),
    Vector(VReg),
    Mask(MReg),
}

/// How an operation refers to a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// Read before any result is written.
    Use,
    /// Written after all operands have been read.
    Define,
    /// Written while operands may still be read: must not share a machine register with one.
    DefineEarly,
    /// Read and written in place.
    Update,
}

fn visit_addr(addr: &Addr, visit: &mut dyn FnMut(AnyReg, Access)) {
    visit(AnyReg::Int(addr.base), Access::Use);
    if let Some((index, _)) = addr.index {
        visit(AnyReg::Int(index), Access::Use);
    }
}

fn visit_source(source: &Source, visit: &mut dyn FnMut(AnyReg, Access)) {
    match source {
        Source::Reg(register) => visit(AnyReg::Vector(*register), Access::Use),
        Source::Memory(addr) | Source::Broadcast(addr) => visit_addr(addr, visit),
        Source::Const(_) => {}
    }
}

/// 32-bit lanes are masked by the mask register, and with AVX-512 all are; the others count.
fn visit_tail(tail: &Option<Tail>, element: Element, isa: Isa, visit: &mut dyn FnMut(AnyReg, Access)) {
    let Some(tail) = tail else { return };
    let by_mask = match isa {
        Isa::Avx512 { .. } => true,
        Isa::Avx2 => element == Element::F32,
        Isa::Clif => false,
    };
    if by_mask {
        visit(AnyReg::Mask(tail.mask), Access::Use);
    } else {
        visit(AnyReg::Int(tail.count), Access::Use);
    }
}

/// Calls `visit` for every register that `op` refers to when emitted for `isa`.
pub(super) fn references(op: &Op, isa: Isa, visit: &mut dyn FnMut(AnyReg, Access)) {
    use Access::{Define, DefineEarly, Update, Use};
    use AnyReg::{Int, Mask, Vector};
    match op {
        Op::Arg { dst, .. } | Op::IntConst { dst, .. } => visit(Int(*dst), Define),
        Op::IntCopy { dst, src } => {
            visit(Int(*src), Use);
            visit(Int(*dst), Define);
        }
        Op::Int { dst, a, b, .. } => {
            visit(Int(*a), Use);
            if let IntSource::Reg(b) = b {
                visit(Int(*b), Use);
            }
            visit(Int(*dst), Define);
        }
        Op::IntShift { dst, a, .. } => {
            visit(Int(*a), Use);
            visit(Int(*dst), Define);
        }
        Op::LoadInt { dst, addr, .. } => {
            visit_addr(addr, visit);
            visit(Int(*dst), Define);
        }
        Op::Const { dst, .. } | Op::Iota { dst } | Op::Lanes { dst, .. } => visit(Vector(*dst), Define),
        Op::Lookup { dst, index, low, high } => {
            visit(Vector(*index), Use);
            visit(Vector(*low), Use);
            visit(Vector(*high), Use);
            visit(Vector(*dst), Define);
        }
        Op::Copy { dst, src } => {
            visit(Vector(*src), Use);
            visit(Vector(*dst), Define);
        }
        Op::Unary { dst, a, .. } | Op::Shift { dst, a, .. } => {
            visit(Vector(*a), Use);
            visit(Vector(*dst), Define);
        }
        Op::Reduce { dst, a, .. } => {
            visit(Vector(*a), Use);
            visit(Vector(*dst), Define);
        }
        Op::Binary { dst, a, b, .. } => {
            visit(Vector(*a), Use);
            visit_source(b, visit);
            visit(Vector(*dst), Define);
        }
        Op::Fma { dst, a, b, .. } | Op::DotBf16 { dst, a, b } => {
            visit(Vector(*a), Use);
            visit_source(b, visit);
            visit(Vector(*dst), Update);
        }
        Op::Scale2 { dst, a, n, .. } => {
            visit(Vector(*a), Use);
            visit(Vector(*n), Use);
            visit(Vector(*dst), Define);
        }
        Op::Compare { dst, a, b, .. } => {
            visit(Vector(*a), Use);
            visit_source(b, visit);
            visit(Mask(*dst), Define);
        }
        Op::FirstLanes { dst, count } => {
            visit(Int(*count), Use);
            visit(Mask(*dst), Define);
        }
        Op::Mask { dst, a, b, .. } => {
            visit(Mask(*a), Use);
            visit(Mask(*b), Use);
            visit(Mask(*dst), Define);
        }
        Op::MaskNot { dst, a } => {
            visit(Mask(*a), Use);
            visit(Mask(*dst), Define);
        }
        Op::Select { dst, mask, a, b } => {
            visit(Mask(*mask), Use);
            visit(Vector(*a), Use);
            visit(Vector(*b), Use);
            visit(Vector(*dst), Define);
        }
        Op::Transpose { rows } | Op::LaneSums { rows } => {
            for row in rows {
                visit(Vector(*row), Update);
            }
        }
        Op::Load { dst, addr, element, tail } => {
            visit_addr(addr, visit);
            visit_tail(tail, *element, isa, visit);
            visit(Vector(*dst), Define);
        }
        Op::Store { src, addr, element, tail } => {
            visit(Vector(*src), Use);
            visit_addr(addr, visit);
            visit_tail(tail, *element, isa, visit);
        }
        Op::Broadcast { dst, addr, .. } => {
            visit_addr(addr, visit);
            visit(Vector(*dst), Define);
        }
        Op::StoreLane { src, addr, .. } | Op::StoreStream { src, addr } => {
            visit(Vector(*src), Use);
            visit_addr(addr, visit);
        }
        Op::LoadStrided { dst, addr, stride, limit, .. } => {
            visit_addr(addr, visit);
            visit(Int(*stride), Use);
            if let Some(limit) = limit {
                visit(Int(*limit), Use);
            }
            visit(Vector(*dst), DefineEarly);
        }
        Op::StoreStrided { src, addr, stride, limit, .. } => {
            visit(Vector(*src), Use);
            visit_addr(addr, visit);
            visit(Int(*stride), Use);
            if let Some(limit) = limit {
                visit(Int(*limit), Use);
            }
        }
        Op::Prefetch { addr } => visit_addr(addr, visit),
    }
}
