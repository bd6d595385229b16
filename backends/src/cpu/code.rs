//! Writing Cranelift functions in structured form: arithmetic, branches, counted loops, calls of the local function
//! library. What cannot be generated is remembered as the first error and reported when the function is finished, so
//! that emission reads as straight-line code.

use super::functions::{Function, Library};
use super::module::CodeError;
use super::target::Target;
use super::vkir::Kernel;
use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::{
    BlockArg, FuncRef, InstBuilder, MemFlagsData, StackSlotData, StackSlotKind, Type, Value, types,
};
use cranelift_frontend::{FunctionBuilder, Variable};
use cranelift_module::{DataDescription, DataId, FuncId, Linkage, Module};
use std::collections::BTreeMap;

/// Memory accesses that do not trap and assume no alignment.
pub fn plain() -> MemFlagsData {
    MemFlagsData::new().with_notrap()
}

/// A function under construction.
pub struct Code<'a, 'f> {
    /// Cranelift's own builder, for what has no shorthand here.
    pub b: &'a mut FunctionBuilder<'f>,
    /// Where other functions and data are declared.
    pub module: &'a mut dyn Module,
    library: &'a mut Library,
    params: Vec<Value>,
    imported: BTreeMap<u32, FuncRef>,
    error: Option<CodeError>,
}

macro_rules! binary_operations {
    ($($name:ident)*) => {
        $(
            #[doc = concat!("`", stringify!($name), " a, b`")]
            pub fn $name(&mut self, a: Value, b: Value) -> Value {
                self.b.ins().$name(a, b)
            }
        )*
    };
}

macro_rules! unary_operations {
    ($($name:ident)*) => {
        $(
            #[doc = concat!("`", stringify!($name), " a`")]
            pub fn $name(&mut self, a: Value) -> Value {
                self.b.ins().$name(a)
            }
        )*
    };
}

macro_rules! immediate_operations {
    ($($name:ident = $instruction:ident)*) => {
        $(
            #[doc = concat!("`", stringify!($name), " a, n`, the constant sign-extended")]
            pub fn $name(&mut self, a: Value, n: i64) -> Value {
                self.b.ins().$instruction(a, n)
            }
        )*
    };
}

macro_rules! conversions {
    ($($name:ident)*) => {
        $(
            #[doc = concat!("`", stringify!($name), ".to a`")]
            pub fn $name(&mut self, to: Type, a: Value) -> Value {
                self.b.ins().$name(to, a)
            }
        )*
    };
}

impl<'a, 'f> Code<'a, 'f> {
    /// Goes on where `b` stands: in the entry block.
    pub fn new(b: &'a mut FunctionBuilder<'f>, module: &'a mut dyn Module, library: &'a mut Library) -> Code<'a, 'f> {
        let params = b.current_block().map(|entry| b.block_params(entry).to_vec()).unwrap_or_default();
        Code { b, module, library, params, imported: BTreeMap::new(), error: None }
    }

