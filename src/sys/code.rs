//! The pages of our own program: what ran once need not stay mapped.
//!
//! A fault in a file mapping maps up to sixteen pages around it, so that after starting, opening the dump and finding
//! the log nearly all of the program counts as resident, although the loop over the records needs little of it. That
//! difference is most of what the process seems to take.

use std::ffi::{c_int, c_void};

const MADV_DONTNEED: c_int = 4;
/// The largest page size in use; the pages at both ends of the code may stay.
const PAGE: usize = 64 << 10;

unsafe extern "C" {
    /// Start of the program's read-only pages and end of its code, both from the linker.
    static __executable_start: u8;
    static etext: u8;
    fn madvise(addr: *mut c_void, length: usize, advice: c_int) -> c_int;
}

/// Unmaps the program's code; what is needed of it comes back from the page cache when it runs. Nothing is lost when
/// the kernel will not.
pub fn give_back() {
    let start = (&raw const __executable_start as usize).next_multiple_of(PAGE);
    let end = (&raw const etext as usize) & !(PAGE - 1);
    if start < end {
        // SAFETY: the range lies within the read-only, file-backed segments of this program, which are never written
        // (the program is linked at a fixed address or relocates only data), so that the pages that come back from the
        // file are the same.
        let _ = unsafe { madvise(start as *mut c_void, end - start, MADV_DONTNEED) };
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_program_goes_on_without_its_code() {
        super::give_back();
        assert_eq!(format!("{}", 6 * 7), "42");
    }
}
