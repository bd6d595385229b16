//! What the type rules refuse, and what they say.

use crate::attr::Attrs;
use crate::dim::Dim;
use crate::dtype::DType;
use crate::program::{Builder, DimItem, ValueId};
use crate::ty::{Align, MixType, Type};

fn builder() -> Builder {
    Builder::new(
        "main",
        vec![DimItem { name: "T".into(), low: 1, high: 64 }, DimItem { name: "P".into(), low: 0, high: 64 }],
    )
}

fn tensor(b: &mut Builder, dtype: DType, shape: &[Dim]) -> ValueId {
    let name = format!("x{}", b.program.values.len());
    b.param(&name, Type::tensor(dtype, shape.to_vec()))
}

fn floats(b: &mut Builder, shape: &[i64]) -> ValueId {
    let shape: Vec<Dim> = shape.iter().map(|&n| Dim::constant(n)).collect();
    tensor(b, DType::F32, &shape)
}

fn dense(b: &mut Builder, shape: &[i64]) -> ValueId {
    let w = floats(b, shape);
    b.op("dense", &[w], Attrs::new()).unwrap()
}

fn mix(rows: i64, cols: i64) -> Option<Type> {
    let (rows, cols) = (Dim::constant(rows), Dim::constant(cols));
    Some(Type::Mix(MixType { dtype: DType::F32, batch: Vec::new(), rows, cols, align: Align::End }))
}

/// The message and the help of the first fault.
fn refused(b: &mut Builder, name: &str, operands: &[ValueId], attrs: Attrs, written: Option<Type>) -> String {
    let faults = b.op_typed(name, operands, attrs, written).expect_err(name);
    format!("{} / {}", faults[0].message, faults[0].help.clone().unwrap_or_default())
}

#[test]
fn decay_and_inverse_want_lower_triangles() {
    let b = &mut builder();
    let (m, g) = (dense(b, &[2, 5, 5]), floats(b, &[2]));
    assert!(refused(b, "decay", &[m, g], Attrs::new(), None).contains("mask %M {causal}"));
    assert!(refused(b, "inverse", &[m], Attrs::new(), None).contains("mask %M {causal}"));
    let c = b.op("mask", &[m], Attrs::new().with_flag("causal", true)).unwrap();
    b.op("decay", &[c, g], Attrs::new()).unwrap();
    b.op("inverse", &[c], Attrs::new()).unwrap();
    let wide = dense(b, &[2, 5, 7]);
    let c = b.op("mask", &[wide], Attrs::new().with_flag("causal", true)).unwrap();
    b.op("decay", &[c, g], Attrs::new()).unwrap();
    assert!(refused(b, "inverse", &[c], Attrs::new(), None).contains("square"));
    // Rows from the start are left of rows to the end where there are more columns, and right of them otherwise.
    let start = Attrs::new().with_flag("causal", true).with_name("align", "start");
    let c = b.op("mask", &[wide], start.clone()).unwrap();
    b.op("decay", &[c, g], Attrs::new()).unwrap();
    let tall = dense(b, &[2, 7, 5]);
    let c = b.op("mask", &[tall], start).unwrap();
    assert!(refused(b, "decay", &[c, g], Attrs::new(), None).contains("j > i'"));
}

#[test]
fn symbolic_lengths_are_compared() {
    let b = &mut builder();
    let (t, p) = (Dim::symbol("T"), Dim::symbol("P"));
    let s = t.add(&p).unwrap();
    let q = tensor(b, DType::BF16, &[Dim::constant(2), t.clone(), Dim::constant(8)]);
    let k = tensor(b, DType::BF16, &[Dim::constant(2), s.clone(), Dim::constant(8)]);
    let m = b.op("gram", &[q, k], Attrs::new().with_float("scale", 1.0)).unwrap();
    assert_eq!(b.ty(m).to_string(), format!("mix f32[2, T, {s}]"));
    // right = -P: i' - P is i.
    let c = b.op("mask", &[m], Attrs::new().with_dim("right", p.scale(-1).unwrap())).unwrap();
    let g = floats(b, &[]);
    b.op("decay", &[c, g], Attrs::new()).unwrap();
    let blocks = tensor(b, DType::Bool, &[t.ceil_div(16).unwrap(), s.ceil_div(8).unwrap()]);
    let sizes = Attrs::new().with_int("block_q", 16).with_int("block_k", 8);
    b.op("mask_blocks", &[m, blocks], sizes.clone()).unwrap();
    assert!(refused(b, "mask_blocks", &[m, blocks], sizes.with_int("block_k", 16), None).contains("expected"));
}

