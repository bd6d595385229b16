//! Masked and strided memory operations beside a page that must not be touched.

use super::*;
use std::ptr;

/// Two pages, of which the second faults on any access.
struct Guarded {
    start: *mut u8,
    page: usize,
}

impl Guarded {
    fn new() -> Guarded {
        // SAFETY: a fresh private mapping, then a protection change of its second half.
        unsafe {
            let page = libc::sysconf(libc::_SC_PAGESIZE) as usize;
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            let start = libc::mmap(ptr::null_mut(), 2 * page, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0);
            assert!(start != libc::MAP_FAILED);
            assert_eq!(libc::mprotect(start.cast::<u8>().add(page).cast(), page, libc::PROT_NONE), 0);
            Guarded { start: start.cast(), page }
        }
    }

    /// The last `bytes` bytes before the page that faults.
    fn end(&mut self, bytes: usize) -> &mut [u8] {
        assert!(bytes <= self.page);
        // SAFETY: the first page is readable, writable and owned.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(self.page - bytes), bytes) }
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        // SAFETY: the mapping made in `new`.
        unsafe { libc::munmap(self.start.cast(), 2 * self.page) };
    }
}

const ELEMENTS: [Element; 4] = [Element::F32, Element::Bf16, Element::F16, Element::U8];

/// Copies n elements: arguments are source, destination, n and, for the strided form, the stride.
fn copy_kernel(isa: Isa, element: Element, strided: bool) -> Kernel {
    let mut b = Builder::new("copy", isa, 4);
    let (from, to, n) = (Addr::new(b.arg(0)), Addr::new(b.arg(1)), b.arg(2));
    if strided {
        let stride = b.arg(3);
        let x = b.load_strided(from, stride, element, Some(n));
        b.store_strided(x, to, stride, element, Some(n));
    } else {
        let tail = b.tail(n);
        let x = b.load_as(from, element, Some(tail));
        b.store_as(x, to, element, Some(tail));
    }
    b.finish()
}

#[test]
fn masked_operations_stay_inside() {
    for target in targets() {
        let lanes = target.isa().lanes();
        for element in ELEMENTS {
            for strided in [false, true] {
                let compiled = compile(&target, &copy_kernel(target.isa(), element, strided)).unwrap();
                let stride = if strided { 7 + element.bytes() } else { element.bytes() };
                for n in 0..=lanes {
                    let bytes = if n == 0 { 0 } else { (n - 1) * stride + element.bytes() };
                    let (mut from, mut to) = (Guarded::new(), Guarded::new());
                    for (i, byte) in from.end(bytes).iter_mut().enumerate() {
                        // finite in every format, no subnormals
                        *byte = 0x35 ^ (i % 4) as u8;
                    }
                    // one byte more in front, to see that nothing moves
                    to.end(bytes + 1).fill(0xee);
                    let counts: &[i64] = if n == 0 { &[0, -1, i64::MIN, -(1 << 40)] } else { &[n as i64] };
                    for &count in counts {
                        let args =
                            [from.end(bytes).as_ptr() as i64, to.end(bytes).as_ptr() as i64, count, stride as i64];
                        // SAFETY: n elements lie before the guard pages; that no more is touched is the test.
                        unsafe { compiled.call(&args) };
                    }
                    let (want, got) = (from.end(bytes).to_vec(), to.end(bytes + 1).to_vec());
                    assert_eq!(got[0], 0xee);
                    for (i, (want, got)) in want.iter().zip(&got[1..]).enumerate() {
                        let copied = i % stride < element.bytes();
                        let expected = if copied { *want } else { 0xee };
                        assert_eq!(*got, expected, "{:?} {element:?} n {n} byte {i}", target.isa());
                    }
                }
            }
        }
    }
}

#[test]
fn a_count_above_the_lanes_means_all() {
    for target in targets() {
        let lanes = target.isa().lanes();
        for element in ELEMENTS {
            let compiled = compile(&target, &copy_kernel(target.isa(), element, false)).unwrap();
            for count in [lanes as i64, lanes as i64 + 1, 1 << 33, i64::MAX] {
                let bytes = lanes * element.bytes();
                let (mut from, mut to) = (Guarded::new(), Guarded::new());
                from.end(bytes).fill(0x35);
                // SAFETY: a full register of elements lies before the guard pages.
                unsafe { compiled.call(&[from.end(bytes).as_ptr() as i64, to.end(bytes).as_ptr() as i64, count, 0]) };
                assert_eq!(from.end(bytes), to.end(bytes));
            }
        }
    }
}
