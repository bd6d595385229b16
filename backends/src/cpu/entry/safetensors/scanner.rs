//! Pieces of a JSON text: white space, strings, numbers, values to be passed over.
//!
//! A position is an address; 0 stands for "malformed".

use crate::cpu::code::Code;
use crate::cpu::functions::Library;
use crate::cpu::module::{CodeError, define_clif};
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{AbiParam, Value, types};
use cranelift_module::{FuncId, Linkage, Module};

/// The parts of the scanner, each a function of the module.
pub(super) struct Scanner {
    skip_space: FuncId,
    pub(super) skip_string: FuncId,
    pub(super) skip_value: FuncId,
    number: FuncId,
}

/// Defines a function of `params` words with one word as its result.
pub(super) fn function(
    module: &mut dyn Module,
    library: &mut Library,
    name: &str,
    params: usize,
    body: impl FnOnce(&mut Code),
) -> Result<FuncId, CodeError> {
    let mut signature = module.make_signature();
    signature.params = vec![AbiParam::new(types::I64); params];
    signature.returns = vec![AbiParam::new(types::I64)];
    define_clif(module, name, Linkage::Local, signature, |b, module| {
        let mut f = Code::new(b, module, library);
        body(&mut f);
        f.finish()
    })
}

/// The byte at `at`, or -1 at the end.
pub(super) fn peek(f: &mut Code, at: Value, end: Value) -> Value {
    let inside = f.icmp(IntCC::UnsignedLessThan, at, end);
    f.choose(inside, types::I64, |f| f.load_byte(at), |f| f.int(-1))
}

/// Leaves with "malformed" where `c` holds.
pub(super) fn malformed_if(f: &mut Code, c: Value) {
    f.if_(c, |f| {
        let zero = f.int(0);
        f.return_(&[zero]);
    });
}

/// Leaves with "malformed" unless `byte` stands at `at`; the position after it.
pub(super) fn expect(f: &mut Code, at: Value, end: Value, byte: u8) -> Value {
    let found = peek(f, at, end);
    let other = f.icmp_imm(IntCC::NotEqual, found, i64::from(byte));
    malformed_if(f, other);
    f.iadd_imm(at, 1)
}

/// Whether `text` (of `length` bytes, at an address) equals the bytes from `from` to `to`.
pub(super) fn equals(f: &mut Code, from: Value, to: Value, text: Value, length: Value) -> Value {
    let have = f.isub(to, from);
    let same = f.icmp(IntCC::Equal, have, length);
    let result = f.var(same);
    f.if_(same, |f| {
        f.for_count(length, |f, k| {
            let (a, b) = (f.iadd(from, k), f.iadd(text, k));
            let (a, b) = (f.load_byte(a), f.load_byte(b));
            let same = f.icmp(IntCC::Equal, a, b);
            let so_far = f.get(result);
            let so_far = f.band(so_far, same);
            f.set(result, so_far);
        });
    });
    f.get(result)
}

/// Whether the bytes from `from` to `to` are this short word.
pub(super) fn is_word(f: &mut Code, from: Value, to: Value, word: &str) -> Value {
    let have = f.isub(to, from);
    let same = f.icmp_imm(IntCC::Equal, have, word.len() as i64);
    f.choose(
        same,
        types::I8,
        |f| {
            let mut all = f.bool(true);
            for (k, byte) in word.bytes().enumerate() {
                let at = f.iadd_imm(from, k as i64);
                let found = f.load_byte(at);
                let here = f.icmp_imm(IntCC::Equal, found, i64::from(byte));
                all = f.band(all, here);
            }
            all
        },
        |f| f.bool(false),
    )
}

