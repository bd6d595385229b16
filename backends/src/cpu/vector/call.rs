//! What a kernel is given by the code around it.

use crate::cpu::vkir::Element;
use crate::cpu::vkir::{Addr, Builder, IReg, Kernel, VReg};
use mixc_ir::expr::{Expr, SlowId, TileId, Var};
use mixc_ir::tile::Extent;

/// An integer argument.
#[derive(Clone, Debug, PartialEq)]
pub enum Argument {
    /// Address of the element (0, 0) of a tile.
    Tile(TileId),
    /// Elements present along an axis.
    Count(Extent),
    /// Address of an element of a tensor.
    Address(SlowId, Vec<Expr>),
    /// An integer.
    Int(Expr),
    /// Address of the real arguments.
    Floats,
}

/// A real argument, in memory behind [`Argument::Floats`].
#[derive(Clone, Debug, PartialEq)]
pub enum FloatArgument {
    /// A real expression.
    Real(Expr),
    /// An integer, as a real.
    Int(Expr),
    /// An integer limited to plus or minus this, which keeps its sign.
    Clamped(Expr, i64),
    /// 1 or 0.
    Condition(Expr),
}

/// A kernel with what it is called with.
#[derive(Clone, Debug)]
pub struct Call {
    /// The kernel.
    pub kernel: Kernel,
    /// Its integer arguments, by slot.
    pub arguments: Vec<Argument>,
    /// Its real arguments.
    pub floats: Vec<FloatArgument>,
    /// When the kernel is called once for each index of an axis: the axis's variable and length.
    pub each: Option<(Var, Extent)>,
}

/// Arguments as they are asked for; equal ones share a slot.
#[derive(Debug, Default)]
pub struct Arguments {
    /// Integer arguments.
    pub ints: Vec<Argument>,
    registers: Vec<IReg>,
    /// Real arguments.
    pub floats: Vec<FloatArgument>,
}

/// Most argument slots of a kernel.
pub const SLOTS: usize = 48;

impl Arguments {
    /// The register that holds an argument. To be asked for outside of loops only, where it is first asked for.
    pub fn int(&mut self, b: &mut Builder, argument: Argument) -> IReg {
        if let Some(k) = self.ints.iter().position(|a| *a == argument) {
            return self.registers[k];
        }
        let register = b.arg(self.ints.len());
        self.ints.push(argument);
        self.registers.push(register);
        register
    }

    /// The number of a real argument.
    pub fn float(&mut self, argument: FloatArgument) -> usize {
        match self.floats.iter().position(|a| *a == argument) {
            Some(k) => k,
            None => {
                self.floats.push(argument);
                self.floats.len() - 1
            }
        }
    }

    /// A real argument in all lanes; [`Argument::Floats`] must have been asked for.
    pub fn broadcast(&mut self, b: &mut Builder, float: usize) -> VReg {
        let base = self.int(b, Argument::Floats);
        b.broadcast(Addr::new(base).offset(4 * float as i32), Element::F32)
    }
}