#[test]
fn alignments_do_not_mix() {
    let b = &mut builder();
    let (m, w) = (dense(b, &[2, 3, 7]), dense(b, &[2, 3, 7]));
    let n = tensor(b, DType::I64, &[Dim::constant(2)]);
    let l = b.op("mask_lengths", &[m, n], Attrs::new().with_flag("align", true)).unwrap();
    for name in ["sum", "times"] {
        assert!(refused(b, name, &[l, w], Attrs::new(), None).contains("aligned differently"));
    }
    let o = b.op("mask_lengths", &[w, n], Attrs::new().with_flag("align", true)).unwrap();
    b.op("sum", &[l, o], Attrs::new()).unwrap();
}

#[test]
fn shapes_and_types_are_told() {
    let b = &mut builder();
    let none = Attrs::new;
    let (m, w) = (dense(b, &[2, 5, 7]), dense(b, &[5, 5]));
    assert!(refused(b, "sum", &[m, w], none(), None).contains("5 x 7 and 5 x 5"));
    assert!(refused(b, "compose", &[m, w], none(), None).contains("reads 7 tokens"));
    assert!(refused(b, "identity", &[], none(), None).contains("must be written"));
    assert!(refused(b, "walsh_hadamard", &[], none(), mix(6, 6)).contains("power of two"));
    assert!(refused(b, "permutation", &[], none().with_int("stride", 4), mix(6, 6)).contains("does not divide"));
    assert!(refused(b, "permutation", &[], none().with_int("stride", 0), mix(6, 6)).contains("divided by 0"));
    assert!(refused(b, "scale_by", &[m], none(), None).contains("needs a factor"));
    assert!(refused(b, "mask", &[m], none().with_int("sink", 1), None).contains("no window"));
    assert!(refused(b, "mask", &[m], none().with_int("block", 0), None).contains("at least 1"));
    assert!(refused(b, "mask", &[m], none().with_int("windw", 3), None).contains("`window`"));
    assert!(refused(b, "soft_cap", &[m], none().with_float("cap", 0.0), None).contains("above 0"));
    let h = floats(b, &[6]);
    assert!(refused(b, "toeplitz", &[h], none().with_flag("two_sided", true), None).contains("2K-1"));
    assert!(refused(b, "toeplitz", &[h], none(), mix(6, 7)).contains("square"));
    assert!(refused(b, "transpose", &[h], none(), None).contains("perm"));
    let (l, r) = (floats(b, &[2, 3, 4]), floats(b, &[3, 2, 2]));
    assert!(refused(b, "monarch", &[l, r], none(), None).contains("do not meet"));
    let double = tensor(b, DType::F64, &[Dim::constant(5), Dim::constant(7)]);
    assert!(refused(b, "add_bias", &[m, double], none(), None).contains("f64 beside an operator of f32"));
    let wide = b.op("dense", &[double], none()).unwrap();
    assert_eq!(b.ty(wide).to_string(), "mix f64[5, 7]");
}

#[test]
fn many_masks_stay_small() {
    let b = &mut builder();
    let mut m = dense(b, &[5, 5]);
    for k in 0..200 {
        let attrs = Attrs::new().with_int("sink", k % 17).with_int("window", 1 + k % 13).with_int("block", 1 + k);
        m = b.op("mask", &[m], attrs).unwrap();
    }
    let support = &b.program.values[m.index()].structure.as_ref().unwrap().support;
    assert!(support.regions.len() <= 16 && support.regions.iter().all(|r| r.len() <= 32));
}
