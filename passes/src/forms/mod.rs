//! The algorithms: one file each. A form turns mixing (or one of the few tensor contractions) into tile programs.
//!
//! A form knows tiles and expressions, no machine code. What it makes stays open ([`Producer`]) so that elementwise
//! users can join its last store.

pub mod block_diagonal;
pub mod block_sparse;
pub mod blocked;
pub mod blocks;
pub mod choice;
pub mod chunked_delta;
pub mod chunked_scan;
pub mod chunks;
pub mod cumulate;
pub mod dense;
pub mod direct_convolution;
pub mod filter_inverse;
pub mod flash;
pub mod fourier;
pub mod gemm;
pub mod linear;
pub mod map;
pub mod monarch;
pub mod norm;
pub mod parallel_scan;
pub mod recurrent_scan;
pub mod reduce;
pub mod scan_2d;
pub mod softmax_scan;
pub mod split_keys;
pub mod taps;
pub mod tensor_flash;
pub mod top_k;
pub mod tree_top_k;
pub mod triangular_inverse;
pub mod walsh_hadamard;
pub mod window;

pub use choice::{Candidate, apply};

use crate::lower::lambda::axis_var;
use crate::lower::{Context, Failure, Lambda, Mix, Producer, Scribe, Settings, axes, guard_loads};
use mixc_ir::dim::Dim;
use mixc_ir::dtype::DType;
use mixc_ir::expr::{Expr, Node, SlowId, Var};
use mixc_ir::lowered::{Action, BufferId, Lowered, Phase};
use mixc_ir::tile::{Extent, TileBuilder, TileProgram, TileType};
use std::fmt::Debug;
use std::rc::Rc;

/// Writes down the tile programs of an open producer, given how they end; the buffer that holds the result.
pub trait Write: Debug {
    /// The form's name in the catalogue.
    fn form(&self) -> &'static str;
    /// Buffers that are read.
    fn reads(&self) -> Vec<BufferId>;
    /// Appends the programs.
    fn write(&self, cx: &mut Context<'_>, end: &Producer, out: BufferId) -> Result<(), Failure>;
}

/// What makes the elements of a producer.
pub type Kind = Rc<dyn Write>;

/// A producer with nothing joined to it yet.
pub fn open(kind: impl Write + 'static, dtype: DType, shape: Vec<Dim>) -> Producer {
    let index = axes(shape.len());
    Producer { kind: Rc::new(kind), natural: shape.clone(), epilogue: Expr::arg(0), dtype, shape, index }
}

/// Writes a producer down.
pub fn emit(cx: &mut Context<'_>, p: Producer) -> Result<BufferId, Failure> {
    let mut reads = p.kind.reads();
    reads.extend(buffers_of(&p.epilogue));
    let out = cx.target(p.dtype, &p.shape, &reads);
    p.kind.clone().write(cx, &p, out)?;
    Ok(out)
}

/// Buffers that an expression loads from.
pub fn buffers_of(e: &Expr) -> Vec<BufferId> {
    let mut found = Vec::new();
    e.visit(&mut |e| {
        if let Node::Load(l) = e.node() {
            found.push(BufferId(l.tensor.0));
        }
    });
    found
}

impl Producer {
    /// Where produced elements of type `dtype` and this shape are kept that a program reads back while it makes others:
    /// in the result `out` itself if it stores them as they are, else in memory of their own.
    pub fn read_back(
        &self,
        cx: &mut Context<'_>,
        dtype: DType,
        shape: &[Dim],
        reads: &[BufferId],
        out: BufferId,
    ) -> BufferId {
        let moved = self.shape != self.natural || self.index != axes(self.natural.len());
        let bare = self.epilogue == Expr::arg(0) && !moved && self.dtype == dtype;
        if bare { out } else { cx.target(dtype, shape, reads) }
    }

    /// Stores a block of the produced elements: `at` is the natural index over ROW, COL and grid variables, `element`
    /// the produced element there.
    pub fn store(
        &self,
        cx: &Context<'_>,
        s: &mut Scribe,
        out: SlowId,
        at: &[Expr],
        element: Expr,
        rows: &Extent,
        cols: &Extent,
    ) {
        let ending = self.localised(cx, s, at);
        s.b.store(out, ending.index, ending.value.with_args(&[element]), rows, cols);
    }

