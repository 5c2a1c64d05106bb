//! The core of crashdmesg: from the bytes of a crash dump to the kernel log and the reason of the crash.
//!
//! The core has no clock, no files, no sockets and no unsafe code, and builds without `std`. The shell (`main.rs` and
//! its modules) opens files, talks to the network and is PID 1; it may name the core, never the other way round.
//!
//! ```text
//! core   error limits -> bytes addr -> dump -> vmcoreinfo -> kernel -> printk kallsyms btf -> unwind -> facts
//!        -> summary -> render
//! shell  sys config cli -> sink net -> extract -> init -> main
//! ```
//!
//! An earlier name never uses a later one. Read in the order of the data:
//!
//! | module | turns | into |
//! |---|---|---|
//! | [`dump`] | file offsets | physical memory and notes, from any container |
//! | [`identify`] | a container | what kind of dump it is |
//! | [`sysmap`] | a symbol table | VMCOREINFO, where a dump has none |
//! | [`vmcoreinfo`] | the text note | symbols, sizes, offsets, numbers |
//! | [`kernel`] | physical memory | the crashed kernel's virtual memory |
//! | [`printk`] | virtual memory | log entries, one at a time, and text on its way to the log |
//! | [`kallsyms`] | addresses | names, decoded in place |
//! | [`btf`] | member names | their offsets |
//! | [`unwind`] | registers and stacks | backtraces |
//! | [`facts`] | all of these | what the machine was doing when it died |
//! | [`summary`] | log records | the reason of the crash, its kind, trace and signature |
//! | [`render`] | records and reports | text and JSON |
//!
//! # Invariants
//!
//! - Nothing above `dump` sees a file offset; nothing above `kernel` sees a physical address.
//! - Only `render` and `Display` format for humans.
//! - Memory of a crashed kernel does not change: it is read twice rather than kept, and no allocation grows with the
//!   dump. Every loop over it ends because of a constant in [`limits`].
//! - Damage is data: a torn descriptor or a missing page becomes an entry or a gap in the report, with its reason.
//! - A layout is told by what the dump exports, never by a version.
//! - No byte of a dump can make this crate panic; the lints below keep indexing, unchecked arithmetic and the like out.

#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::as_conversions,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::unwrap_used
    )
)]

extern crate alloc;

pub mod addr;
pub mod btf;
pub mod bytes;
pub mod dump;
pub mod error;
pub mod facts;
mod filter;
pub mod identify;
#[cfg(test)]
mod image;
pub mod kallsyms;
pub mod kernel;
pub mod limits;
pub mod printk;
pub mod render;
pub mod summary;
pub mod sysmap;
pub mod unwind;
pub mod vmcoreinfo;
