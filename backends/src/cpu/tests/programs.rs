//! The language's own examples, compiled.

use super::harness::{check_model, model_of};
use crate::cpu::compile;
use crate::cpu::target::Target;
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
