//! Which axis of every tile is lanes, and which tiles need no memory of their own.

use super::affine::{Frame, other, varies};
use super::inner;
use super::outputs;
use super::turns;
use crate::cpu::storage::Layout;
use crate::cpu::vkir::Element;
use mixc_ir::dtype::DType;
use mixc_ir::expr::{Expr, Node, Pick, SlowId, TileId};
use mixc_ir::tile::{Axis, Matrix, Role, Stmt, TileOp, TileProgram, TileType};

/// How a tile is kept.
#[derive(Clone, Debug, PartialEq)]
pub enum TileForm {
    /// In fast memory, dense rows, no vectors.
    Plain,
    /// In fast memory, elements along this axis side by side, padded to whole vectors.
    Lanes(Axis),
    /// Seen by one kernel alone, in registers.
    Register,
    /// Read where it lies in slow memory: a tensor, the index of the element (0, 0), and bytes along rows and columns.
    Slow {
        /// The tensor.
        tensor: SlowId,
        /// Index of the element (0, 0).
        origin: Vec<Expr>,
        /// Bytes from a row to the next.
        row_stride: i64,
        /// Bytes from a column to the next.
        col_stride: i64,
        /// What it holds.
        dtype: DType,
    },
}

/// The forms of all tiles of a program.
#[derive(Clone, Debug)]
pub struct Forms {
    /// By tile.
    pub tiles: Vec<TileForm>,
    /// Tiles whose memory is padded to whole vectors along both axes.
    pub square: Vec<bool>,
    /// Lanes of a vector.
    pub width: usize,
}

impl Forms {
    /// The lane axis of a tile that has one.
    pub fn lane(&self, t: TileId) -> Option<Axis> {
        match self.tiles[t.0 as usize] {
            TileForm::Lanes(axis) => Some(axis),
            _ => None,
        }
    }

    /// The axis along which a product makes its result, in fast memory or where it is stored.
    pub fn product_lane(&self, t: TileId) -> Option<Axis> {
        match self.tiles[t.0 as usize] {
            TileForm::Slow { col_stride: 4, .. } => Some(Axis::Cols),
            TileForm::Slow { row_stride: 4, .. } => Some(Axis::Rows),
            _ => self.lane(t),
        }
    }

    /// The layout of a tile that takes memory.
    pub fn layout(&self, program: &TileProgram, t: TileId) -> Option<Layout> {
        let tile = program.tile(t);
        let (rows, cols, bytes) = (tile.rows.cap, tile.cols.cap, tile.ty.bytes());
        let whole = |n: usize| n.div_ceil(self.width) * self.width;
        let padded = |n: usize| whole(n) * bytes;
        let across = |n: usize| if self.square[t.0 as usize] { whole(n) } else { n };
        match self.tiles[t.0 as usize] {
            TileForm::Plain => Some(Layout { row_stride: cols * bytes, col_stride: bytes, bytes: rows * cols * bytes }),
            TileForm::Lanes(Axis::Cols) => {
                let row_stride = padded(cols);
                Some(Layout { row_stride, col_stride: bytes, bytes: across(rows) * row_stride })
            }
            TileForm::Lanes(Axis::Rows) => {
                let col_stride = padded(rows);
                Some(Layout { row_stride: bytes, col_stride, bytes: across(cols) * col_stride })
            }
            TileForm::Slow { .. } | TileForm::Register => None,
        }
    }

    /// How an element of an f32 tile is kept.
    pub fn element(&self, t: TileId) -> Element {
        match self.half(t) {
            Some(DType::BF16) => Element::Bf16,
            Some(DType::F16) => Element::F16,
            _ => Element::F32,
        }
    }

    /// The type of the tensor in which a tile lies, where that is of half precision.
    pub fn half(&self, t: TileId) -> Option<DType> {
        match self.tiles[t.0 as usize] {
            TileForm::Slow { dtype, .. } if dtype != DType::F32 => Some(dtype),
            _ => None,
        }
    }

    /// Whether elements of a tile lie side by side along an axis.
    pub fn is_contiguous(&self, program: &TileProgram, t: TileId, axis: Axis) -> bool {
        let (row, col) = self.strides(program, t);
        (if axis == Axis::Rows { row } else { col }) == self.element(t).bytes() as i64
    }

