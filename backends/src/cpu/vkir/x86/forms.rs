//! Instruction forms: which encoding stands for which operation at 512 and at 256 bits.

use crate::cpu::vkir::ir::{BinaryOp, Condition, FmaForm, ReduceOp, ShiftOp, UnaryOp};
use iced_x86::Code;

/// The three-operand form of `op`: AVX-512, then AVX2.
pub(super) fn binary(op: BinaryOp) -> (Code, Code) {
    match op {
        BinaryOp::Add => (Code::EVEX_Vaddps_zmm_k1z_zmm_zmmm512b32_er, Code::VEX_Vaddps_ymm_ymm_ymmm256),
        BinaryOp::Sub => (Code::EVEX_Vsubps_zmm_k1z_zmm_zmmm512b32_er, Code::VEX_Vsubps_ymm_ymm_ymmm256),
        BinaryOp::Mul => (Code::EVEX_Vmulps_zmm_k1z_zmm_zmmm512b32_er, Code::VEX_Vmulps_ymm_ymm_ymmm256),
        BinaryOp::Div => (Code::EVEX_Vdivps_zmm_k1z_zmm_zmmm512b32_er, Code::VEX_Vdivps_ymm_ymm_ymmm256),
        BinaryOp::Max => (Code::EVEX_Vmaxps_zmm_k1z_zmm_zmmm512b32_sae, Code::VEX_Vmaxps_ymm_ymm_ymmm256),
        BinaryOp::Min => (Code::EVEX_Vminps_zmm_k1z_zmm_zmmm512b32_sae, Code::VEX_Vminps_ymm_ymm_ymmm256),
        BinaryOp::IntAdd => (Code::EVEX_Vpaddd_zmm_k1z_zmm_zmmm512b32, Code::VEX_Vpaddd_ymm_ymm_ymmm256),
        BinaryOp::IntSub => (Code::EVEX_Vpsubd_zmm_k1z_zmm_zmmm512b32, Code::VEX_Vpsubd_ymm_ymm_ymmm256),
        BinaryOp::And => (Code::EVEX_Vpandd_zmm_k1z_zmm_zmmm512b32, Code::VEX_Vpand_ymm_ymm_ymmm256),
        BinaryOp::Or => (Code::EVEX_Vpord_zmm_k1z_zmm_zmmm512b32, Code::VEX_Vpor_ymm_ymm_ymmm256),
        BinaryOp::Xor => (Code::EVEX_Vpxord_zmm_k1z_zmm_zmmm512b32, Code::VEX_Vpxor_ymm_ymm_ymmm256),
    }
}

/// The arithmetic step of a reduction.
pub(super) fn reduce(op: ReduceOp) -> (Code, Code) {
    binary(match op {
        ReduceOp::Sum => BinaryOp::Add,
        ReduceOp::Max => BinaryOp::Max,
        ReduceOp::Min => BinaryOp::Min,
    })
}

/// Multiply-add forms: 231 adds to the product, 213 multiplies the destination.
pub(super) fn fma(form: FmaForm) -> (Code, Code) {
    match form {
        FmaForm::Accumulate => {
            (Code::EVEX_Vfmadd231ps_zmm_k1z_zmm_zmmm512b32_er, Code::VEX_Vfmadd231ps_ymm_ymm_ymmm256)
        }
        FmaForm::Subtract => {
            (Code::EVEX_Vfnmadd231ps_zmm_k1z_zmm_zmmm512b32_er, Code::VEX_Vfnmadd231ps_ymm_ymm_ymmm256)
        }
        FmaForm::Horner => (Code::EVEX_Vfmadd213ps_zmm_k1z_zmm_zmmm512b32_er, Code::VEX_Vfmadd213ps_ymm_ymm_ymmm256),
        FmaForm::HornerSub => (Code::EVEX_Vfmsub213ps_zmm_k1z_zmm_zmmm512b32_er, Code::VEX_Vfmsub213ps_ymm_ymm_ymmm256),
        FmaForm::HornerNeg => {
            (Code::EVEX_Vfnmadd213ps_zmm_k1z_zmm_zmmm512b32_er, Code::VEX_Vfnmadd213ps_ymm_ymm_ymmm256)
        }
    }
}

/// Shifts by an immediate.
pub(super) fn shift(op: ShiftOp) -> (Code, Code) {
    match op {
        ShiftOp::Left => (Code::EVEX_Vpslld_zmm_k1z_zmmm512b32_imm8, Code::VEX_Vpslld_ymm_ymm_imm8),
        ShiftOp::Logical => (Code::EVEX_Vpsrld_zmm_k1z_zmmm512b32_imm8, Code::VEX_Vpsrld_ymm_ymm_imm8),
        ShiftOp::Arithmetic => (Code::EVEX_Vpsrad_zmm_k1z_zmmm512b32_imm8, Code::VEX_Vpsrad_ymm_ymm_imm8),
    }
}

/// Forms with one vector operand and no immediate.
pub(super) fn unary(op: UnaryOp) -> Option<(Code, Code)> {
    match op {
        UnaryOp::Sqrt => Some((Code::EVEX_Vsqrtps_zmm_k1z_zmmm512b32_er, Code::VEX_Vsqrtps_ymm_ymmm256)),
        UnaryOp::ToInt => Some((Code::EVEX_Vcvttps2dq_zmm_k1z_zmmm512b32_sae, Code::VEX_Vcvttps2dq_ymm_ymmm256)),
        UnaryOp::ToFloat => Some((Code::EVEX_Vcvtdq2ps_zmm_k1z_zmmm512b32_er, Code::VEX_Vcvtdq2ps_ymm_ymmm256)),
        UnaryOp::Neg | UnaryOp::Abs => None,
        UnaryOp::Floor | UnaryOp::Ceil | UnaryOp::Trunc | UnaryOp::Nearest => None,
    }
}

/// The immediate of the rounding instructions: mode, with inexactness not reported.
pub(super) fn rounding(op: UnaryOp) -> Option<i32> {
    match op {
        UnaryOp::Nearest => Some(8),
        UnaryOp::Floor => Some(9),
        UnaryOp::Ceil => Some(10),
        UnaryOp::Trunc => Some(11),
        _ => None,
    }
}

/// The predicate of the comparison instructions, quiet forms.
pub(super) fn predicate(condition: Condition) -> i32 {
    match condition {
        Condition::Eq => 0x00,
        Condition::Ne => 0x04,
        Condition::Lt => 0x11,
        Condition::Le => 0x12,
        Condition::Ge => 0x1d,
        Condition::Gt => 0x1e,
    }
}
