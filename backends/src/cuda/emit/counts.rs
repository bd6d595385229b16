//! The counts of tiles as variables of a kernel.

use mixc_ir::expr::{Expr, Node, Var};
use mixc_ir::tile::{Extent, Stmt, TileProgram};
use std::collections::BTreeMap;

/// The counts of tiles that are not plain numbers: each is computed once, where the last of its variables gets its value.
#[derive(Default)]
pub struct Counts<'p> {
    /// The counts, by number.
    pub distinct: Vec<&'p Expr>,
    /// Those that become known with a loop's variable; with none, those of a grid point.
    pub known_with: BTreeMap<Option<Var>, Vec<usize>>,
}

impl<'p> Counts<'p> {
    /// The counts of a program.
    pub fn of(program: &'p TileProgram) -> Counts<'p> {
        let mut counts = Counts::default();
        let extents = program.tiles.iter().flat_map(|t| [&t.rows, &t.cols]);
        extents.for_each(|e| counts.add(e));
        program.for_each_stmt(&mut |s| {
            if let Stmt::Store { rows, cols, .. } = s {
                counts.add(rows);
                counts.add(cols);
            }
        });
        let mut left: Vec<usize> = (0..counts.distinct.len()).collect();
        let mut bound: Vec<Var> = program.grid.iter().map(|a| a.var).collect();
        counts.settle(None, &bound, &mut left);
        counts.walk(&program.body, &mut bound, &mut left);
        counts
    }

    fn add(&mut self, extent: &'p Extent) {
        if !extent.is_fixed() && !self.distinct.contains(&&extent.count) {
            self.distinct.push(&extent.count);
        }
    }

    /// Those of `left` that are known when the variables `bound` are.
    fn settle(&mut self, with: Option<Var>, bound: &[Var], left: &mut Vec<usize>) {
        let known = |k: &usize| {
            let mut all = true;
            self.distinct[*k].visit(&mut |e| {
                if let Node::Var(v) = e.node() {
                    all &= bound.contains(v);
                }
            });
            all
        };
        let now: Vec<usize> = left.iter().copied().filter(known).collect();
        left.retain(|k| !now.contains(k));
        self.known_with.insert(with, now);
    }

    fn walk(&mut self, body: &[Stmt], bound: &mut Vec<Var>, left: &mut Vec<usize>) {
        for stmt in body {
            if let Stmt::For { var, body, .. } = stmt {
                bound.push(*var);
                self.settle(Some(*var), bound, left);
                self.walk(body, bound, left);
                bound.pop();
            }
        }
    }

    /// A count as text: a number, or the variable that holds it.
    pub fn name(&self, extent: &Extent) -> String {
        if extent.is_fixed() {
            return extent.cap.to_string();
        }
        let k = self.distinct.iter().position(|e| **e == extent.count);
        format!("n{}", k.expect("every count of the program was collected"))
    }
}
