//! From a tile program to a CUDA kernel: text against the prelude, naming no form and no instruction.
//!
//! The mapping is the plain one. A block of threads runs grid points one after another; tiles lie in shared memory (what
//! does not fit lies in scratch memory of the block); a map is a loop over elements, shared out among the threads; dots,
//! reductions, scans and solves are calls of the prelude's block-wide operations, dots of half-precision data on tensor
//! cores. Barriers stand where `hazards` finds that threads touch what others have touched, and nowhere else.

mod counts;
mod expression;
mod halves;
mod hazards;
mod operations;
mod storage;

use super::kernel::Kernel;
use counts::Counts;
use expression::{Names, identifier};
pub use expression::{dim, symbol};
use hazards::{Access, Owner, Pending, Region, tile_region};
use mixc_ir::dim::Symbol;
use mixc_ir::dtype::DType;
use mixc_ir::expr::{Expr, Node, Pick, TileId, Var};
use mixc_ir::tile::{Carry, Extent, Role, Stmt, TileOp, TileProgram, TileType};
use std::collections::BTreeSet;
use std::fmt::Write;
use storage::Level;

/// The block-wide operations that kernels call, in terms of the prelude: their text stands between the two.
pub const TILES: &str = include_str!("../prelude/tiles.cuh");

/// Threads of a block: four warps, as many as have their own scheduler.
pub const THREADS: usize = 128;

/// Bytes of shared memory that a block may use: what devices of compute capability 8.0 and later (but 8.6 and 8.9, with
/// 99 KiB) leave to one block.
pub const SHARED_LIMIT: usize = 160 << 10;

/// A kernel.
#[derive(Clone, Debug)]
pub struct Emitted {
    /// Its text.
    pub text: String,
    /// What a launch must know.
    pub kernel: Kernel,
    /// Symbols of dims, in the order of the kernel's last parameters.
    pub symbols: Vec<Symbol>,
    /// Bytes of scratch memory of a block; with any, the kernel takes their address after the tensors.
    pub scratch_bytes: usize,
    /// The number of grid points, in C with the prelude's functions of integers; symbols are named as in the kernel.
    pub points: String,
}

/// The name of a tensor's element type in memory.
fn stored_type(dtype: DType) -> &'static str {
    match dtype {
        DType::F32 => "float",
        DType::F64 => "double",
        DType::BF16 => "mx_bf16",
        DType::F16 => "mx_f16",
        DType::I32 => "mx_i32",
        DType::I64 => "mx_i64",
        DType::Bool => "mx_bool",
    }
}

fn tile_type(ty: TileType) -> &'static str {
    match ty {
        TileType::F32 => "float",
        TileType::F64 => "double",
        TileType::I64 => "mx_i64",
        TileType::Bool => "mx_bool",
    }
}

/// Every symbol of a program, in the order of their names.
fn symbols(program: &TileProgram) -> Vec<Symbol> {
    let mut found = Vec::new();
    program.tensors.iter().flat_map(|t| &t.shape).for_each(|d| d.symbols(&mut found));
    program.for_each_expr(&mut |e| {
        e.visit(&mut |n| {
            if let Node::Dim(d) = n.node() {
                d.symbols(&mut found);
            }
        });
    });
    found.into_iter().collect::<BTreeSet<_>>().into_iter().collect()
}

/// A part of the text under construction.
struct Lines {
    text: String,
    depth: usize,
}

impl Lines {
    fn new(depth: usize) -> Lines {
        Lines { text: String::new(), depth }
    }

    fn line(&mut self, line: impl AsRef<str>) {
        let _ = writeln!(self.text, "{:1$}{2}", "", 2 * self.depth, line.as_ref());
    }

    fn open(&mut self, line: impl AsRef<str>) {
        self.line(format!("{} {{", line.as_ref()));
        self.depth += 1;
    }

    fn close(&mut self) {
        self.depth -= 1;
        self.line("}");
    }
}

fn grouped(factors: &[&str]) -> String {
    if factors.len() == 1 { factors[0].to_owned() } else { format!("({})", factors.join(" * ")) }
}

struct Writer<'p> {
    names: Names<'p>,
    counts: Counts<'p>,
}

/// The kernel of `program`, a verified tile program, under the name `name`.
pub fn kernel(name: &str, program: &TileProgram) -> Emitted {
    let storage = storage::place(program, SHARED_LIMIT);
    let symbols = symbols(program);
    let names = Names { program, storage: &storage };
    let writer = Writer { names, counts: Counts::of(program) };
    let (text, points) = (writer.kernel(name, &symbols), writer.points());
    let words = program.tensors.len() + symbols.len() + usize::from(storage.scratch_bytes > 0);
    let kernel =
        Kernel { name: name.to_owned(), threads: THREADS as u32, shared_bytes: storage.shared_bytes as u32, words };
    Emitted { text, kernel, symbols, scratch_bytes: storage.scratch_bytes, points }
}

