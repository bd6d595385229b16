//! A byte buffer with labels and a constant pool, over the instruction encoder.
//!
//! The code is position independent and needs no relocation: constants stand behind it and are addressed relative to
//! the instruction pointer. Jumps are always 32 bits wide, so one pass suffices.

use crate::cpu::vkir::EmitError;
use iced_x86::{Code, Encoder, Instruction, MemoryOperand, Register};
use std::collections::BTreeMap;

/// A place in the code, perhaps not known yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Label(usize);

struct Fixup {
    /// Offset of the 32-bit displacement.
    at: usize,
    /// Offset of the next instruction.
    next: usize,
    label: usize,
}

pub(super) struct Assembler {
    encoder: Encoder,
    position: usize,
    labels: Vec<Option<usize>>,
    fixups: Vec<Fixup>,
    pool: BTreeMap<Vec<u32>, usize>,
    /// In order of first use.
    pool_order: Vec<Vec<u32>>,
}

impl Assembler {
    pub fn new() -> Assembler {
        Assembler {
            encoder: Encoder::new(64),
            position: 0,
            labels: Vec::new(),
            fixups: Vec::new(),
            pool: BTreeMap::new(),
            pool_order: Vec::new(),
        }
    }

    pub fn label(&mut self) -> Label {
        self.labels.push(None);
        Label(self.labels.len() - 1)
    }

    /// Puts a label here.
    pub fn bind(&mut self, label: Label) {
        self.labels[label.0] = Some(self.position);
    }

    /// The address of a constant behind the code.
    pub fn constant(&mut self, words: &[u32], broadcast: bool) -> MemoryOperand {
        let label = match self.pool.get(words) {
            Some(&label) => label,
            None => {
                let Label(label) = self.label();
                self.pool.insert(words.to_vec(), label);
                self.pool_order.push(words.to_vec());
                label
            }
        };
        // the label number rides in the address until `emit` takes it out again
        MemoryOperand::new(Register::RIP, Register::None, 1, label as i64, 8, broadcast, Register::None)
    }

    fn encode(&mut self, instruction: &Instruction) -> Result<usize, EmitError> {
        let length = self
            .encoder
            .encode(instruction, 0)
            .map_err(|error| EmitError::Encoding(format!("{:?}: {error}", instruction.code())))?;
        self.position += length;
        Ok(length)
    }

    /// Appends an instruction.
    pub fn emit(&mut self, instruction: Result<Instruction, iced_x86::IcedError>) -> Result<(), EmitError> {
        let instruction = instruction.map_err(|error| EmitError::Encoding(error.to_string()))?;
        let start = self.position;
        self.encode(&instruction)?;
        if instruction.is_ip_rel_memory_operand() {
            let at = start + self.encoder.get_constant_offsets().displacement_offset();
            let label = instruction.ip_rel_memory_address() as usize;
            self.fixups.push(Fixup { at, next: self.position, label });
        }
        Ok(())
    }

    /// Appends a jump; `code` is one of the `..._rel32_64` forms.
    pub fn jump(&mut self, code: Code, label: Label) -> Result<(), EmitError> {
        let instruction = Instruction::with_branch(code, 0).map_err(|error| EmitError::Encoding(error.to_string()))?;
        self.encode(&instruction)?;
        self.fixups.push(Fixup { at: self.position - 4, next: self.position, label: label.0 });
        Ok(())
    }

    /// The finished code with its constants, vectors aligned to 64 bytes from the start.
    pub fn finish(mut self) -> Result<Vec<u8>, EmitError> {
        let mut bytes = self.encoder.take_buffer();
        // wide constants first, so that the single words behind them need no padding
        let mut order = std::mem::take(&mut self.pool_order);
        order.sort_by_key(|words| std::cmp::Reverse(words.len()));
        if !order.is_empty() {
            bytes.resize(bytes.len().next_multiple_of(64), 0xcc);
        }
        for words in &order {
            let label = self.pool[words];
            self.labels[label] = Some(bytes.len());
            for word in words {
                bytes.extend_from_slice(&word.to_le_bytes());
            }
        }
        for fixup in &self.fixups {
            let target = self.labels[fixup.label].ok_or(EmitError::Malformed("a jump to a label that is nowhere"))?;
            let distance = (target as i64 - fixup.next as i64) as i32;
            bytes[fixup.at..fixup.at + 4].copy_from_slice(&distance.to_le_bytes());
        }
        Ok(bytes)
    }
}
