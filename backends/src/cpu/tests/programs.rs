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
use mixc_ir::tile::{Extent, TileBuilder, TileProgram, TileType, examples};

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