    /// Seals all blocks; the first error, if there was one.
    pub fn finish(self) -> Result<(), CodeError> {
        self.b.seal_all_blocks();
        match self.error {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    /// Remembers an error; the first one counts.
    pub fn fail(&mut self, error: CodeError) {
        self.error.get_or_insert(error);
    }

    binary_operations! {
        iadd isub imul band bor bxor ishl ushr smin smax sdiv srem smulhi umulhi fadd fsub fmul fdiv fmin
        fmax fcopysign
    }
    unary_operations! { ineg fneg fabs sqrt }
    immediate_operations! {
        iadd_imm = iadd_imm_s
        imul_imm = imul_imm_s
        band_imm = band_imm_s
        bor_imm = bor_imm_s
        bxor_imm = bxor_imm_s
        ishl_imm = ishl_imm_s
        sshr_imm = sshr_imm_s
        ushr_imm = ushr_imm_s
    }
    conversions! { fpromote fdemote fcvt_to_sint_sat fcvt_from_sint sextend uextend ireduce }

    /// The parameter `k` of the function.
    pub fn param(&self, k: usize) -> Value {
        self.params[k]
    }

    /// A 64-bit integer.
    pub fn int(&mut self, n: i64) -> Value {
        self.b.ins().iconst(types::I64, n)
    }

    /// An integer of a chosen width.
    pub fn int_of(&mut self, ty: Type, n: i64) -> Value {
        self.b.ins().iconst(ty, n)
    }

    /// A boolean: one byte, 0 or 1.
    pub fn bool(&mut self, b: bool) -> Value {
        self.b.ins().iconst(types::I8, i64::from(b))
    }

    /// A real of type F32 or F64.
    pub fn float(&mut self, ty: Type, x: f64) -> Value {
        if ty == types::F32 { self.b.ins().f32const(x as f32) } else { self.b.ins().f64const(x) }
    }

    /// Integer comparison.
    pub fn icmp(&mut self, cc: IntCC, a: Value, b: Value) -> Value {
        self.b.ins().icmp(cc, a, b)
    }

    /// Integer comparison with a constant.
    pub fn icmp_imm(&mut self, cc: IntCC, a: Value, n: i64) -> Value {
        self.b.ins().icmp_imm_s(cc, a, n)
    }

    /// Comparison of reals.
    pub fn fcmp(&mut self, cc: FloatCC, a: Value, b: Value) -> Value {
        self.b.ins().fcmp(cc, a, b)
    }

    /// `c ? a : b`, both evaluated.
    pub fn select(&mut self, c: Value, a: Value, b: Value) -> Value {
        self.b.ins().select(c, a, b)
    }

    /// The same bits as another type of the same size.
    pub fn bitcast(&mut self, to: Type, a: Value) -> Value {
        self.b.ins().bitcast(to, MemFlagsData::new(), a)
    }

    /// Reads memory.
    pub fn load(&mut self, ty: Type, address: Value, offset: i32) -> Value {
        self.b.ins().load(ty, plain(), address, offset)
    }

    /// Writes memory.
    pub fn store(&mut self, value: Value, address: Value, offset: i32) {
        self.b.ins().store(plain(), value, address, offset);
    }

    /// Reads a byte as a 64-bit integer.
    pub fn load_byte(&mut self, address: Value) -> Value {
        self.b.ins().uload8(types::I64, plain(), address, 0)
    }

    /// The polynomial in x, lowest coefficient first, by Horner's rule.
    pub fn polynomial(&mut self, x: Value, coefficients: &[f64]) -> Value {
        let ty = self.b.func.dfg.value_type(x);
        let (last, rest) = coefficients.split_last().expect("a polynomial has a coefficient");
        let mut sum = self.float(ty, *last);
        for c in rest.iter().rev() {
            let product = self.fmul(sum, x);
            let c = self.float(ty, *c);
            sum = self.fadd(product, c);
        }
        sum
    }

    /// The same with fewer steps one after the other, but not always its last bit: pairs of neighbours first, then pairs
    /// of these with the square of x, and so on (Estrin's scheme).
    pub fn polynomial_in_pairs(&mut self, x: Value, coefficients: &[f64]) -> Value {
        let ty = self.b.func.dfg.value_type(x);
        let mut parts: Vec<Value> = coefficients.iter().map(|c| self.float(ty, *c)).collect();
        let mut power = x;
        while parts.len() > 1 {
            let pair = |f: &mut Self, pair: &[Value]| match *pair {
                [low, high] => {
                    let high = f.fmul(high, power);
                    f.fadd(low, high)
                }
                _ => pair[0],
            };
            parts = parts.chunks(2).map(|p| pair(self, p)).collect();
            if parts.len() > 1 {
                power = self.fmul(power, power);
            }
        }
        parts[0]
    }

    // ---- control ----

    /// A mutable local.
    pub fn var(&mut self, init: Value) -> Variable {
        let var = self.b.declare_var(self.b.func.dfg.value_type(init));
        self.b.def_var(var, init);
        var
    }

    /// Reads a local.
    pub fn get(&mut self, var: Variable) -> Value {
        self.b.use_var(var)
    }

    /// Writes a local.
    pub fn set(&mut self, var: Variable, value: Value) {
        self.b.def_var(var, value);
    }

    /// Runs one of two pieces.
    pub fn if_else(&mut self, c: Value, then: impl FnOnce(&mut Self), otherwise: impl FnOnce(&mut Self)) {
        let (yes, no, after) = (self.b.create_block(), self.b.create_block(), self.b.create_block());
        self.b.ins().brif(c, yes, &[], no, &[]);
        self.b.switch_to_block(yes);
        then(self);
        self.b.ins().jump(after, &[]);
        self.b.switch_to_block(no);
        otherwise(self);
        self.b.ins().jump(after, &[]);
        self.b.switch_to_block(after);
    }

    /// Runs a piece where `c` holds.
    pub fn if_(&mut self, c: Value, then: impl FnOnce(&mut Self)) {
        self.if_else(c, then, |_| {});
    }

    /// The value of one of two pieces, only one of which runs.
    pub fn choose(
        &mut self,
        c: Value,
        ty: Type,
        then: impl FnOnce(&mut Self) -> Value,
        otherwise: impl FnOnce(&mut Self) -> Value,
    ) -> Value {
        let (yes, no, after) = (self.b.create_block(), self.b.create_block(), self.b.create_block());
        let result = self.b.append_block_param(after, ty);
        self.b.ins().brif(c, yes, &[], no, &[]);
        self.b.switch_to_block(yes);
        let value = then(self);
        self.b.ins().jump(after, &[BlockArg::Value(value)]);
        self.b.switch_to_block(no);
        let value = otherwise(self);
        self.b.ins().jump(after, &[BlockArg::Value(value)]);
        self.b.switch_to_block(after);
        result
    }

    /// Repeats `body` while `c` gives true.
    pub fn while_(&mut self, c: impl FnOnce(&mut Self) -> Value, body: impl FnOnce(&mut Self)) {
        let (head, inside, after) = (self.b.create_block(), self.b.create_block(), self.b.create_block());
        self.b.ins().jump(head, &[]);
        self.b.switch_to_block(head);
        let go_on = c(self);
        self.b.ins().brif(go_on, inside, &[], after, &[]);
        self.b.switch_to_block(inside);
        body(self);
        self.b.ins().jump(head, &[]);
        self.b.switch_to_block(after);
    }

    /// `for i in from..to step step`; `step` positive.
    pub fn for_step(&mut self, from: Value, to: Value, step: i64, body: impl FnOnce(&mut Self, Value)) {
        let (head, inside, after) = (self.b.create_block(), self.b.create_block(), self.b.create_block());
        let i = self.b.append_block_param(head, types::I64);
        self.b.ins().jump(head, &[BlockArg::Value(from)]);
        self.b.switch_to_block(head);
        let go_on = self.icmp(IntCC::SignedLessThan, i, to);
        self.b.ins().brif(go_on, inside, &[], after, &[]);
        self.b.switch_to_block(inside);
        body(self, i);
        let next = self.iadd_imm(i, step);
        self.b.ins().jump(head, &[BlockArg::Value(next)]);
        self.b.switch_to_block(after);
    }

    /// `for i in 0..count`.
    pub fn for_count(&mut self, count: Value, body: impl FnOnce(&mut Self, Value)) {
        let zero = self.int(0);
        self.for_step(zero, count, 1, body);
    }

    /// Leaves the function; what is emitted afterwards is never run.
    pub fn return_(&mut self, values: &[Value]) {
        self.b.ins().return_(values);
        let unreachable = self.b.create_block();
        self.b.switch_to_block(unreachable);
    }

    /// Leaves the function, which returns one i32, with `code` where `c` holds.
    pub fn return_if(&mut self, c: Value, code: i32) {
        self.if_(c, |f| {
            let code = f.int_of(types::I32, i64::from(code));
            f.return_(&[code]);
        });
    }

    // ---- calls and data ----

    /// The function in a form that this one can call.
    pub fn import(&mut self, function: FuncId) -> FuncRef {
        if let Some(known) = self.imported.get(&function.as_u32()) {
            return *known;
        }
        let reference = self.module.declare_func_in_func(function, self.b.func);
        self.imported.insert(function.as_u32(), reference);
        reference
    }

    /// Calls a function with one result.
    pub fn call(&mut self, function: FuncId, args: &[Value]) -> Value {
        let reference = self.import(function);
        let call = self.b.ins().call(reference, args);
        self.b.inst_results(call)[0]
    }

    /// Calls a function without result.
    pub fn call_void(&mut self, function: FuncId, args: &[Value]) {
        let reference = self.import(function);
        self.b.ins().call(reference, args);
    }

    /// Calls a function of the library, which is defined in the module when first used.
    pub fn library(&mut self, function: Function, args: &[Value]) -> Value {
        match self.library.get(self.module, function) {
            Ok(id) => self.call(id, args),
            Err(error) => {
                self.fail(error);
                args[0]
            }
        }
    }

    /// A vector kernel as a function of this module; equal ones are one function.
    pub fn kernel(&mut self, target: &Target, kernel: &Kernel) -> Option<FuncId> {
        match self.library.kernel(self.module, target, kernel) {
            Ok(id) => Some(id),
            Err(error) => {
                self.fail(error);
                None
            }
        }
    }

    /// The address of read-only data.
    pub fn data(&mut self, data: DataId) -> Value {
        let global = self.module.declare_data_in_func(data, self.b.func);
        let pointer = self.module.isa().pointer_type();
        self.b.ins().symbol_value(pointer, global)
    }

    /// The address of `words` eight-byte words of the stack, aligned to 16 bytes.
    pub fn stack(&mut self, words: usize) -> Value {
        let bytes = (words.max(1) * 8) as u32;
        let slot = self.b.create_sized_stack_slot(StackSlotData::new(StackSlotKind::ExplicitSlot, bytes, 4));
        self.b.ins().stack_addr(types::I64, slot, 0)
    }
}

/// Puts bytes into the module as read-only data without a public name.
pub fn define_data(module: &mut dyn Module, name: &str, bytes: Vec<u8>, align: u64) -> Result<DataId, CodeError> {
    let id = module.declare_data(name, Linkage::Local, false, false)?;
    let mut description = DataDescription::new();
    description.define(bytes.into_boxed_slice());
    description.set_align(align);
    module.define_data(id, &description)?;
    Ok(id)
}