    /// Bytes along rows and columns.
    pub fn strides(&self, program: &TileProgram, t: TileId) -> (i64, i64) {
        match &self.tiles[t.0 as usize] {
            TileForm::Slow { row_stride, col_stride, .. } => (*row_stride, *col_stride),
            _ => self.layout(program, t).map_or((0, 0), |l| (l.row_stride as i64, l.col_stride as i64)),
        }
    }
}

/// A dot's matrices with transposes resolved: which axis of the tile is which.
pub fn axis_of(m: Matrix, axis: Axis) -> Axis {
    if m.transposed { other(axis) } else { axis }
}

/// What a statement wants of the lane axes, and what it costs when it does not get it.
struct Problem<'p> {
    program: &'p TileProgram,
    width: usize,
    /// Group of tiles that must agree, by tile; `None` for tiles without vectors.
    variable: Vec<Option<usize>>,
    /// Statements with the number of times that they run, as a guess.
    statements: Vec<(&'p Stmt, f64)>,
}

/// A loop is taken to turn this often.
const TURNS: f64 = 8.0;

fn root(parent: &mut [usize], mut k: usize) -> usize {
    while parent[k] != k {
        parent[k] = parent[parent[k]];
        k = parent[k];
    }
    k
}

fn collect<'p>(body: &'p [Stmt], weight: f64, all: &mut Vec<(&'p Stmt, f64)>, parent: &mut [usize]) {
    for stmt in body {
        all.push((stmt, weight));
        if let Stmt::For { carry, body, .. } = stmt {
            for c in carry {
                for t in [c.inside, c.next, c.result] {
                    let (a, b) = (root(parent, c.init.0 as usize), root(parent, t.0 as usize));
                    parent[b.max(a)] = a.min(b);
                }
            }
            collect(body, weight * TURNS, all, parent);
        }
    }
}

/// A tile that is a plain read of a tensor of at most 32 bits, at constant strides.
fn slow_form(program: &TileProgram, value: &Expr) -> Option<TileForm> {
    let Node::Load(load) = value.node() else { return None };
    let tensor = program.slow(load.tensor);
    let dtype = tensor.dtype;
    let is_real = matches!(dtype, DType::F32 | DType::F16 | DType::BF16);
    if load.guard.is_some() || !is_real || tensor.role != Role::Input {
        return None;
    }
    let access = Frame { lane: Axis::Cols, by_rows: false }.access(program, load.tensor, &load.index)?;
    let (row, col) = (access.other.as_int()?, access.lane.as_int()?);
    let bytes = |n: i64| n.checked_mul(dtype.bytes() as i64).filter(|n| i32::try_from(*n).is_ok());
    Some(TileForm::Slow {
        tensor: load.tensor,
        origin: access.origin,
        row_stride: bytes(row)?,
        col_stride: bytes(col)?,
        dtype,
    })
}

