//! Memory that starts on a cache line, as that of the programs does that kernels are compared with. A vector's memory
//! need not, and large ones never do: their first bytes follow the allocator's own.

/// Bytes of a cache line.
const LINE: usize = 64;

/// Bytes that start on a cache line.
#[derive(Debug)]
pub struct Lines {
    memory: Vec<u8>,
    start: usize,
    length: usize,
}

impl Lines {
    /// Zeros.
    pub fn zeros(length: usize) -> Lines {
        let memory = vec![0; length + LINE];
        // Where the allocator cannot tell, the start is as good as any other.
        let start = Some(memory.as_ptr().align_offset(LINE)).filter(|n| *n < LINE).unwrap_or(0);
        Lines { memory, start, length }
    }

    /// A copy.
    pub fn of(bytes: &[u8]) -> Lines {
        let mut lines = Lines::zeros(bytes.len());
        lines.bytes_mut().copy_from_slice(bytes);
        lines
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.memory[self.start..self.start + self.length]
    }

    /// The bytes, to be written.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..self.start + self.length]
    }
}
