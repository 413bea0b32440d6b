#![expect(unsafe_code, reason = "instructions may be used where the processor was asked for them")]

use super::{Blocks, LANES, SINES, Words, compress};
use std::arch::x86_64::{
    __m512i, _mm512_add_epi32, _mm512_loadu_si512, _mm512_rol_epi32, _mm512_set1_epi32, _mm512_setzero_si512,
    _mm512_shuffle_i32x4, _mm512_storeu_si512, _mm512_ternarylogic_epi32, _mm512_unpackhi_epi32,
    _mm512_unpackhi_epi64, _mm512_unpacklo_epi32, _mm512_unpacklo_epi64,
};

/// The general code in the compiler's vectors of eight words.
pub(super) fn with_avx2(state: &mut [Words; 4], blocks: &Blocks<'_>) {
    #[target_feature(enable = "avx2")]
    fn compiled(state: &mut [Words; 4], blocks: &Blocks<'_>) {
        compress(state, blocks);
    }
    assert!(is_x86_feature_detected!("avx2"));
    // SAFETY: the processor was asked for them.
    unsafe { compiled(state, blocks) }
}

/// Written out: the compiler takes the words apart one by one, which costs as much as the rounds, and does
/// not find the instructions that do three operations in one.
pub(super) fn with_avx512(state: &mut [Words; 4], blocks: &Blocks<'_>) {
    assert!(is_x86_feature_detected!("avx512f"));
    // SAFETY: the processor was asked for them.
    unsafe { add_blocks(state, blocks) }
}

// What `_mm512_ternarylogic_epi32` makes of each bit of b, c and d, as RFC 1321 names the functions.
const F: i32 = 0xCA;
const G: i32 = 0xE4;
const H: i32 = 0x96;
const I: i32 = 0x39;

#[target_feature(enable = "avx512f")]
fn add_blocks(state: &mut [Words; 4], blocks: &Blocks<'_>) {
    let words = transpose(&blocks.map(|block| load(block)));
    // SAFETY: sixteen words are 64 bytes.
    let before = state.map(|words| unsafe { _mm512_loadu_si512(words.as_ptr().cast()) });
    let after = round::<F, 7, 12, 17, 22>(before, &words, &SINES[..16], (1, 0));
    let after = round::<G, 5, 9, 14, 20>(after, &words, &SINES[16..32], (5, 1));
    let after = round::<H, 4, 11, 16, 23>(after, &words, &SINES[32..48], (3, 5));
    let after = round::<I, 6, 10, 15, 21>(after, &words, &SINES[48..], (7, 0));
    for ((words, before), after) in state.iter_mut().zip(before).zip(after) {
        // SAFETY: sixteen words are 64 bytes.
        unsafe { _mm512_storeu_si512(words.as_mut_ptr().cast(), _mm512_add_epi32(before, after)) }
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load(block: &[u8; 64]) -> __m512i {
    // SAFETY: the block is 64 bytes.
    unsafe { _mm512_loadu_si512(block.as_ptr().cast()) }
}

/// From a vector for each block to one for each word.
#[inline]
#[target_feature(enable = "avx512f")]
fn transpose(blocks: &[__m512i; LANES]) -> [__m512i; 16] {
    let mut twos = [_mm512_setzero_si512(); 16];
    for i in (0..16).step_by(2) {
        twos[i] = _mm512_unpacklo_epi32(blocks[i], blocks[i + 1]);
        twos[i + 1] = _mm512_unpackhi_epi32(blocks[i], blocks[i + 1]);
    }
    // Quarter q of fours[i + k] is word 4 q + k of blocks i to i + 3.
    let mut fours = [_mm512_setzero_si512(); 16];
    for i in (0..16).step_by(4) {
        fours[i] = _mm512_unpacklo_epi64(twos[i], twos[i + 2]);
        fours[i + 1] = _mm512_unpackhi_epi64(twos[i], twos[i + 2]);
        fours[i + 2] = _mm512_unpacklo_epi64(twos[i + 1], twos[i + 3]);
        fours[i + 3] = _mm512_unpackhi_epi64(twos[i + 1], twos[i + 3]);
    }
    let mut words = [_mm512_setzero_si512(); 16];
    for k in 0..4 {
        // Quarters 0 and 2 of each, then 1 and 3.
        let even = _mm512_shuffle_i32x4::<0x88>(fours[k], fours[k + 4]);
        let even_next = _mm512_shuffle_i32x4::<0x88>(fours[k + 8], fours[k + 12]);
        let odd = _mm512_shuffle_i32x4::<0xDD>(fours[k], fours[k + 4]);
        let odd_next = _mm512_shuffle_i32x4::<0xDD>(fours[k + 8], fours[k + 12]);
        words[k] = _mm512_shuffle_i32x4::<0x88>(even, even_next);
        words[k + 4] = _mm512_shuffle_i32x4::<0x88>(odd, odd_next);
        words[k + 8] = _mm512_shuffle_i32x4::<0xDD>(even, even_next);
        words[k + 12] = _mm512_shuffle_i32x4::<0xDD>(odd, odd_next);
    }
    words
}

/// See `super::round`.
#[inline]
#[target_feature(enable = "avx512f")]
fn round<const MIX: i32, const S0: i32, const S1: i32, const S2: i32, const S3: i32>(
    [mut a, mut b, mut c, mut d]: [__m512i; 4],
    words: &[__m512i; 16],
    sines: &[u32],
    (times, plus): (usize, usize),
) -> [__m512i; 4] {
    let word = |step: usize| words[(times * step + plus) % 16];
    for step in (0..16).step_by(4) {
        a = turn::<MIX, S0>([a, b, c, d], word(step), sines[step]);
        d = turn::<MIX, S1>([d, a, b, c], word(step + 1), sines[step + 1]);
        c = turn::<MIX, S2>([c, d, a, b], word(step + 2), sines[step + 2]);
        b = turn::<MIX, S3>([b, c, d, a], word(step + 3), sines[step + 3]);
    }
    [a, b, c, d]
}

#[inline]
#[target_feature(enable = "avx512f")]
fn turn<const MIX: i32, const SHIFT: i32>([a, b, c, d]: [__m512i; 4], word: __m512i, sine: u32) -> __m512i {
    let sum = _mm512_add_epi32(_mm512_add_epi32(a, word), _mm512_set1_epi32(sine.cast_signed()));
    let sum = _mm512_add_epi32(sum, _mm512_ternarylogic_epi32::<MIX>(b, c, d));
    _mm512_add_epi32(b, _mm512_rol_epi32::<SHIFT>(sum))
}
