//! The language's own examples, compiled.

use super::harness::{check_model, model_of};
use crate::cpu::compile;
use crate::cpu::report;
use crate::cpu::target::Target;
use crate::cpu::vkir::Isa;
use crate::cpu::vkir::tests::Rng;
use mixc_ir::dim::{Dim, DimValues};
use mixc_ir::dtype::DType;
use mixc_ir::expr::{COL, Expr, ROW};
use mixc_ir::tile::{Axis, Combine, Extent, TileBuilder, TileProgram, TileType, examples};

#[test]
fn examples_agree_with_the_interpreter() {
    let mut rng = Rng::new(1);
    for program in examples::all() {
        let lowered = model_of(&program);
        let model = compile(&lowered, &Target::native()).unwrap_or_else(|e| panic!("{}: {e}", program.name));
        for t in [1, 2, 3, 4, 5, 8, 13, 17, 64, 67] {
            let dims: DimValues =
                lowered.dims.iter().enumerate().map(|(k, d)| (d.name.clone(), t + 3 * k as i64)).collect();
            check_model(&model, &lowered, &program, &dims, &mut rng);
        }
    }
}

#[test]
fn hot_programs_leave_nothing_to_scalar_code() {
    let programs = [
        examples::flash_attention(8, 64, None, [64, 256]),
        examples::flash_attention(8, 64, Some(256), [64, 128]),
        examples::gemm_gelu(1024, 1024, [128, 64, 256]),
        examples::softmax_rows(16, 512),
        examples::layer_norm(768, 16, 1e-5),
        examples::gather_rows(1000, 384, 16),
        examples::chunked_linear_attention(64, 64, 64),
        examples::delta_rule(64, 64, 64),
        examples::selective_scan(64, 16, 64),
        examples::decode_partial(64, 1024, 256),
    ];
    for program in programs {
        for isa in [Isa::Avx512 { bf16: false }, Isa::Avx2] {
            let scalar: Vec<String> =
                report(&program, isa).into_iter().filter(|w| w.how == "scalar").map(|w| w.what).collect();
            // Single elements, and running sums along a single column, have nothing to put side by side.
            let scalar: Vec<&String> =
                scalar.iter().filter(|w| !["log", "store top", "store sum"].contains(&w.as_str())).collect();
            assert!(scalar.is_empty(), "{} on {isa:?}: {scalar:?}", program.name);
        }
    }
}

/// A scan over tokens, one step at a time, with `states` states of 70 channels.
fn steps(states: usize, when: Option<i64>) -> TileProgram {
    let t = Dim::symbol("T");
    let mut b = TileBuilder::new("steps");
    let a = b.input("a", DType::F32, &[t.clone(), states.into()]);
    let x = b.input("x", DType::F32, &[t.clone(), 70_i64.into()]);
    let y = b.output("y", DType::F32, &[t.clone(), 70_i64.into()]);
    let last = b.output("last", DType::F32, &[states.into(), 70_i64.into()]);
    let (d0, cols) = {
        let d = b.grid("d", Expr::int(2)) * Expr::int(64);
        (d.clone(), Extent::block(64, d, Expr::int(70)))
    };
    let (row, channel, rows) = (Expr::from(ROW), d0 + Expr::from(COL), Extent::fixed(states));
    let start = b.map("start", TileType::F32, &rows, &cols, row.clone().to_float());
    let end = b.for_blocks(
        Expr::int(0),
        Expr::from(&t),
        1,
        |token| when.map(|n| token.clone().modulo(Expr::int(n)).equals(0)),
        &[start],
        |b, token, state| {
            let decay = Expr::load(a, vec![token.clone(), row.clone()]) * Expr::float(0.1);
            let next = Expr::tile(state[0]) * decay + Expr::load(x, vec![token.clone(), channel.clone()]);
            let next = b.map("next", TileType::F32, &rows, &cols, next);
            let greatest = b.reduce("greatest", Combine::Max, Axis::Rows, next);
            let value = Expr::tile(greatest) + Expr::load(x, vec![token.clone(), channel.clone()]);
            b.store(y, vec![token.clone(), channel.clone()], value, &Extent::fixed(1), &cols);
            vec![next]
        },
    );
    b.store(last, vec![row.clone(), channel.clone()], Expr::tile(end[0]), &rows, &cols);
    b.finish()
}

#[test]
fn loops_of_single_steps_are_one_kernel() {
    let isa = Isa::Avx512 { bf16: false };
    let how = |program: &TileProgram| report(program, isa).into_iter().any(|w| w.how == "kernel of turns");
    assert!(how(&steps(1, None)) && how(&steps(16, None)));
    // More states than registers, and turns that are left out, go the general way.
    assert!(!how(&steps(40, None)) && !how(&steps(4, Some(2))));
    let mut rng = Rng::new(7);
    for program in [steps(1, None), steps(5, None), steps(16, None), steps(40, None)] {
        let lowered = model_of(&program);
        let model = compile(&lowered, &Target::native()).unwrap();
        for t in [1, 2, 7, 64] {
            let dims: DimValues = lowered.dims.iter().map(|d| (d.name.clone(), t)).collect();
            check_model(&model, &lowered, &program, &dims, &mut rng);
        }
    }
}