impl Scanner {
    pub(super) fn define(module: &mut dyn Module, library: &mut Library) -> Result<Scanner, CodeError> {
        let skip_space = function(module, library, "mixc_skip_space", 2, |f| {
            let (at, end) = (f.param(0), f.param(1));
            let at = f.var(at);
            f.while_(
                |f| {
                    let at = f.get(at);
                    let byte = peek(f, at, end);
                    let mut space = f.bool(false);
                    for c in [b' ', b'\t', b'\n', b'\r'] {
                        let this = f.icmp_imm(IntCC::Equal, byte, i64::from(c));
                        space = f.bor(space, this);
                    }
                    space
                },
                |f| {
                    let next = f.get(at);
                    let next = f.iadd_imm(next, 1);
                    f.set(at, next);
                },
            );
            let at = f.get(at);
            f.return_(&[at]);
        })?;
        // From the byte after the opening quote to the closing one.
        let skip_string = function(module, library, "mixc_skip_string", 2, |f| {
            let (at, end) = (f.param(0), f.param(1));
            let at = f.var(at);
            f.while_(
                |f| {
                    let at = f.get(at);
                    let byte = peek(f, at, end);
                    let over = f.icmp_imm(IntCC::Equal, byte, -1);
                    malformed_if(f, over);
                    f.icmp_imm(IntCC::NotEqual, byte, i64::from(b'"'))
                },
                |f| {
                    let here = f.get(at);
                    let byte = f.load_byte(here);
                    let escape = f.icmp_imm(IntCC::Equal, byte, i64::from(b'\\'));
                    let (one, two) = (f.int(1), f.int(2));
                    let step = f.select(escape, two, one);
                    let next = f.iadd(here, step);
                    f.set(at, next);
                },
            );
            let at = f.get(at);
            f.return_(&[at]);
        })?;
        // Any value: everything up to the comma or closing bracket that ends it.
        let skip_value = function(module, library, "mixc_skip_value", 2, |f| {
            let (at, end) = (f.param(0), f.param(1));
            let at = f.var(at);
            let zero = f.int(0);
            let depth = f.var(zero);
            f.while_(
                |f| {
                    let at = f.get(at);
                    let byte = peek(f, at, end);
                    let over = f.icmp_imm(IntCC::Equal, byte, -1);
                    malformed_if(f, over);
                    let depth = f.get(depth);
                    let outside = f.icmp_imm(IntCC::Equal, depth, 0);
                    let mut ends = f.bool(false);
                    for c in [b',', b'}', b']'] {
                        let this = f.icmp_imm(IntCC::Equal, byte, i64::from(c));
                        ends = f.bor(ends, this);
                    }
                    let ends = f.band(ends, outside);
                    f.bxor_imm(ends, 1)
                },
                |f| {
                    let here = f.get(at);
                    let byte = f.load_byte(here);
                    let quote = f.icmp_imm(IntCC::Equal, byte, i64::from(b'"'));
                    f.if_else(
                        quote,
                        |f| {
                            let inside = f.iadd_imm(here, 1);
                            let close = f.call(skip_string, &[inside, end]);
                            let broken = f.icmp_imm(IntCC::Equal, close, 0);
                            malformed_if(f, broken);
                            let next = f.iadd_imm(close, 1);
                            f.set(at, next);
                        },
                        |f| {
                            for (c, change) in [(b'{', 1), (b'[', 1), (b'}', -1), (b']', -1)] {
                                let this = f.icmp_imm(IntCC::Equal, byte, i64::from(c));
                                let (step, none) = (f.int(change), f.int(0));
                                let step = f.select(this, step, none);
                                let old = f.get(depth);
                                let new = f.iadd(old, step);
                                f.set(depth, new);
                            }
                            let next = f.iadd_imm(here, 1);
                            f.set(at, next);
                        },
                    );
                },
            );
            let at = f.get(at);
            f.return_(&[at]);
        })?;
        // A number without sign, below 2^60, written to the third argument; the position after it.
        let number = function(module, library, "mixc_number", 3, |f| {
            let (at, end, into) = (f.param(0), f.param(1), f.param(2));
            let first = peek(f, at, end);
            let below = f.icmp_imm(IntCC::SignedLessThan, first, i64::from(b'0'));
            let above = f.icmp_imm(IntCC::SignedGreaterThan, first, i64::from(b'9'));
            let none = f.bor(below, above);
            malformed_if(f, none);
            let at = f.var(at);
            let zero = f.int(0);
            let value = f.var(zero);
            f.while_(
                |f| {
                    let at = f.get(at);
                    let byte = peek(f, at, end);
                    let low = f.icmp_imm(IntCC::SignedGreaterThanOrEqual, byte, i64::from(b'0'));
                    let high = f.icmp_imm(IntCC::SignedLessThanOrEqual, byte, i64::from(b'9'));
                    f.band(low, high)
                },
                |f| {
                    let here = f.get(at);
                    let byte = f.load_byte(here);
                    let digit = f.iadd_imm(byte, -i64::from(b'0'));
                    let old = f.get(value);
                    let huge = f.icmp_imm(IntCC::SignedGreaterThan, old, (1 << 60) / 10 - 1);
                    malformed_if(f, huge);
                    let tens = f.imul_imm(old, 10);
                    let new = f.iadd(tens, digit);
                    f.set(value, new);
                    let next = f.iadd_imm(here, 1);
                    f.set(at, next);
                },
            );
            let value = f.get(value);
            f.store(value, into, 0);
            let at = f.get(at);
            f.return_(&[at]);
        })?;
        Ok(Scanner { skip_space, skip_string, skip_value, number })
    }