impl Writer<'_> {
    fn kernel(&self, name: &str, symbols: &[Symbol]) -> String {
        let program = self.names.program;
        let mut parameters = Vec::new();
        for (k, t) in program.tensors.iter().enumerate() {
            let constant = if t.role == Role::Input { "const " } else { "" };
            parameters.push(format!("{constant}{}* p{k}", stored_type(t.dtype)));
        }
        if self.names.storage.scratch_bytes > 0 {
            parameters.push("unsigned char* scratch".to_owned());
        }
        parameters.extend(symbols.iter().map(|s| format!("mx_i64 {}", symbol(s))));
        let mut out = Lines::new(0);
        out.open(format!("MX_KERNEL({name}, {THREADS})({})", parameters.join(", ")));
        for (k, t) in program.tensors.iter().enumerate() {
            let constant = if t.role == Role::Input { "const " } else { "" };
            let shape: Vec<String> = t.shape.iter().map(dim).collect();
            let view = self.names.tensor(k);
            out.line(format!("MX_GLOBAL({constant}{}, {view}, p{k}); // [{}]", stored_type(t.dtype), shape.join(", ")));
        }
        if self.names.storage.shared_bytes > 0 {
            out.line("MX_SHARED_MEMORY(shared);");
        }
        if self.names.storage.scratch_bytes > 0 {
            out.line(format!("unsigned char* mine = scratch + mx_block() * {};", self.names.storage.scratch_bytes));
        }
        let read = self.tiles_in_use();
        for (k, tile) in program.tiles.iter().enumerate() {
            let t = TileId(k as u32);
            if !read.contains(&t) {
                continue;
            }
            let place = self.names.storage.place(t);
            let (memory, base) = match place.level {
                Level::Shared => ("MX_SHARED", "shared"),
                Level::Scratch => ("MX_SCRATCH", "mine"),
            };
            let (rows, cols) = (tile.rows.cap, tile.cols.cap);
            let (view, ty, at) = (self.names.tile(t), tile_type(tile.ty), place.offset);
            out.line(format!("{memory}({ty}, {view}, {base}, {at}, {}); // [{rows}, {cols}]", rows * cols));
        }
        let extents = self.extents();
        out.line(format!("const mx_i64 points = {};", self.points()));
        out.open("for (mx_i64 point = mx_block(); point < points; point += mx_blocks())");
        for (k, axis) in program.grid.iter().enumerate().rev() {
            let var = self.names.var(axis.var);
            let inner: Vec<&str> = extents[k + 1..].iter().map(String::as_str).collect();
            let rest = if inner.is_empty() { "point".to_owned() } else { format!("point / {}", grouped(&inner)) };
            let value = if k == 0 { rest } else { format!("{rest} % {}", extents[k]) };
            out.line(format!("const mx_i64 {var} = {value};"));
        }
        self.known(None, &mut out);
        // The next point's first steps meet this one's last: a loop like any other.
        let turn = self.repeated(&Pending::default(), out.depth, &|pending, body| {
            self.block(&program.body, pending, body);
        });
        out.text.push_str(&turn.0);
        out.close();
        out.close();
        out.text
    }

    fn extents(&self) -> Vec<String> {
        self.names.program.grid.iter().map(|a| self.names.integer(&a.extent)).collect()
    }

    fn points(&self) -> String {
        let extents = self.extents();
        if extents.is_empty() { "1".to_owned() } else { extents.join(" * ") }
    }

    /// Counts that have become known.
    fn known(&self, with: Option<Var>, out: &mut Lines) {
        for k in self.counts.known_with.get(&with).into_iter().flatten() {
            out.line(format!("const mx_i32 n{k} = (mx_i32){};", self.names.integer(self.counts.distinct[*k])));
        }
    }

    fn tiles_in_use(&self) -> BTreeSet<TileId> {
        let mut used = BTreeSet::new();
        self.names.program.for_each_stmt(&mut |s| match s {
            Stmt::Let { results, .. } => used.extend(results),
            Stmt::For { carry, .. } => used.extend(carry.iter().flat_map(|c| [c.init, c.inside, c.next, c.result])),
            Stmt::Store { .. } => {}
        });
        used
    }

    /// The text of something that runs again and again after `before`, and what it leaves touched: written again until
    /// what a turn may meet is all that an earlier one leaves.
    fn repeated(&self, before: &Pending, depth: usize, turn: &dyn Fn(&mut Pending, &mut Lines)) -> (String, Pending) {
        let mut met = before.clone();
        loop {
            let mut body = Lines::new(depth);
            let mut pending = met.clone();
            turn(&mut pending, &mut body);
            if !met.join(&pending) {
                return (body.text, met);
            }
        }
    }

    fn block(&self, body: &[Stmt], pending: &mut Pending, out: &mut Lines) {
        for stmt in body {
            match stmt {
                Stmt::Let { results, op } => self.step(results, op, pending, out),
                Stmt::Store { tensor, index, value, rows, cols, guard } => {
                    let k = tensor.0 as usize;
                    let dtype = self.names.program.tensors[k].dtype;
                    let mut accesses = vec![Access { region: Region::Tensor(k), owner: Owner::Any, writes: true }];
                    for e in index.iter().chain([value]).chain(guard) {
                        self.reads(e, rows, cols, &mut accesses);
                    }
                    self.wait(&accesses, pending, out);
                    out.line(format!("// store {}", self.names.program.tensors[k].name));
                    self.elements(rows, cols, out, |w, out| {
                        let (view, place) = (w.names.tensor(k), w.names.place(k, index));
                        let store = format!("{view}[{place}] = {};", w.names.stored(value, dtype));
                        out.line(match guard {
                            None => store,
                            Some(g) => format!("if ({}) {store}", w.names.integer(g)),
                        });
                    });
                }
                Stmt::For { var, from, to, step, when, carry, body } => {
                    for c in carry {
                        self.copy(&[(c.init, c.inside)], pending, out);
                    }
                    let x = self.names.var(*var);
                    let (from, to_text) = (self.names.integer(from), self.names.integer(to));
                    let mut bounds = Vec::new();
                    for e in [to].into_iter().chain(when) {
                        self.reads_of_tensors(e, &mut bounds);
                    }
                    self.wait(&bounds, pending, out);
                    out.open(format!("for (mx_i64 {x} = {from}; {x} < {to_text}; {x} += {step})"));
                    if let Some(when) = when {
                        out.line(format!("if (!{}) continue;", self.names.integer(when)));
                    }
                    self.known(Some(*var), out);
                    let (text, after) = self.repeated(pending, out.depth, &|pending, out| {
                        self.wait(&bounds, pending, out);
                        self.block(body, pending, out);
                        for copies in self.hand_on(carry) {
                            self.copy(&copies, pending, out);
                        }
                    });
                    out.text.push_str(&text);
                    out.close();
                    *pending = after;
                }
            }
        }
    }

    /// The copies at the end of a turn, in an order in which nothing is written before it is read; tiles that change
    /// places in a ring are one entry, copied all at once.
    fn hand_on(&self, carry: &[Carry]) -> Vec<Vec<(TileId, TileId)>> {
        let mut left: Vec<(TileId, TileId)> =
            carry.iter().map(|c| (c.next, c.inside)).filter(|(a, b)| !self.names.storage.same(*a, *b)).collect();
        let mut ordered = Vec::new();
        while !left.is_empty() {
            let unread =
                left.iter().position(|(_, to)| left.iter().all(|(from, _)| !self.names.storage.same(*from, *to)));
            ordered.push(match unread {
                Some(k) => vec![left.remove(k)],
                None => {
                    let mut ring = vec![left.remove(0)];
                    while let Some(k) =
                        left.iter().position(|(_, to)| self.names.storage.same(*to, ring[ring.len() - 1].0))
                    {
                        ring.push(left.remove(k));
                    }
                    ring
                }
            });
        }
        ordered
    }

    fn wait(&self, accesses: &[Access], pending: &mut Pending, out: &mut Lines) {
        if pending.step(accesses) {
            out.line("mx_barrier();");
        }
    }

    fn access(&self, t: TileId, owner: Owner, writes: bool) -> Access {
        Access { region: tile_region(self.names.storage.place(t)), owner, writes }
    }

    /// The owner of the elements of a tile in a loop over elements with that many columns at most.
    fn owner(&self, t: TileId) -> Owner {
        let tile = self.names.program.tile(t);
        Owner::Element { columns: tile.cols.cap, bytes: tile.ty.bytes() }
    }

    fn reads_of_tensors(&self, e: &Expr, into: &mut Vec<Access>) {
        e.visit(&mut |n| {
            if let Node::Load(l) = n.node() {
                let k = l.tensor.0 as usize;
                if self.names.program.tensors[k].role == Role::Output {
                    into.push(Access { region: Region::Tensor(k), owner: Owner::Any, writes: false });
                }
            }
        });
    }

    /// What an expression reads in a loop over the elements of these extents.
    fn reads(&self, e: &Expr, rows: &Extent, cols: &Extent, into: &mut Vec<Access>) {
        self.reads_of_tensors(e, into);
        storage::tiles_of(e, &mut |t, row, col| {
            let tile = self.names.program.tile(t);
            let straight = (row == Pick::Row || rows.cap == 1) && (col == Pick::Col || cols.cap == 1);
            let owner = if straight && tile.cols.cap == cols.cap { self.owner(t) } else { Owner::Any };
            into.push(self.access(t, owner, false));
        });
    }

    /// A loop over elements, shared out among the threads.
    fn elements(&self, rows: &Extent, cols: &Extent, out: &mut Lines, body: impl FnOnce(&Self, &mut Lines)) {
        let (pitch, n_rows, n_cols) = (cols.cap, self.counts.name(rows), self.counts.name(cols));
        out.open(format!("for (mx_i32 e = mx_thread(), n = {n_rows} * {pitch}; e < n; e += {THREADS})"));
        match (rows.cap, pitch) {
            (_, 1) => out.line("const mx_i32 r = e, c = 0;"),
            (1, _) => out.line("const mx_i32 r = 0, c = e;"),
            _ => out.line(format!("const mx_i32 r = e / {pitch}, c = e % {pitch};")),
        }
        out.line("(void)r, (void)c;");
        if !cols.is_fixed() {
            out.line(format!("if (c >= {n_cols}) continue;"));
        }
        body(self, out);
        out.close();
    }

    /// Copies tiles of one shape, each element of all before any is written.
    fn copy(&self, copies: &[(TileId, TileId)], pending: &mut Pending, out: &mut Lines) {
        let copies: Vec<&(TileId, TileId)> =
            copies.iter().filter(|(from, to)| !self.names.storage.same(*from, *to)).collect();
        let Some((_, shape)) = copies.first() else { return };
        let mut accesses = Vec::new();
        for (from, to) in &copies {
            accesses.push(self.access(*from, self.owner(*from), false));
            accesses.push(self.access(*to, self.owner(*to), true));
        }
        self.wait(&accesses, pending, out);
        let tile = self.names.program.tile(*shape);
        let what = |(from, to): &&(TileId, TileId)| {
            format!("{} = {}", self.names.program.tile(*to).name, self.names.program.tile(*from).name)
        };
        out.line(format!("// {}", copies.iter().map(what).collect::<Vec<_>>().join(", ")));
        self.elements(&tile.rows, &tile.cols, out, |w, out| {
            for (k, (from, _)) in copies.iter().enumerate() {
                let ty = tile_type(w.names.program.tile(*from).ty);
                out.line(format!("const {ty} v{k} = {}[e];", w.names.tile(*from)));
            }
            for (k, (_, to)) in copies.iter().enumerate() {
                out.line(format!("{}[e] = v{k};", w.names.tile(*to)));
            }
        });
    }

    fn step(&self, results: &[TileId], op: &TileOp, pending: &mut Pending, out: &mut Lines) {
        let first = results[0];
        let tile = self.names.program.tile(first);
        if let TileOp::Map(e) = op {
            let mut accesses = vec![self.access(first, self.owner(first), true)];
            self.reads(e, &tile.rows, &tile.cols, &mut accesses);
            self.wait(&accesses, pending, out);
            out.line(format!("// {}", tile.name));
            self.elements(&tile.rows, &tile.cols, out, |w, out| {
                out.line(format!("{}[e] = {};", w.names.tile(first), w.names.element(e, tile.ty)));
            });
            return;
        }
        let mut accesses: Vec<Access> = results.iter().map(|t| self.access(*t, Owner::Any, true)).collect();
        let operands: Vec<TileId> = match op {
            TileOp::Map(_) => Vec::new(),
            TileOp::Dot { a, b, acc } => [a.tile, b.tile].into_iter().chain(*acc).collect(),
            TileOp::Reduce { of, .. } | TileOp::Scan { of, .. } | TileOp::TopK { of, .. } => vec![*of],
            TileOp::Recurrence { decay, input, start } => [*decay, *input].into_iter().chain(*start).collect(),
            TileOp::Solve { lower, rhs } => vec![*lower, *rhs],
        };
        accesses.extend(operands.iter().map(|t| self.access(*t, Owner::Any, false)));
        self.wait(&accesses, pending, out);
        out.line(format!("// {}", tile.name));
        out.line(self.call(results, op));
    }
}

/// A kernel's name from a model's, a step's number and a program's name.
pub fn kernel_name(model: &str, number: usize, program: &str) -> String {
    format!("{}_step{number}_{}", identifier(model), identifier(program))
}
