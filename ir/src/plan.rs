//! Memory plans: the checker that every plan must pass, and sizes at given dims.
//!
//! The checker shares nothing with the planners: it recomputes lifetimes from the steps in the most naive way. A buffer
//! lives from the first to the last step that mentions it, both counted, so a step never reads and writes one slot.

use crate::dim::DimValues;
use crate::lowered::{ALIGNMENT, Action, BufferId, Lowered, MemoryPlan, Phase, Place, Step};
use std::fmt;

/// What is wrong with a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are the buffers and the phase that the variant speaks of")]
pub enum PlanProblem {
    /// Two buffers of one slot are live at the same step.
    Overlap { phase: Phase, a: BufferId, b: BufferId },
    /// A temporary of the phase is in no slot.
    Missing { phase: Phase, buffer: BufferId },
    /// A buffer stands in more than one place.
    Twice { phase: Phase, buffer: BufferId },
    /// A buffer in a slot is no temporary of the phase.
    Foreign { phase: Phase, buffer: BufferId },
    /// A temporary is used by both phases.
    BothPhases { buffer: BufferId },
}

impl fmt::Display for PlanProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PlanProblem::Overlap { phase, a, b } => write!(f, "{phase:?}: %{} and %{} are live together", a.0, b.0),
            PlanProblem::Missing { phase, buffer } => write!(f, "{phase:?}: %{} has no slot", buffer.0),
            PlanProblem::Twice { phase, buffer } => write!(f, "{phase:?}: %{} has two places", buffer.0),
            PlanProblem::Foreign { phase, buffer } => write!(f, "{phase:?}: %{} is no temporary here", buffer.0),
            PlanProblem::BothPhases { buffer } => write!(f, "%{} is used in both phases", buffer.0),
        }
    }
}

/// The buffers that a step reads or writes.
fn mentioned(step: &Step) -> &[BufferId] {
    match &step.action {
        Action::Run { buffers, .. } => buffers,
        Action::CheckIds { ids, .. } => std::slice::from_ref(ids),
    }
}

/// First and last step of the phase that mention the buffer.
fn lifetime(lowered: &Lowered, phase: Phase, b: BufferId) -> Option<(usize, usize)> {
    let mut steps = lowered.phase(phase).enumerate().filter(|(_, s)| mentioned(s).contains(&b)).map(|(k, _)| k);
    let first = steps.next()?;
    Some((first, steps.last().unwrap_or(first)))
}

/// The temporaries that a phase uses, with the first and the last of its steps that mention them.
pub fn temporaries(lowered: &Lowered, phase: Phase) -> Vec<(BufferId, (usize, usize))> {
    let all = (0..lowered.buffers.len() as u32).map(BufferId);
    all.filter(|b| lowered.buffer(*b).place == Place::Temporary)
        .filter_map(|b| Some((b, lifetime(lowered, phase, b)?)))
        .collect()
}

/// The slots of a phase.
pub fn slots(plan: &MemoryPlan, phase: Phase) -> &[Vec<BufferId>] {
    match phase {
        Phase::Bind => &plan.bind,
        Phase::Run => &plan.run,
    }
}

/// Everything wrong with `plan` for the steps of `lowered`; nothing when it is valid at all dims.
pub fn check_plan(lowered: &Lowered, plan: &MemoryPlan) -> Vec<PlanProblem> {
    let mut problems = Vec::new();
    for phase in [Phase::Bind, Phase::Run] {
        let live = temporaries(lowered, phase);
        let of = |b: BufferId| live.iter().find(|(t, _)| *t == b).map(|(_, l)| *l);
        for (buffer, _) in &live {
            let places = slots(plan, phase).iter().flatten().filter(|b| *b == buffer).count();
            match places {
                0 => problems.push(PlanProblem::Missing { phase, buffer: *buffer }),
                1 => {}
                _ => problems.push(PlanProblem::Twice { phase, buffer: *buffer }),
            }
            if phase == Phase::Run && lifetime(lowered, Phase::Bind, *buffer).is_some() {
                problems.push(PlanProblem::BothPhases { buffer: *buffer });
            }
        }
        for slot in slots(plan, phase) {
            for (k, &a) in slot.iter().enumerate() {
                let Some((a_first, a_last)) = of(a) else {
                    problems.push(PlanProblem::Foreign { phase, buffer: a });
                    continue;
                };
                for &b in &slot[..k] {
                    if of(b).is_some_and(|(first, last)| first <= a_last && a_first <= last) {
                        problems.push(PlanProblem::Overlap { phase, a: b, b: a });
                    }
                }
            }
        }
    }
    problems
}

/// Where each slot of a phase starts, and the length of the whole workspace, in bytes: a slot is as long as its longest
/// buffer at `dims`. `None` when a length has no value or the sum leaves the 64-bit range.
pub fn layout(lowered: &Lowered, phase: Phase, dims: &DimValues) -> Option<(Vec<u64>, u64)> {
    let mut starts = Vec::new();
    let mut end = 0u64;
    for slot in slots(&lowered.plan, phase) {
        starts.push(end);
        let mut length = 0;
        for b in slot {
            length = length.max(lowered.buffers.get(b.index())?.bytes(dims)?);
        }
        end = end.checked_add(length.checked_next_multiple_of(ALIGNMENT)?)?;
    }
    Some((starts, end))
}

/// The most bytes of temporaries that are live at one step of the phase: no plan for these steps needs less. `None` as
/// for [`layout`].
pub fn max_live_bytes(lowered: &Lowered, phase: Phase, dims: &DimValues) -> Option<u64> {
    let live = temporaries(lowered, phase);
    let mut most = 0;
    for step in 0..lowered.phase(phase).count() {
        let mut sum = 0u64;
        for (b, (first, last)) in &live {
            if (*first..=*last).contains(&step) {
                let bytes = lowered.buffer(*b).bytes(dims)?.checked_next_multiple_of(ALIGNMENT)?;
                sum = sum.checked_add(bytes)?;
            }
        }
        most = most.max(sum);
    }
    Some(most)
}
