//! The distinct tile programs of a lowered model: equal ones are compiled once.

use mixc_ir::lowered::{Action, Lowered};
use mixc_ir::tile::TileProgram;

/// The programs of a model, equal ones once, in the order of their first steps.
pub struct Distinct<'l> {
    /// The programs.
    pub programs: Vec<&'l TileProgram>,
    /// Which of them each step runs; nothing for steps that run none.
    pub of_steps: Vec<Option<usize>>,
}

impl Distinct<'_> {
    /// The programs of `lowered`.
    pub fn of(lowered: &Lowered) -> Distinct<'_> {
        let mut distinct = Distinct { programs: Vec::new(), of_steps: Vec::new() };
        for step in &lowered.steps {
            let Action::Run { program, .. } = &step.action else {
                distinct.of_steps.push(None);
                continue;
            };
            let known = distinct.programs.iter().position(|p| same_code(p, program));
            let k = known.unwrap_or_else(|| {
                distinct.programs.push(program);
                distinct.programs.len() - 1
            });
            distinct.of_steps.push(Some(k));
        }
        distinct
    }
}

/// Whether two programs differ in names alone.
fn same_code(a: &TileProgram, b: &TileProgram) -> bool {
    let unnamed = |p: &TileProgram| {
        (
            p.tensors.iter().map(|t| (t.dtype, t.shape.clone(), t.role)).collect::<Vec<_>>(),
            p.grid.iter().map(|g| (g.var, g.extent.clone())).collect::<Vec<_>>(),
            p.tiles.iter().map(|t| (t.ty, t.rows.clone(), t.cols.clone())).collect::<Vec<_>>(),
        )
    };
    a.body == b.body && unnamed(a) == unnamed(b)
}
