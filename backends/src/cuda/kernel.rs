//! What the host has to know of a kernel in a program's text.

/// One kernel: `MX_KERNEL(name, threads)(words parameters)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kernel {
    /// Its name in the text.
    pub name: String,
    /// Threads of a block: a multiple of 32, at most 1024.
    pub threads: u32,
    /// Bytes of dynamic shared memory that a block gets.
    pub shared_bytes: u32,
    /// Parameters, each a word of 8 bytes.
    pub words: usize,
}
