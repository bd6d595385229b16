//! How the statements of a program are done, for reports and tests.

use super::schedule::{Item, ItemWork, schedule};
use super::turn::prepare;
use crate::cpu::vkir::Isa;
use mixc_ir::tile::{Stmt, TileProgram};

/// How each statement of a program is done, in order: the names of its results and the kind of code, for reports and
/// tests. `depth` counts the loops around it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkReport {
    /// Results, or `store` and the tensor's name.
    pub what: String,
    /// `scalar`, `kernel`, `product`, `inner product`, `transpose`, `solve`, `in place`, `loop` or `kernel of turns`.
    pub how: &'static str,
    /// Loops around it.
    pub depth: usize,
}

/// How the statements of a program are done on an instruction set.
pub fn report(program: &TileProgram, isa: Isa) -> Vec<WorkReport> {
    let (program, mut forms) = prepare(program, isa.lanes());
    let items = schedule(&program, &mut forms, isa);
    let mut all = Vec::new();
    report_items(&program, &items, 0, &mut all);
    all
}

fn report_items(program: &TileProgram, items: &[Item], depth: usize, all: &mut Vec<WorkReport>) {
    for item in items {
        let names = item.stmts.iter().map(|s| match s {
            Stmt::Let { results, .. } => {
                let names: Vec<&str> = results.iter().map(|t| program.tile(*t).name.as_str()).collect();
                names.join(", ")
            }
            Stmt::Store { tensor, .. } => format!("store {}", program.slow(*tensor).name),
            Stmt::For { .. } => "for".to_owned(),
        });
        let how = match item.work {
            ItemWork::Group(_) => "kernel",
            ItemWork::Product(_) => "product",
            ItemWork::InnerProduct(_) => "inner product",
            ItemWork::Transpose(_) => "transpose",
            ItemWork::Solve(_) => "solve",
            ItemWork::Scalar => "scalar",
            ItemWork::InPlace => "in place",
            ItemWork::Loop(_) => "loop",
            ItemWork::Turns(_) => "kernel of turns",
        };
        all.push(WorkReport { what: names.collect::<Vec<_>>().join("; "), how, depth });
        if let ItemWork::Loop(inner) = &item.work {
            report_items(program, inner, depth + 1, all);
        }
    }
}