impl Problem<'_> {
    fn size(&self, t: TileId) -> f64 {
        let tile = self.program.tile(t);
        (tile.rows.cap * tile.cols.cap) as f64
    }

    fn lane(&self, lanes: &[Axis], t: TileId) -> Option<Axis> {
        self.variable[t.0 as usize].map(|v| lanes[v])
    }

    /// Elements that an expression reads across the lanes, when these run along `lane`.
    fn across(&self, lanes: &[Axis], e: &Expr, lane: Axis, elements: f64) -> f64 {
        let mut cost = 0.0;
        let frame = Frame { lane, by_rows: false };
        e.visit(&mut |e| match e.node() {
            Node::Tile(t, Pick::Row, Pick::Col) if self.lane(lanes, *t).is_some_and(|l| l != lane) => {
                cost += 3.0 * elements;
            }
            Node::Load(load) => {
                let access = frame.listed_access(self.program, load.tensor, &load.index);
                match access.map(|(a, _)| a.lane.as_int()) {
                    Some(Some(0 | 1)) => {}
                    Some(_) => cost += 2.0 * elements,
                    None => {
                        if load.index.iter().any(|i| varies(i, lane) && frame.affine(i).is_none()) {
                            cost += 6.0 * elements;
                        }
                    }
                }
            }
            _ => {}
        });
        cost
    }

    fn statement(&self, lanes: &[Axis], stmt: &Stmt) -> f64 {
        let cap = |t: TileId, axis: Axis| {
            let tile = self.program.tile(t);
            if axis == Axis::Rows { tile.rows.cap } else { tile.cols.cap }
        };
        match stmt {
            // Columns as lanes keep what is carried in registers; along the rows it goes through memory.
            Stmt::For { carry, .. } => match turns::carried_rows(self.program, stmt) {
                Some(_) => carry
                    .iter()
                    .filter(|c| {
                        let wide = 2 * cap(c.inside, Axis::Cols) >= self.width;
                        wide && self.lane(lanes, c.inside).is_some_and(|l| l != Axis::Cols)
                    })
                    .map(|c| TURNS * self.size(c.inside))
                    .sum(),
                None => 0.0,
            },
            Stmt::Store { tensor, index, value, rows, cols, .. } => {
                let elements = (rows.cap * cols.cap) as f64;
                let cost = |lane: Axis| {
                    let access = Frame { lane, by_rows: false }.access(self.program, *tensor, index);
                    let strided = access.is_none_or(|a| a.lane.as_int() != Some(1));
                    self.across(lanes, value, lane, elements) + if strided { 2.0 * elements } else { 0.0 }
                };
                cost(Axis::Rows).min(cost(Axis::Cols))
            }
            Stmt::Let { results, op } => {
                let out = results[0];
                let Some(lane) = self.lane(lanes, out) else { return 0.0 };
                let elements = self.size(out);
                let length = cap(out, lane);
                let waste = (length.div_ceil(self.width) * self.width) as f64 / length as f64;
                match op {
                    TileOp::Map(e) => self.across(lanes, e, lane, elements) + elements * waste / 16.0,
                    TileOp::Dot { a, b, acc } => {
                        let vectors = if lane == Axis::Cols { *b } else { *a };
                        let inner = if lane == Axis::Cols { axis_of(*b, Axis::Rows) } else { axis_of(*a, Axis::Cols) };
                        let depth = cap(vectors.tile, inner) as f64;
                        let mut cost = elements * depth * waste / 16.0;
                        if self.lane(lanes, vectors.tile).is_some_and(|l| l != axis_of(vectors, lane)) {
                            let few = cap(out, other(lane)) <= inner::most_rows(self.width, depth as usize);
                            cost += if few { inner::GATHERING * elements } else { 4.0 * self.size(vectors.tile) };
                        }
                        if let Some(acc) = acc
                            && self.lane(lanes, *acc).is_some_and(|l| l != lane)
                        {
                            cost += 4.0 * elements;
                        }
                        cost
                    }
                    TileOp::Reduce { axis, of, .. } => match self.lane(lanes, *of) {
                        Some(l) if l == *axis => self.size(*of) / 8.0,
                        _ => self.size(*of) / 16.0,
                    },
                    TileOp::Scan { axis, of, .. } => {
                        let across = self.lane(lanes, *of).is_some_and(|l| l != lane);
                        if *axis == lane || across { 8.0 * elements } else { elements * waste / 16.0 }
                    }
                    TileOp::Recurrence { decay, input, .. } => {
                        let wrong = [*decay, *input].iter().any(|t| self.lane(lanes, *t).is_some_and(|l| l != lane));
                        if lane == Axis::Rows || wrong { 8.0 * elements } else { elements * waste / 16.0 }
                    }
                    TileOp::Solve { lower, .. } => {
                        let depth = cap(*lower, Axis::Rows) as f64;
                        if lane == Axis::Rows { 2.0 * elements * depth } else { elements * depth * waste / 16.0 }
                    }
                    TileOp::TopK { .. } => 0.0,
                }
            }
        }
    }

    fn cost(&self, lanes: &[Axis]) -> f64 {
        self.statements.iter().map(|(s, weight)| weight * self.statement(lanes, s)).sum()
    }
}

/// The lane axes of a program's tiles: groups of tiles that must agree, and the axis of each group.
struct Axes<'p> {
    problem: Problem<'p>,
    lanes: Vec<Axis>,
}

