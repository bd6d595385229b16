//! The language's own examples, compiled.

use super::harness::{check_model, model_of};
use crate::cpu::compile;
use crate::cpu::report;
use crate::cpu::target::Target;
use crate::cpu::vkir::Isa;
use crate::cpu::vkir::tests::Rng;
use mixc_ir::dim::DimValues;
use mixc_ir::tile::examples;

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
