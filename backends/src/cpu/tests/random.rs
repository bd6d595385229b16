//! Random tile programs on every emitter that this machine has.

use super::harness::{check_model, model_of};
use crate::cpu::compile;
use crate::cpu::target::Target;
use crate::cpu::vkir::Isa;
use crate::cpu::vkir::tests::Rng;
use crate::tests::random::random_program;
use mixc_ir::dim::DimValues;
use mixc_ir::expr::Expr;
use mixc_ir::tile::verify;

#[test]
fn random_programs_agree_with_the_interpreter() {
    let mut rng = Rng::new(7);
    for k in 0..150 {
        let mut program = random_program(&mut rng);
        program.name = format!("random{k}");
        let problems = verify(&program);
        assert!(problems.is_empty(), "{problems:?}\n{program:?}");

        let lowered = model_of(&program);
        // Every emitter that this machine has, in turn.
        let native = Target::native();
        let target =
            [native.isa(), Isa::Avx2, Isa::Clif].into_iter().cycle().nth(k).and_then(|isa| native.with_isa(isa));
        let target = target.unwrap_or(native);
        let model = compile(&lowered, &target).unwrap_or_else(|e| panic!("{}: {e}", program.name));
        for t in [0, 1, 7, 16, 29, 45] {
            let dims = DimValues::from([("T".into(), t)]);
            check_model(&model, &lowered, &program, &dims, &mut rng);
        }
    }
}

#[test]
#[should_panic(expected = "expected")]
fn a_planted_error_is_caught() {
    let mut rng = Rng::new(8);
    let program = random_program(&mut rng);
    let mut wrong = program.clone();
    if let Some(mixc_ir::tile::Stmt::Store { value, .. }) = wrong.body.last_mut() {
        *value = value.clone() + Expr::float(0.01);
    }
    let lowered = model_of(&program);
    let model = compile(&model_of(&wrong), &Target::native()).unwrap();
    check_model(&model, &lowered, &program, &DimValues::from([("T".into(), 5)]), &mut rng);
}
