//! Expressions written with the signs of arithmetic.

use super::{Binary, Expr, Unary};

impl std::ops::Add for Expr {
    type Output = Expr;
    fn add(self, other: Expr) -> Expr {
        Expr::binary(Binary::Add, self, other)
    }
}
impl std::ops::Sub for Expr {
    type Output = Expr;
    fn sub(self, other: Expr) -> Expr {
        Expr::binary(Binary::Sub, self, other)
    }
}
impl std::ops::Mul for Expr {
    type Output = Expr;
    fn mul(self, other: Expr) -> Expr {
        Expr::binary(Binary::Mul, self, other)
    }
}
impl std::ops::Div for Expr {
    type Output = Expr;
    fn div(self, other: Expr) -> Expr {
        Expr::binary(Binary::Div, self, other)
    }
}
impl std::ops::Not for Expr {
    type Output = Expr;
    fn not(self) -> Expr {
        Expr::unary(Unary::Not, self)
    }
}
impl std::ops::Neg for Expr {
    type Output = Expr;
    fn neg(self) -> Expr {
        Expr::unary(Unary::Neg, self)
    }
}