    /// The ending for the natural index `at`, in the program's own terms.
    pub fn localised(&self, cx: &Context<'_>, s: &mut Scribe, at: &[Expr]) -> Ending {
        let map: Vec<(Var, Expr)> = at.iter().enumerate().map(|(k, e)| (axis_var(k), e.clone())).collect();
        Ending {
            value: s.local(cx, &self.epilogue.with_vars(&map)),
            index: self.index.iter().map(|e| e.with_vars(&map)).collect(),
        }
    }
}

/// How a program ends, in its own terms, for stores that are made inside a loop.
#[derive(Clone, Debug)]
pub struct Ending {
    /// The stored element, of `Arg(0)`.
    value: Expr,
    /// The stored index.
    index: Vec<Expr>,
}

impl Ending {
    /// Stores a block; `slot` stands for what the loop's variable is now.
    pub fn store(
        &self,
        t: &mut TileBuilder,
        out: SlowId,
        slot: Var,
        now: &Expr,
        element: Expr,
        rows: &Extent,
        cols: &Extent,
    ) {
        let value = self.value.with_var(slot, now).with_args(&[element]);
        let index = self.index.iter().map(|e| e.with_var(slot, now)).collect();
        t.store(out, index, value, rows, cols);
    }

    /// Stores the part of a block where `kept` holds. What the ending reads besides the element is there only: a store's
    /// value is made whatever its guard says.
    pub fn store_where(
        &self,
        t: &mut TileBuilder,
        out: SlowId,
        kept: &Expr,
        element: Expr,
        rows: &Extent,
        cols: &Extent,
    ) {
        let value = guard_loads(&self.value, kept).with_args(&[element]);
        t.store_if(out, self.index.clone(), value, rows, cols, kept.clone());
    }
}

/// An application of an operator to tokens.
#[derive(Clone, Debug)]
pub struct Apply {
    /// The operator.
    pub mix: Mix,
    /// `[.., S, D]`, cheap to read.
    pub x: Lambda,
    /// Whether channel d of x meets the operator's last batch index d.
    pub channelwise: bool,
    /// Batch dims of the result.
    pub batch: Vec<Dim>,
}

impl Apply {
    /// Columns of the tokens, and of the result.
    pub fn features(&self) -> Dim {
        self.x.shape.last().cloned().unwrap_or_default()
    }

