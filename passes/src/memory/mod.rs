//! The memory planner: which temporaries share memory.
//!
//! Lengths are symbolic, so a plan is not a list of offsets but of slots, each as long as its longest buffer at the
//! call; sizes at typical dims only steer the choice. Every plan passes the independent checker before it leaves.

mod greedy;
mod lifetimes;

pub use greedy::{Sized, assign};
pub use lifetimes::{Lifetime, lifetimes};

use mixc_ir::dim::DimValues;
use mixc_ir::lowered::{ALIGNMENT, BufferId, Lowered, MemoryPlan, Phase};
use mixc_ir::plan::{PlanProblem, check_plan};

/// A plan for the steps of `lowered`, chosen for the sizes at `typical` and valid at all dims. A buffer that has no
/// size there (a symbol without a value, a size beyond 64 bits) counts as the largest.
///
/// # Errors
///
/// What the checker says: the one fault of `lowered` that no plan can mend is a temporary used by both phases.
pub fn plan(lowered: &Lowered, typical: &DimValues) -> Result<MemoryPlan, Vec<PlanProblem>> {
    let slots = |phase| -> Vec<Vec<BufferId>> {
        let sized = |life: Lifetime| {
            let bytes = lowered.buffer(life.buffer).bytes(typical);
            let bytes = bytes.and_then(|n| n.checked_next_multiple_of(ALIGNMENT)).unwrap_or(u64::MAX);
            Sized { life, bytes }
        };
        assign(&lifetimes(lowered, phase).into_iter().map(sized).collect::<Vec<_>>())
    };
    let plan = MemoryPlan { run: slots(Phase::Run), bind: slots(Phase::Bind) };
    let problems = check_plan(lowered, &plan);
    if problems.is_empty() { Ok(plan) } else { Err(problems) }
}

#[cfg(test)]
mod tests;
