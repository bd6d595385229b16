//! When the temporaries of a phase are live, in one pass over its steps.

use mixc_ir::lowered::{Action, BufferId, Lowered, Phase, Place};
use std::collections::BTreeMap;

/// A temporary and the steps of its phase, counted from 0, between which it must keep its memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetime {
    /// The temporary.
    pub buffer: BufferId,
    /// The first step that uses it.
    pub first: usize,
    /// The last step that uses it, itself counted.
    pub last: usize,
}

impl Lifetime {
    /// Whether both are live at some step.
    pub fn overlaps(&self, other: &Lifetime) -> bool {
        self.first <= other.last && other.first <= self.last
    }
}

/// The temporaries that the steps of `phase` use, by number.
pub fn lifetimes(lowered: &Lowered, phase: Phase) -> Vec<Lifetime> {
    let mut found: BTreeMap<BufferId, Lifetime> = BTreeMap::new();
    for (step, s) in lowered.phase(phase).enumerate() {
        let buffers = match &s.action {
            Action::Run { buffers, .. } => buffers.as_slice(),
            Action::CheckIds { ids, .. } => std::slice::from_ref(ids),
        };
        for &buffer in buffers.iter().filter(|b| lowered.buffer(**b).place == Place::Temporary) {
            found.entry(buffer).or_insert(Lifetime { buffer, first: step, last: step }).last = step;
        }
    }
    found.into_values().collect()
}