/// Chooses the lane axes.
fn axes(program: &TileProgram, width: usize) -> Axes<'_> {
    let n = program.tiles.len();
    let mut parent: Vec<usize> = (0..n).collect();
    let mut statements = Vec::new();
    collect(&program.body, 1.0, &mut statements, &mut parent);
    let long = |k: usize| program.tiles[k].rows.cap > 1 && program.tiles[k].cols.cap > 1;
    let mut variable = vec![None; n];
    let mut count = 0;
    for k in 0..n {
        if program.tiles[k].ty == TileType::F32 && long(k) {
            let r = root(&mut parent, k);
            if variable[r].is_none() {
                variable[r] = Some(count);
                count += 1;
            }
            variable[k] = variable[r];
        }
    }
    let problem = Problem { program, width, variable, statements };
    // From both ends, one tile at a time to a lower cost; a few rounds settle it.
    let mut best: Option<(f64, Vec<Axis>)> = None;
    for start in [Axis::Cols, Axis::Rows] {
        let mut lanes = vec![start; count];
        let mut cost = problem.cost(&lanes);
        for _ in 0..4 {
            let before = cost;
            for v in 0..count {
                lanes[v] = other(lanes[v]);
                let turned = problem.cost(&lanes);
                if turned < cost {
                    cost = turned;
                } else {
                    lanes[v] = other(lanes[v]);
                }
            }
            if cost >= before {
                break;
            }
        }
        if best.as_ref().is_none_or(|(c, _)| cost < *c) {
            best = Some((cost, lanes));
        }
    }
    let lanes = best.map(|(_, lanes)| lanes).unwrap_or_default();
    Axes { problem, lanes }
}

/// How many times as much a program of shorter tiles is reckoned to cost with the lane axes of the program it was made
/// from, as with its own.
pub fn gain(program: &TileProgram, shorter: &TileProgram, width: usize) -> f64 {
    let (whole, own) = (axes(program, width), axes(shorter, width));
    // Asked about the same tiles: single rows and columns have lanes in the whole program.
    let problem = Problem {
        program: shorter,
        width,
        variable: whole.problem.variable.clone(),
        statements: own.problem.statements.clone(),
    };
    let mut lanes = whole.lanes.clone();
    for (k, tile) in shorter.tiles.iter().enumerate() {
        let Some(v) = problem.variable[k] else { continue };
        lanes[v] = match own.problem.variable[k] {
            Some(own_variable) => own.lanes[own_variable],
            None if tile.rows.cap > 1 => Axis::Rows,
            None => Axis::Cols,
        };
    }
    problem.cost(&whole.lanes) / problem.cost(&lanes).max(f64::MIN_POSITIVE)
}

/// Chooses the forms of all tiles of `program` for vectors of `width` lanes.
pub fn choose(program: &TileProgram, width: usize) -> Forms {
    let n = program.tiles.len();
    let Axes { problem, lanes } = axes(program, width);
    let tiles = (0..n)
        .map(|k| {
            let tile = &program.tiles[k];
            match problem.variable[k] {
                Some(v) => TileForm::Lanes(lanes[v]),
                None if tile.ty != TileType::F32 => TileForm::Plain,
                None if tile.rows.cap > 1 => TileForm::Lanes(Axis::Rows),
                None => TileForm::Lanes(Axis::Cols),
            }
        })
        .collect();
    let mut forms = Forms { tiles, square: vec![false; n], width };
    read_in_place(program, &problem.statements, &mut forms);
    outputs::store_in_place(program, &mut forms);
    forms
}

