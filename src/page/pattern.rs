//! The support of an operator as a small picture, and its structure in words.

use super::html::escape;
use mixc_ir::dim::{Dim, DimValues};
use mixc_ir::expr::{COL, Expr, Node, ROW, Scalar};
use mixc_ir::program::{Program, ValueId};
use mixc_ir::support::{Condition, Position, Structure, Support, SupportContext};
use mixc_ir::ty::MixType;
use std::fmt::Write;

/// Cells along an axis of the picture.
const CELLS: i64 = 24;
/// Elements looked at along an axis of a cell.
const SAMPLES: i64 = 8;

/// What is in a cell.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Cell {
    /// Quarters of the looked-at elements that may be present, rounded up.
    quarters: u8,
    /// Whether data decides which of them are.
    by_data: bool,
}

/// The picture: rows of the matrix downwards, its columns to the right.
pub fn picture(support: &Support, ty: &MixType, dims: &DimValues) -> String {
    let length = |d: &Dim| d.eval(dims).unwrap_or(0).max(0);
    let (rows, cols) = (length(&ty.rows), length(&ty.cols));
    let regions = regions(support, ty);
    let (down, across) = (rows.min(CELLS), cols.min(CELLS));
    let label = format!("support of a {rows} by {cols} matrix");
    let mut out = format!(
        "<svg class=\"grid\" role=\"img\" aria-label=\"{label}\" viewBox=\"0 0 {} {}\" preserveAspectRatio=\"none\">",
        across.max(1),
        down.max(1)
    );
    for r in 0..down {
        let line: Vec<Cell> =
            (0..across).map(|c| cell(&regions, dims, span(r, down, rows), span(c, across, cols))).collect();
        // Runs of equal cells are one rectangle.
        let mut c = 0;
        while c < line.len() {
            let end = (c..line.len()).find(|k| line[*k] != line[c]).unwrap_or(line.len());
            if line[c].quarters > 0 {
                let (class, data) = (line[c].quarters, if line[c].by_data { " data" } else { "" });
                let _ = write!(
                    out,
                    "<rect x=\"{c}\" y=\"{r}\" width=\"{}\" height=\"1\" class=\"q{class}{data}\"/>",
                    end - c
                );
            }
            c = end;
        }
    }
    out.push_str("</svg>");
    out
}

/// The elements of cell `k` of `cells` along an axis.
fn span(k: i64, cells: i64, length: i64) -> (i64, i64) {
    (k * length / cells, (k + 1) * length / cells)
}

/// Of every region the conditions that are known, and whether data decides further.
fn regions(support: &Support, ty: &MixType) -> Vec<(Vec<Expr>, bool)> {
    let element = |_: ValueId, _: &[Expr]| Expr::load(mixc_ir::expr::SlowId(0), Vec::new());
    let cx = SupportContext {
        row: Expr::from(ROW),
        col: Expr::from(COL),
        rows: Expr::from(&ty.rows),
        cols: Expr::from(&ty.cols),
        element: &element,
    };
    let reads = |e: &Expr| {
        let mut found = false;
        e.visit(&mut |e| found |= matches!(e.node(), Node::Load(_)));
        found
    };
    let split = |region: &Vec<Condition>| {
        let all: Vec<Option<Expr>> = region.iter().map(|c| c.expr(&cx).filter(|e| !reads(e))).collect();
        let by_data = all.iter().any(Option::is_none);
        (all.into_iter().flatten().collect(), by_data)
    };
    support.regions.iter().map(split).collect()
}

fn cell(regions: &[(Vec<Expr>, bool)], dims: &DimValues, rows: (i64, i64), cols: (i64, i64)) -> Cell {
    let looked_at = |(from, to): (i64, i64)| {
        let n = (to - from).clamp(1, SAMPLES);
        (0..n).map(move |k| from + k * (to - from) / n)
    };
    let (mut present, mut sure, mut all) = (0usize, false, 0usize);
    for i in looked_at(rows) {
        for j in looked_at(cols) {
            all += 1;
            let mut leaf = |n: &Node| match n {
                Node::Var(ROW) => Scalar::Int(i),
                Node::Var(COL) => Scalar::Int(j),
                _ => Scalar::Int(0),
            };
            let mut inside = |region: &[Expr]| region.iter().all(|e| e.eval(dims, &mut leaf).as_bool());
            let found: Vec<bool> = regions.iter().filter(|(known, _)| inside(known)).map(|(_, data)| *data).collect();
            present += usize::from(!found.is_empty());
            sure |= found.contains(&false);
        }
    }
    Cell { quarters: (4 * present).div_ceil(all.max(1)) as u8, by_data: present > 0 && !sure }
}