    pub(super) fn space(&self, f: &mut Code, at: Value, end: Value) -> Value {
        f.call(self.skip_space, &[at, end])
    }

    /// Calls a part that may find the text malformed.
    pub(super) fn part(&self, f: &mut Code, function: FuncId, args: &[Value]) -> Value {
        let at = f.call(function, args);
        let broken = f.icmp_imm(IntCC::Equal, at, 0);
        malformed_if(f, broken);
        at
    }

    /// `"key" :` at `at`: the key's bounds and the position of the value.
    pub(super) fn key(&self, f: &mut Code, at: Value, end: Value) -> (Value, Value, Value) {
        let at = self.space(f, at, end);
        let from = expect(f, at, end, b'"');
        let to = self.part(f, self.skip_string, &[from, end]);
        let at = f.iadd_imm(to, 1);
        let at = self.space(f, at, end);
        let at = expect(f, at, end, b':');
        (from, to, self.space(f, at, end))
    }

    /// The comma or closing bracket after an element: whether it was a comma, and the position after it.
    pub(super) fn more(&self, f: &mut Code, at: Value, end: Value, close: u8) -> (Value, Value) {
        let at = self.space(f, at, end);
        let byte = peek(f, at, end);
        let comma = f.icmp_imm(IntCC::Equal, byte, i64::from(b','));
        let closed = f.icmp_imm(IntCC::Equal, byte, i64::from(close));
        let either = f.bor(comma, closed);
        let neither = f.bxor_imm(either, 1);
        malformed_if(f, neither);
        (comma, f.iadd_imm(at, 1))
    }

    /// A list of up to `limit` numbers at `at`, written to `into` (eight bytes each), their count to `into - 8`; the
    /// position after it. Longer lists count as `limit + 1`.
    pub(super) fn numbers(&self, f: &mut Code, at: Value, end: Value, into: Value, limit: i64) -> Value {
        let zero = f.int(0);
        let count = f.var(zero);
        let at = expect(f, at, end, b'[');
        let at = self.space(f, at, end);
        let byte = peek(f, at, end);
        let empty = f.icmp_imm(IntCC::Equal, byte, i64::from(b']'));
        let after = f.iadd_imm(at, 1);
        let start = f.select(empty, after, at);
        let at = f.var(start);
        let some = f.bxor_imm(empty, 1);
        let go_on = f.var(some);
        f.while_(
            |f| f.get(go_on),
            |f| {
                let here = f.get(at);
                let here = self.space(f, here, end);
                let n = f.get(count);
                let most = f.int(limit);
                let slot = f.smin(n, most);
                let offset = f.ishl_imm(slot, 3);
                let slot = f.iadd(into, offset);
                let next = self.part(f, self.number, &[here, end, slot]);
                let n = f.iadd_imm(n, 1);
                let bound = f.int(limit + 1);
                let n = f.smin(n, bound);
                f.set(count, n);
                let (comma, next) = self.more(f, next, end, b']');
                f.set(go_on, comma);
                f.set(at, next);
            },
        );
        let count = f.get(count);
        f.store(count, into, -8);
        f.get(at)
    }
}
