//! The memory of bound weights: what is kept there, and what the bind phase uses beside it.

use crate::cpu::abi;
use crate::cpu::module::CodeError;
use mixc_ir::dim::DimValues;
use mixc_ir::dtype::DType;
use mixc_ir::lowered::{Action, BufferId, Lowered, Phase, Place, aligned};
use std::collections::BTreeMap;

/// Bytes before the bound weights: the mark that says which model bound them.
pub const WEIGHTS_HEADER: u64 = 64;

/// Offsets in the memory of bound weights, which is known when the model is compiled.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// Whether there is anything to bind.
    pub binds: bool,
    /// Kept for the run phase: bound buffers, and copies of weights that the run phase reads.
    pub bound: BTreeMap<BufferId, u64>,
    /// Bytes up to here are what the run phase needs.
    pub bound_bytes: u64,
    /// Temporaries of the bind phase.
    pub temporaries: BTreeMap<BufferId, u64>,
    /// Where weights that are stored in halves are widened, before the step that reads them: one area for each step.
    pub widened: Vec<BTreeMap<BufferId, u64>>,
    /// Scratch memory of the bind phase.
    pub bind_scratch_at: u64,
    /// Bytes in all.
    pub total: u64,
    /// Bytes of scratch memory of a slice of the run phase.
    pub scratch: usize,
    /// First word of bound weights.
    pub mark: i64,
}

fn unsupported(what: String) -> CodeError {
    CodeError::Module(what)
}

/// FNV-1a (Fowler, Noll, Vo), 64 bits.
fn fnv(bytes: impl Iterator<Item = u8>) -> u64 {
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, b| (hash ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3))
}

impl Plan {
    /// Lays out what `lowered` binds. `run_scratch` and `bind_scratch` are bytes of a slice of each phase.
    pub fn new(lowered: &Lowered, run_scratch: usize, bind_scratch: usize) -> Result<Plan, CodeError> {
        let mut plan = Plan { binds: abi::needs_binding(lowered), scratch: run_scratch, ..Plan::default() };
        let none = DimValues::new();
        let bytes_of = |id: BufferId| -> Result<u64, CodeError> {
            let buffer = lowered.buffer(id);
            let what = || unsupported(format!("the bind phase needs the length of `{}`", buffer.name));
            buffer.bytes(&none).filter(|b| *b < 1 << 48).ok_or_else(what)
        };
        let mut end = WEIGHTS_HEADER;
        let used_in_run = run_buffers(lowered);
        for (k, buffer) in lowered.buffers.iter().enumerate() {
            let id = BufferId(k as u32);
            let keep = match buffer.place {
                Place::Bound => true,
                Place::Weight(_) => used_in_run.contains(&id),
                _ => false,
            };
            if keep {
                plan.bound.insert(id, end);
                end += aligned(bytes_of(id)?);
            }
        }
        plan.bound_bytes = end;
        for slot in &lowered.plan.bind {
            let mut longest = 0;
            for b in slot {
                longest = longest.max(bytes_of(*b)?);
                plan.temporaries.insert(*b, end);
            }
            end += aligned(longest);
        }
        let area = end;
        for step in lowered.phase(Phase::Bind) {
            let mut widened = BTreeMap::new();
            let mut at = area;
            if let Action::Run { buffers, .. } = &step.action {
                for id in buffers {
                    let buffer = lowered.buffer(*id);
                    if matches!(buffer.place, Place::Weight(_)) && buffer.dtype == DType::F32 {
                        widened.insert(*id, at);
                        at += aligned(bytes_of(*id)?);
                    }
                }
            }
            end = end.max(at);
            plan.widened.push(widened);
        }
        plan.bind_scratch_at = end;
        plan.total = end + aligned(bind_scratch as u64);
        let text = format!("{} {:?} {:?}", lowered.name, plan.bound, names(lowered));
        plan.mark = fnv(text.bytes()) as i64;
        for (phase, slots) in [(Phase::Run, &lowered.plan.run), (Phase::Bind, &lowered.plan.bind)] {
            check_temporaries(lowered, phase, slots)?;
        }
        Ok(plan)
    }
}

fn names(lowered: &Lowered) -> Vec<(&str, DType)> {
    lowered.buffers.iter().map(|b| (b.name.as_str(), b.dtype)).collect()
}

/// Buffers that the run phase touches.
fn run_buffers(lowered: &Lowered) -> Vec<BufferId> {
    let mut all = Vec::new();
    for step in lowered.phase(Phase::Run) {
        match &step.action {
            Action::Run { buffers, .. } => all.extend(buffers),
            Action::CheckIds { ids, .. } => all.push(*ids),
        }
    }
    all
}

/// Every temporary of a phase needs a slot, every buffer the right number.
fn check_temporaries(lowered: &Lowered, phase: Phase, slots: &[Vec<BufferId>]) -> Result<(), CodeError> {
    for step in lowered.phase(phase) {
        let Action::Run { program, buffers, .. } = &step.action else { continue };
        if program.tensors.len() != buffers.len() {
            return Err(unsupported(format!("`{}` is given another number of buffers than it has", program.name)));
        }
        for id in buffers {
            let buffer = lowered
                .buffers
                .get(id.index())
                .ok_or_else(|| unsupported(format!("`{}` is given a buffer that is not there", program.name)))?;
            let placed = match buffer.place {
                Place::Temporary => slots.iter().any(|s| s.contains(id)),
                Place::Param(_) | Place::Result(_) => phase == Phase::Run,
                _ => true,
            };
            if !placed {
                return Err(unsupported(format!("`{}` has no memory in its phase", buffer.name)));
            }
        }
    }
    Ok(())
}