/// What is known of the operator, a sentence each, as HTML.
pub fn words(program: &Program, ty: &MixType, structure: &Structure, dims: &DimValues) -> Vec<String> {
    let size = |d: &Dim| match d.eval(dims) {
        Ok(n) if d.as_constant().is_none() => format!("{d} = {n}"),
        _ => d.to_string(),
    };
    let mut out = vec![format!("{} by {}", size(&ty.rows), size(&ty.cols))];
    if !ty.batch.is_empty() {
        let batch: Vec<String> = ty.batch.iter().map(size).collect();
        out.push(format!("one for each of {}", batch.join(" × ")));
    }
    out.push(format!("present where {}", support_words(program, &structure.support)));
    if let Some(rank) = &structure.rank {
        let where_present = if structure.support.is_full() { "" } else { " in every block without absent elements" };
        out.push(format!("rank at most {rank}{where_present}"));
    }
    if structure.toeplitz {
        out.push("depends on i − j alone (Toeplitz)".into());
    }
    if structure.non_negative {
        out.push("no element is negative".into());
    }
    out.iter().map(|s| escape(s)).collect()
}

fn support_words(program: &Program, support: &Support) -> String {
    if support.regions.is_empty() {
        return "nowhere".into();
    }
    let region = |r: &Vec<Condition>| match r.as_slice() {
        [] => "everywhere".to_string(),
        all => all.iter().map(|c| condition_words(program, c)).collect::<Vec<_>>().join(" and "),
    };
    support.regions.iter().map(region).collect::<Vec<_>>().join(", or ")
}

fn condition_words(program: &Program, c: &Condition) -> String {
    let position = |at: &Position| match at {
        Position::Row => "i".to_string(),
        Position::End => "i + S − T".to_string(),
        Position::Lengths(n) => format!("i + {} − T", program.name_of(*n)),
    };
    let moved = |at: &Position, by: &Dim| match by.as_constant() {
        Some(0) => position(at),
        Some(n) if n < 0 => format!("{} − {}", position(at), n.unsigned_abs()),
        _ => format!("{} + {by}", position(at)),
    };
    match c {
        Condition::AtMost { by, at } => format!("j ≤ {}", moved(at, by)),
        Condition::AtLeast { by, at } => format!("j ≥ {}", moved(at, by)),
        Condition::SameBlock { size, at } => format!("{} and j lie in one block of {size}", position(at)),
        Condition::Dilated { step, at } => format!("{} − j is a multiple of {step}", position(at)),
        Condition::FirstColumns(count) => format!("j < {count}"),
        Condition::Lengths(n) => format!("j < {}", program.name_of(*n)),
        Condition::Segments(s) => format!("{0}[i] = {0}[j]", program.name_of(*s)),
        Condition::Blocks { mask, rows, cols } => {
            format!("{} marks the {rows} by {cols} block of (i, j)", program.name_of(*mask))
        }
        Condition::Marked(m) => format!("{} marks (i, j)", program.name_of(*m)),
        Condition::Diagonal { rows, cols } => format!("(i, j) lies in a diagonal block of {rows} by {cols}"),
        Condition::Permuted { stride, count } => format!("j = (i mod {count}) {stride} + ⌊i / {count}⌋"),
        Condition::Stages { cols, inner, outer } => {
            format!("two stages of blocks join i and j: {cols} columns, {inner} places, {outer} blocks")
        }
        Condition::Transposed(c) => format!("with i and j exchanged {}", condition_words(program, c)),
        Condition::Data => "the data says so".into(),
    }
}
