//! The core of crashdmesg: from the bytes of a crash dump to the kernel log and the reason of the crash.

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
pub mod bytes;
pub mod dump;
pub mod error;
#[cfg(test)]
mod image;
pub mod kallsyms;
pub mod kernel;
pub mod limits;
pub mod printk;
pub mod render;
pub mod vmcoreinfo;