    /// Begins the program that stores the result in `out`: the program, the result among its tensors, and the element type
    /// of its tiles.
    pub fn program(&self, cx: &Context<'_>, name: &str, out: BufferId) -> (Scribe, SlowId, TileType) {
        let mut s = Scribe::new(name);
        let result = s.output(cx, out);
        (s, result, TileType::of(self.mix.ty.dtype))
    }
}

/// A way to compute an [`Apply`].
pub struct ApplyForm {
    /// Name in the catalogue; of several forms under one name with a word of its own after a dot.
    pub name: &'static str,
    /// Whether it computes this application, exactly.
    pub applies: fn(&Context<'_>, &Apply) -> bool,
    /// The producer.
    pub open: fn(&mut Context<'_>, &Apply, &[Dim], DType) -> Result<Producer, Failure>,
    /// Names of forms that are left out where this one applies, unless they are asked for.
    pub instead_of: &'static [&'static str],
    /// The share of the work that its programs show which a typical call does.
    pub share: fn(&Context<'_>, &Apply) -> f64,
}

/// The share of a form whose programs show all of its work.
pub fn all_visited(_: &Context<'_>, _: &Apply) -> f64 {
    1.0
}

impl ApplyForm {
    /// The name in the catalogue.
    pub fn family(&self) -> &'static str {
        family(self.name)
    }
}

/// A form's name in the catalogue.
pub fn family(name: &str) -> &str {
    name.split_once('.').map_or(name, |(family, _)| family)
}

/// The names by which forms can be asked for, those of the catalogue and of every form under one.
pub fn known(name: &str) -> bool {
    CATALOGUE.iter().any(|(n, _)| *n == name) || APPLY_FORMS.iter().any(|f| f.name == name)
}

/// What can be asked for, each once: the names of the catalogue, or those of the forms under them.
pub fn askable() -> Vec<&'static str> {
    let under = |name: &str| -> Vec<&'static str> {
        APPLY_FORMS.iter().map(|f| f.name).filter(|n| *n != name && family(n) == name).collect()
    };
    let of = |(name, _): &(&'static str, &str)| if under(name).is_empty() { vec![*name] } else { under(name) };
    CATALOGUE.iter().flat_map(of).collect()
}

/// The form of operators that no other takes, once they are a matrix of elements.
pub static OF_ELEMENTS: &ApplyForm = &dense::FORM;

/// All. Of several that apply the cheapest is taken ([`choice`]), the earlier of equals.
pub static APPLY_FORMS: &[&ApplyForm] = &[
    &softmax_scan::FORM,
    &tensor_flash::FORM,
    &window::FORM,
    &flash::FORM,
    &split_keys::FORM,
    &blocked::FORM,
    &block_sparse::FORM,
    &linear::FORM,
    &chunked_scan::FORM,
    &recurrent_scan::FORM,
    &parallel_scan::FORM,
    &chunked_delta::FORM,
    &filter_inverse::FORM,
    &triangular_inverse::FORM,
    &direct_convolution::FORM,
    &fourier::fft_convolution::FFT,
    &fourier::fft_convolution::MONARCH,
    &monarch::FORM,
    &block_diagonal::FORM,
    &walsh_hadamard::FORM,
    &dense::FORM,
];

/// Operations that are lowered as they are although they have an expansion: one kernel does them better.
pub fn lowers_whole(op: &str) -> bool {
    matches!(
        op,
        "linear"
            | "split_heads"
            | "merge_heads"
            | "layer_norm"
            | "rms_norm"
            | "softmax_axis"
            | "ssm2d"
            | "ot_route"
            | "fft"
            | "ifft"
            | "rfft"
            | "irfft"
    )
}

/// Seconds that a lowered model is reckoned to take at the typical lengths, with the fewest threads of the machine.
pub fn cost(l: &Lowered, settings: &Settings) -> f64 {
    let Settings { machine, typical, .. } = settings;
    let seconds = |program: &TileProgram| {
        mixc_ir::tile::cost(program, typical).map_or(f64::MAX, |c| c.seconds(machine, machine.fewest_threads))
    };
    l.phase(Phase::Run)
        .map(|step| match &step.action {
            Action::Run { program, .. } => seconds(program),
            Action::CheckIds { .. } => 0.0,
        })
        .sum()
}

/// The forms with one line each; the names that reports use.
pub static CATALOGUE: &[(&str, &str)] = &[
    ("flash", "softmax attention by blocks of keys with a running maximum; absent blocks are skipped"),
    ("window", "flash over bounded ranges of keys, with or without first keys: windows and blocks"),
    ("tensor_flash", "flash over all pairs of two sequences' keys"),
    ("linear", "one inner product from the right, Q (K^T V): the sum over keys first, in one program"),
    ("chunked_scan", "a semiseparable operator by chunks: products of matrices within one, a state between them"),
    ("parallel_scan", "a chunked scan over parts of the tokens at once, joined by the states between them"),
    (
        "recurrent_scan",
        "a semiseparable operator, or a softmax of terms of rows, columns and distances, as a recurrence over a state",
    ),
    ("split_keys", "softmax attention by parts of the keys at once, merged by their maxima: few queries, many keys"),
    (
        "blocked",
        "softmax attention of wide heads: scores summed over blocks of features and stored, then blocks of outputs",
    ),
    ("block_sparse", "softmax attention over the key blocks that a list names for every block of rows"),
    ("scan_2d", "a two-dimensional state space: variates in sequence, a scan along each"),
    (
        "triangular_inverse",
        "the inverse of a lower triangular operator by chunks with a state between, by substitution over blocks, or as a recurrence",
    ),
    ("top_k", "the k greatest of every row by a threshold"),
    ("tree_top_k", "the keys that a search down a tree keeps for every block of rows, round after round"),
    ("route", "transport of tokens to experts by rounds of the k best on each side, a fixed number"),
    ("direct_conv", "a shift-invariant operator by its sum over lags"),
    ("fft_conv", "a shift-invariant operator through Fourier transforms of blocks, stage by stage"),
    ("monarch_conv", "the same with a few dense matrices for the stages"),
    ("fourier", "a Fourier transform of a length of small factors, stage by stage"),
    ("block_diagonal", "blocks along the diagonal: a batch of small products, one a block"),
    ("monarch", "block-diagonal factors one after the other, each a batch of small products"),
    ("walsh_hadamard", "the Walsh-Hadamard transform by stages of sums and differences"),
    ("dense", "the product with a matrix of elements, formed block by block"),
    ("gemm", "a product of matrices by packed panels, with what follows joined to it"),
    ("map", "elementwise work"),
    ("reduce", "sums, maxima and running sums along an axis, and contractions of expressions"),
    ("norm", "row normalisations: layer norm, root-mean-square norm, softmax of a row"),
    ("gather", "elements picked by indices that are data, with what is computed of them joined to it"),
    ("layout", "elements moved by static indices, none computed"),
];

/// Tile capacity for a dim: its greatest value up to `cap`.
pub fn capacity(cx: &Context<'_>, d: &Dim, cap: usize) -> usize {
    usize::try_from(cx.most(d)).unwrap_or(cap).clamp(1, cap)
}
