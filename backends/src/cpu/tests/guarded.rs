//! Memory between two pages that no one may touch: an access outside a tensor stops the test.

/// Bytes that end (or start) exactly at a forbidden page.
pub struct Guarded {
    map: *mut u8,
    mapped: usize,
    offset: usize,
    len: usize,
}

const PAGE: usize = 4096;

impl Guarded {
    /// `len` zero bytes, at the end of the readable pages or at their start.
    pub fn new(len: usize, at_end: bool) -> Guarded {
        let inner = len.div_ceil(PAGE).max(1) * PAGE;
        let mapped = inner + 2 * PAGE;
        // SAFETY: a fresh anonymous mapping; its first and last page are made inaccessible.
        let map = unsafe {
            let map = libc::mmap(
                std::ptr::null_mut(),
                mapped,
                libc::PROT_NONE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            );
            assert_ne!(map, libc::MAP_FAILED);
            let map = map.cast::<u8>();
            assert_eq!(libc::mprotect(map.add(PAGE).cast(), inner, libc::PROT_READ | libc::PROT_WRITE), 0);
            map
        };
        let offset = if at_end { PAGE + inner - len } else { PAGE };
        Guarded { map, mapped, offset, len }
    }

    pub fn holding(bytes: &[u8], at_end: bool) -> Guarded {
        let mut memory = Guarded::new(bytes.len(), at_end);
        memory.bytes_mut().copy_from_slice(bytes);
        memory
    }

    pub fn bytes(&self) -> &[u8] {
        // SAFETY: inside the accessible pages, owned by this value.
        unsafe { std::slice::from_raw_parts(self.map.add(self.offset), self.len) }
    }

    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.map.add(self.offset), self.len) }
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        // SAFETY: the mapping made in `new`.
        unsafe { libc::munmap(self.map.cast(), self.mapped) };
    }
}
