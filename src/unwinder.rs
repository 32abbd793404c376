//! The functions of an unwinder that the standard library calls. None of them does anything.
//!
//! A panic ends the static binary at once (`panic = "abort"`), so nobody unwinds its stack. It has no symbols either, so a backtrace would
//! tell nothing: the message of a panic says where it was. As a backtrace finds no frame, the compiler leaves out all that
//! reads debug information, and the linker leaves out libunwind. That is 250 KB of the binary, or 127 KB of the compressed layer.

/// The code by which a walk over the stack ends (`_URC_END_OF_STACK`).
const END_OF_STACK: u32 = 5;

#[unsafe(no_mangle)]
extern "C" fn _Unwind_Backtrace() -> u32 {
    END_OF_STACK
}

/// Defines functions that nobody calls, so their parameters and results do not matter.
macro_rules! never_called {
    ($($name:ident)*) => { $(#[unsafe(no_mangle)] extern "C" fn $name() -> usize { 0 })* };
}

never_called! {
    _Unwind_GetDataRelBase
    _Unwind_GetIPInfo
    _Unwind_GetLanguageSpecificData
    _Unwind_GetRegionStart
    _Unwind_GetTextRelBase
    _Unwind_Resume
    _Unwind_SetGR
    _Unwind_SetIP
}
