//! Arithmetic as IEEE 754 says, whatever a thread was set to.
//!
//! `torch.set_flush_denormal(True)` makes the calling thread take subnormal numbers for zero, and only that thread. Values would
//! then count as zeros or not depending on which thread came to them, and small float16 values always, since they are widened by way
//! of subnormal float32 ones.

#![allow(unsafe_code)]

/// While it lives, this thread takes and makes subnormal numbers as they are; then it is again as it was.
#[derive(Debug)]
pub(crate) struct IeeeMode {
    before: Register,
}

impl IeeeMode {
    /// From now on.
    pub(crate) fn enter() -> Self {
        let before = read();
        if before & FLUSHES != 0 {
            write(before & !FLUSHES);
        }
        Self { before }
    }
}

impl Drop for IeeeMode {
    fn drop(&mut self) {
        if self.before & FLUSHES != 0 {
            write(self.before);
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod register {
    use std::arch::asm;

    /// MXCSR.
    pub(super) type Register = u32;
    /// "Denormals are zeros" and "flush to zero".
    pub(super) const FLUSHES: Register = 1 << 6 | 1 << 15;

    pub(super) fn read() -> Register {
        let mut value: Register = 0;
        // SAFETY: the instruction writes these four bytes and nothing else.
        unsafe { asm!("stmxcsr [{}]", in(reg) &raw mut value, options(nostack, preserves_flags)) };
        value
    }

    pub(super) fn write(value: Register) {
        // SAFETY: the value was read from the register, less two bits that may be clear; it is put back before anybody else runs on
        // this thread.
        unsafe { asm!("ldmxcsr [{}]", in(reg) &raw const value, options(nostack, preserves_flags)) };
    }
}

#[cfg(target_arch = "aarch64")]
mod register {
    use std::arch::asm;

    /// FPCR.
    pub(super) type Register = u64;
    /// "Flush to zero".
    pub(super) const FLUSHES: Register = 1 << 24;

    pub(super) fn read() -> Register {
        let value: Register;
        // SAFETY: the instruction reads the register and nothing else.
        unsafe { asm!("mrs {}, fpcr", out(reg) value, options(nomem, nostack, preserves_flags)) };
        value
    }

    pub(super) fn write(value: Register) {
        // SAFETY: the value was read from the register, less a bit that may be clear; it is put back before anybody else runs on this
        // thread.
        unsafe { asm!("msr fpcr, {}", in(reg) value, options(nomem, nostack, preserves_flags)) };
    }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
mod register {
    /// Nothing is known of other processors.
    pub(super) type Register = u32;
    pub(super) const FLUSHES: Register = 0;

    pub(super) const fn read() -> Register {
        0
    }

    pub(super) const fn write(_: Register) {}
}

use register::{FLUSHES, Register, read, write};
