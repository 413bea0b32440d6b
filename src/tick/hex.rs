//! Hexadecimal digits, eight at once rather than one by one, in arithmetic that a compiler does for several
//! numbers at a time.

/// The eight digits of a number of 32 bits; the first is the lowest byte.
///
/// To be inlined: it is compiled anew where there are wider vectors, see `md5`.
#[inline(always)]
pub(super) fn hex(bits: u64) -> u64 {
    const EACH: u64 = 0x0101_0101_0101_0101;
    // Four bits to a byte.
    let digits = (bits | bits << 16) & 0x0000_FFFF_0000_FFFF;
    let digits = (digits | digits << 8) & 0x00FF_00FF_00FF_00FF;
    let digits = (digits | digits << 4) & 0x0F0F_0F0F_0F0F_0F0F;
    // 1 where the digit is a letter, which is as far from its place after 9 as `a` is from `:`.
    let letters = (digits + 6 * EACH) >> 4 & EACH;
    (digits + u64::from(b'0') * EACH + letters * u64::from(b'a' - b':')).swap_bytes()
}

/// The lower and the upper half: four bytes each.
#[inline(always)]
#[expect(clippy::inline_always, clippy::cast_possible_truncation, reason = "see `hex`; the halves")]
pub(super) fn halves(bytes: u64) -> [u32; 2] {
    [bytes as u32, (bytes >> 32) as u32]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_those_of_the_number() {
        for bits in [0, 1, 0x0123_4567, 0x89ab_cdef, 0xfedc_ba98, 0x0a9f_90af, 0xf0a9_9a0f, 0xffff_ffff] {
            assert_eq!(hex(bits).to_le_bytes(), *format!("{bits:08x}").as_bytes());
            assert_eq!(halves(bits << 32 | 7).map(u64::from), [7, bits]);
        }
    }
}