/// Leaves tiles that only feed dots their scalars where they lie in slow memory.
fn read_in_place(program: &TileProgram, statements: &[(&Stmt, f64)], forms: &mut Forms) {
    let n = program.tiles.len();
    let mut candidate: Vec<Option<TileForm>> = vec![None; n];
    for (stmt, _) in statements {
        if let Stmt::Let { results, op: TileOp::Map(value) } = stmt {
            let out = results[0];
            let narrow = program.tile(out).ty == TileType::F32;
            if narrow && let Some(form) = slow_form(program, value) {
                candidate[out.0 as usize] = Some(form);
            }
        }
    }
    let mut used = vec![false; n];
    for (stmt, _) in statements {
        match stmt {
            Stmt::Let { op: TileOp::Dot { a, b, acc }, results } => {
                let out = results[0];
                let lane = forms.lane(out);
                let (vectors, scalars) = if lane == Some(Axis::Cols) { (b, a) } else { (a, b) };
                if let Some(acc) = acc {
                    candidate[acc.0 as usize] = None;
                }
                used[scalars.tile.0 as usize] = true;
                if candidate[scalars.tile.0 as usize].as_ref().is_some_and(is_half) {
                    candidate[scalars.tile.0 as usize] = None;
                }
                let form = candidate[vectors.tile.0 as usize].as_ref();
                let keep = lane.is_some_and(|lane| {
                    // Elements of half precision are made whole once for every register tile.
                    let (rows, depth) = inner::lengths(program, out, lane, *vectors);
                    let once = rows <= inner::most_rows(forms.width, depth.max(forms.width));
                    let whole = !form.is_some_and(is_half) || once;
                    whole && vector_in_place(program, forms.width, form, *vectors, lane)
                        || inner_in_place(program, forms, form, out, lane, [*vectors, *scalars])
                });
                if !keep {
                    candidate[vectors.tile.0 as usize] = None;
                }
                used[vectors.tile.0 as usize] = true;
            }
            Stmt::Let { op, .. } => {
                for t in crate::cpu::storage::operands(op) {
                    candidate[t.0 as usize] = None;
                }
            }
            Stmt::For { carry, .. } => {
                for t in carry.iter().flat_map(|c| [c.init, c.inside, c.next, c.result]) {
                    candidate[t.0 as usize] = None;
                }
            }
            Stmt::Store { index, value, guard, .. } => {
                for e in index.iter().chain([value]).chain(guard) {
                    e.visit(&mut |e| {
                        if let Node::Tile(t, ..) = e.node() {
                            candidate[t.0 as usize] = None;
                        }
                    });
                }
            }
        }
    }
    for k in 0..n {
        if used[k]
            && let Some(form) = candidate[k].take()
        {
            forms.tiles[k] = form;
        }
    }
}

/// Whether a product of few rows may read its long operand from slow memory: the summed axis lies side by side there,
/// and in the other operand too.
fn inner_in_place(
    program: &TileProgram,
    forms: &Forms,
    form: Option<&TileForm>,
    out: TileId,
    lane: Axis,
    [many, few]: [Matrix; 2],
) -> bool {
    let Some(TileForm::Slow { row_stride, col_stride, dtype, .. }) = form else { return false };
    let along = |m: Matrix, axis: Axis, (row, col): (i64, i64)| if axis_of(m, axis) == Axis::Rows { row } else { col };
    let strides = (*row_stride, *col_stride);
    let bytes = dtype.bytes() as i64;
    let sums = [along(many, other(lane), strides) == bytes, along(few, lane, forms.strides(program, few.tile)) == 4];
    let (rows, depth) = inner::lengths(program, out, lane, many);
    // Cut vectors of half precision take registers that there are not.
    let tile = program.tile(many.tile);
    let summed = if axis_of(many, other(lane)) == Axis::Rows { &tile.rows } else { &tile.cols };
    let uncut = *dtype == DType::F32 || (summed.is_fixed() && depth % forms.width == 0);
    uncut && inner::suits(forms, rows, depth, sums) && along(many, lane, strides) != bytes
}

fn is_half(form: &TileForm) -> bool {
    matches!(form, TileForm::Slow { dtype, .. } if *dtype != DType::F32)
}

/// Whether whole vectors may be read from slow memory: the lanes lie side by side there, and their number is always a
/// multiple of a vector's.
fn vector_in_place(program: &TileProgram, width: usize, form: Option<&TileForm>, m: Matrix, lane: Axis) -> bool {
    let Some(TileForm::Slow { row_stride, col_stride, dtype, .. }) = form else { return false };
    let axis = axis_of(m, lane);
    let tile = program.tile(m.tile);
    let (extent, stride) = if axis == Axis::Rows { (&tile.rows, *row_stride) } else { (&tile.cols, *col_stride) };
    let (depth, step) = if axis == Axis::Rows { (&tile.cols, *col_stride) } else { (&tile.rows, *row_stride) };
    stride == dtype.bytes() as i64 && extent.is_fixed() && extent.cap % width == 0 && !crowds(depth.cap, step)
}

/// Whether rows at a distance of `step` bytes fall into so few sets of a first-level cache (8 ways of 4096 bytes) that
/// they drive each other out, though side by side they would stay: they are read again for every block of the product.
fn crowds(rows: usize, step: i64) -> bool {
    // A block of lanes is four vectors wide: at that distance rows lie as close as in a tile of their own.
    const WAY: u64 = 4096;
    const WAYS: u64 = 8;
    const BLOCK: u64 = 256;
    let distance = 1u64 << step.unsigned_abs().trailing_zeros().min(WAY.trailing_zeros());
    distance > BLOCK && rows as u64 * distance > WAYS * WAY
}
