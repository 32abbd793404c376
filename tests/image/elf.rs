//! Reads the parts of a 64-bit little-endian ELF file that tell whether it is static, and for which processor.

use std::fs;
use std::path::Path;

// Numbers of the ELF specification: values of e_machine, then of p_type.
pub const X86_64: u64 = 62;
pub const AARCH64: u64 = 183;
pub const INTERPRETER: u64 = 3;
const GNU_STACK: u64 = 0x6474_e551;

pub struct Elf {
    pub machine: u64,
    segments: Vec<Segment>,
}

struct Segment {
    kind: u64,
    flags: u64,
}

impl Elf {
    pub fn read(path: &Path) -> Elf {
        let bytes = fs::read(path).expect("the binary");
        assert_eq!(bytes[..6], *b"\x7fELF\x02\x01", "64 bits, little-endian");
        let number = |at: usize, length: usize| {
            bytes[at..at + length].iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
        };
        let (table, size, count) = (number(32, 8) as usize, number(54, 2) as usize, number(56, 2) as usize);
        let segment = |index: usize| {
            let at = table + index * size;
            Segment { kind: number(at, 4), flags: number(at + 4, 4) }
        };
        Elf { machine: number(18, 2), segments: (0..count).map(segment).collect() }
    }

    pub fn has_segment(&self, kind: u64) -> bool {
        self.segments.iter().any(|segment| segment.kind == kind)
    }

    /// Whether the stack is executable. It is, too, if no segment says otherwise.
    pub fn is_stack_executable(&self) -> bool {
        self.segments.iter().find(|segment| segment.kind == GNU_STACK).is_none_or(|segment| segment.flags & 1 != 0)
    }
}
