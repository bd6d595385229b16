//! Lowered models as text for people and for tests that compare text. There is no parser.

use crate::lowered::{Action, BufferId, Lowered, Phase, Place};
use std::fmt;

/// Numbers of a constant that are written out; of longer ones the first stand for all.
const NUMBERS_SHOWN: usize = 8;

impl fmt::Display for Lowered {
    /// Dims, buffers, steps with their tile programs, and the memory plan; several lines, the last one ended.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |b: &BufferId| match self.buffers.get(b.index()) {
            Some(buffer) => format!("%{}:{}", b.0, buffer.name),
            None => format!("%{}", b.0),
        };
        let names = |all: &[BufferId]| all.iter().map(name).collect::<Vec<_>>().join(", ");
        writeln!(f, "lowered {}({}) -> ({})", self.name, names(&self.params), names(&self.results))?;
        for d in &self.dims {
            writeln!(f, "  dim {} in {}..={}", d.name, d.low, d.high)?;
        }
        for d in &self.must_hold {
            writeln!(f, "  needs {d}")?;
        }
        for (k, b) in self.buffers.iter().enumerate() {
            let shape = b.shape.iter().map(|d| d.to_string()).collect::<Vec<_>>().join(", ");
            write!(f, "  buffer {}: {}[{shape}] ", name(&BufferId(k as u32)), b.dtype)?;
            match &b.place {
                Place::Param(k) => writeln!(f, "parameter {k}")?,
                Place::Result(k) => writeln!(f, "result {k}")?,
                Place::Weight(w) => writeln!(f, "weight {w:?}")?,
                Place::Constant(v) if v.len() <= NUMBERS_SHOWN => writeln!(f, "constant {v:?}")?,
                Place::Constant(v) => writeln!(f, "constant {:?}... of {}", &v[..NUMBERS_SHOWN], v.len())?,
                Place::Bound => writeln!(f, "bound")?,
                Place::Temporary => writeln!(f, "temporary")?,
            }
        }
        for phase in [Phase::Bind, Phase::Run] {
            let (title, slots) = match phase {
                Phase::Bind => ("bind", &self.plan.bind),
                Phase::Run => ("run", &self.plan.run),
            };
            for (k, slot) in slots.iter().enumerate() {
                writeln!(f, "  {title} slot {k}: {}", names(slot))?;
            }
            for step in self.phase(phase) {
                match &step.action {
                    Action::CheckIds { ids, below } => writeln!(f, "  {title} check ids {} < {below}", name(ids))?,
                    Action::Run { program, buffers, form, site } => {
                        writeln!(f, "  {title} {form} for {site} on {}", names(buffers))?;
                        for line in program.to_string().lines() {
                            writeln!(f, "    {line}")?;
                        }
                    }
                }
            }
        }
        Ok(())
    }
}
