//! Base64 of record data, by AVX-512 where there is (crate base64-simd goes up to AVX2: 68 ns for a kilobyte of an
//! aggregate here, 24 by these instructions).

/// Appends `data` in the standard alphabet, padded.
#[cfg_attr(
    target_arch = "x86_64",
    expect(unsafe_code, reason = "instructions may be used where the processor was asked for them")
)]
#[inline]
pub(super) fn append(data: &[u8], out: &mut Vec<u8>) {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx512vbmi") {
        // SAFETY: the processor was asked for them.
        unsafe { x86::append(data, out) }
        return;
    }
    base64_simd::STANDARD.encode_append(data, out);
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{
        _mm512_loadu_si512, _mm512_maskz_loadu_epi8, _mm512_multishift_epi64_epi8, _mm512_permutexvar_epi8,
        _mm512_set1_epi64, _mm512_storeu_si512,
    };

    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

    /// Bytes that become 64 characters.
    const STEP: usize = 48;

    /// Which bytes make four characters each: three, the middle one twice, so that each pair of characters is in
    /// sixteen bits that are the big-endian number of two bytes.
    const ORDER: [u8; 64] = {
        let mut order = [0; 64];
        let mut four = 0;
        while four < 16 {
            let [first, second, third] = [3 * four, 3 * four + 1, 3 * four + 2];
            (order[4 * four as usize], order[4 * four as usize + 1]) = (second, first);
            (order[4 * four as usize + 2], order[4 * four as usize + 3]) = (third, second);
            four += 1;
        }
        order
    };

    /// From which bit on each character of eight is: of 64 bits that hold six bytes in [`ORDER`].
    const BITS: [u8; 8] = [10, 4, 22, 16, 42, 36, 54, 48];

    // Which has avx512f and avx512bw in it.
    #[target_feature(enable = "avx512vbmi")]
    #[expect(unsafe_code, reason = "loads and stores of whole vectors, each in bounds as said there")]
    pub(super) fn append(data: &[u8], out: &mut Vec<u8>) {
        // SAFETY: both are 64 bytes.
        let (order, alphabet) = unsafe {
            (_mm512_loadu_si512(ORDER.as_ptr().cast()), _mm512_loadu_si512(ALPHABET.as_ptr().cast()))
        };
        let bits = _mm512_set1_epi64(i64::from_le_bytes(BITS));
        let end = out.len() + data.len().div_ceil(3) * 4;
        out.reserve(data.len().div_ceil(STEP) * 64);
        let mut room = out.spare_capacity_mut().chunks_exact_mut(64);
        for (step, characters) in data.chunks(STEP).zip(&mut room) {
            // SAFETY: the mask lets through as many bytes as there are; the others are zeros, and not read.
            let bytes =
                unsafe { _mm512_maskz_loadu_epi8(u64::MAX >> (64 - step.len()), step.as_ptr().cast()) };
            let sixes = _mm512_multishift_epi64_epi8(bits, _mm512_permutexvar_epi8(order, bytes));
            // Of each index the lowest six bits count.
            let text = _mm512_permutexvar_epi8(sixes, alphabet);
            // SAFETY: there are 64 bytes.
            unsafe { _mm512_storeu_si512(characters.as_mut_ptr().cast(), text) }
        }
        // SAFETY: room was made for whole steps, so for all characters, and they were written.
        unsafe { out.set_len(end) }
        let padding = data.len().div_ceil(3) * 3 - data.len();
        out[end - padding..].fill(b'=');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn assert_is_standard(before: &[u8], data: &[u8]) {
        let mut out = before.to_vec();
        append(data, &mut out);
        assert!(out.starts_with(before));
        assert_eq!(
            String::from_utf8_lossy(&out[before.len()..]),
            base64_simd::STANDARD.encode_to_string(data)
        );
    }

    #[test]
    fn every_length_around_a_step_is_padded_right() {
        let bytes: Vec<u8> = (0..=255).cycle().take(200).collect();
        for len in 0..=200 {
            assert_is_standard(b"\"", &bytes[..len]);
        }
    }

    /// All characters at all places.
    #[test]
    fn every_six_bits_are_their_character() {
        for shift in 0..64 {
            let data: Vec<u8> = (0..48_u32).map(|at| (at * 5 + shift * 7).to_le_bytes()[0]).collect();
            assert_is_standard(b"", &data);
        }
    }

    proptest! {
        #[test]
        fn it_is_that_of_crate_base64_simd(before: Vec<u8>, data in prop::collection::vec(any::<u8>(), 0..3_000)) {
            assert_is_standard(&before, &data);
        }
    }
}