/// `c = a b` with rows of b as far apart as `width` says, block by block.
fn stored_product(width: usize) -> TileProgram {
    let mut b = TileBuilder::new("stored_product");
    let (t, n) = (Dim::symbol("T"), Dim::from(32_i64));
    let a = b.input("a", DType::F32, &[t.clone(), n.clone()]);
    let x = b.input("x", DType::F32, &[n, width.into()]);
    let y = b.output("y", DType::F32, &[t.clone(), width.into()]);
    let t0 = b.grid("block", Expr::from(&t).ceil_div(16)) * Expr::int(16);
    let d0 = b.grid("d", Expr::int(width.div_ceil(64) as i64)) * Expr::int(64);
    let rows = Extent::block(16, t0.clone(), Expr::from(&t));
    let cols = if width.is_multiple_of(64) {
        Extent::fixed(64)
    } else {
        Extent::block(64, d0.clone(), Expr::int(width as i64))
    };
    let (row, col, depth) = (Expr::from(ROW), Expr::from(COL), Extent::fixed(32));
    let a = b.map("a", TileType::F32, &rows, &depth, Expr::load(a, vec![t0.clone() + row.clone(), col.clone()]));
    let x = b.map("x", TileType::F32, &depth, &cols, Expr::load(x, vec![row.clone(), d0.clone() + col.clone()]));
    let c = b.dot("c", TileType::F32, a, x, None);
    b.store(y, vec![t0 + row, d0 + col], Expr::tile(c), &rows, &cols);
    b.finish()
}

#[test]
fn products_are_made_where_they_are_stored() {
    let isa = Isa::Avx512 { bf16: false };
    let how = |width: usize, what: &str| {
        report(&stored_product(width), isa).into_iter().find(|w| w.what == what).map(|w| w.how)
    };
    assert_eq!(how(192, "store y"), Some("in place"));
    // A part of a vector may lie past the row's end.
    assert_eq!(how(100, "store y"), Some("kernel"));
    // Rows of x are read where they lie, but not where all of them would meet in one set of the cache.
    assert_eq!(how(192, "x"), Some("in place"));
    assert_eq!(how(1024, "x"), Some("kernel"));
    let mut rng = Rng::new(8);
    for width in [64, 100, 192, 1024] {
        let program = stored_product(width);
        let lowered = model_of(&program);
        let model = compile(&lowered, &Target::native()).unwrap();
        for t in [1, 15, 16, 37] {
            let dims: DimValues = lowered.dims.iter().map(|d| (d.name.clone(), t)).collect();
            check_model(&model, &lowered, &program, &dims, &mut rng);
        }
    }
}

#[test]
fn examples_compile_for_every_target() {
    for name in crate::cpu::target::TARGET_NAMES {
        let target = Target::from_name(name).unwrap();
        for program in examples::all() {
            let lowered = model_of(&program);
            let object = crate::cpu::compile_object(&lowered, &target, &crate::cpu::Options::default());
            assert!(object.is_ok(), "{} for {name}: {:?}", program.name, object.err());
        }
    }
}

/// `y = L x` with L the part of `a` on and below the diagonal, block by block of `cap` tokens.
fn triangle_product(cap: usize, width: usize) -> TileProgram {
    let (t, n) = (Dim::symbol("T"), Dim::from(cap));
    let mut b = TileBuilder::new("triangle_product");
    let a = b.input("a", DType::F32, &[t.clone(), n]);
    let x = b.input("x", DType::F32, &[t.clone(), width.into()]);
    let y = b.output("y", DType::F32, &[t.clone(), width.into()]);
    let t0 = b.grid("block", Expr::from(&t).ceil_div(cap as i64)) * Expr::int(cap as i64);
    let (rows, cols) = (Extent::block(cap, t0.clone(), Expr::from(&t)), Extent::fixed(width));
    let (row, col) = (Expr::from(ROW), Expr::from(COL));
    let token = t0 + row.clone();
    let below = Expr::select(
        col.clone().le(row),
        Expr::load(a, vec![token.clone(), col.clone()]) * Expr::float(0.5),
        Expr::float(0.0),
    );
    let lower = b.map("lower", TileType::F32, &rows, &rows, below);
    let xs = b.map("xs", TileType::F32, &rows, &cols, Expr::load(x, vec![token.clone(), col.clone()]));
    let sum = b.dot("sum", TileType::F32, lower, xs, None);
    b.store(y, vec![token, col], Expr::tile(sum), &rows, &cols);
    b.finish()
}

#[test]
fn products_with_triangles_stop_at_the_diagonal() {
    let mut rng = Rng::new(7);
    for (cap, width) in [(1, 16), (5, 3), (16, 64), (32, 64), (33, 20), (37, 130)] {
        let program = triangle_product(cap, width);
        assert!(cap == 1 || program.lower_triangular().len() == 1);
        let lowered = model_of(&program);
        let model = compile(&lowered, &Target::native()).unwrap_or_else(|e| panic!("{e}"));
        for t in [1, 2, 7, 16, 31, 32, 33, 64, 75] {
            let dims: DimValues = [("T".into(), t)].into();
            check_model(&model, &lowered, &program, &dims, &mut rng);
        }
    }
}
