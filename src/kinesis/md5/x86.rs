#![expect(unsafe_code, reason = "instructions may be used where the processor was asked for them")]

use super::{Blocks, GROUP, SINES, ShortMessages, States, Words, add_short, compress, padded};
use std::arch::x86_64::{
    __m512i, _mm512_add_epi32, _mm512_loadu_si512, _mm512_rol_epi32, _mm512_set1_epi32, _mm512_setzero_si512,
    _mm512_shuffle_i32x4, _mm512_storeu_si512, _mm512_ternarylogic_epi32, _mm512_unpackhi_epi32,
    _mm512_unpackhi_epi64, _mm512_unpacklo_epi32, _mm512_unpacklo_epi64,
};

/// The general code in the compiler's vectors of eight words.
pub(super) fn with_avx2<const G: usize>(states: &mut States<G>, blocks: &Blocks<'_, G>) {
    #[target_feature(enable = "avx2")]
    fn compiled<const G: usize>(states: &mut States<G>, blocks: &Blocks<'_, G>) {
        compress(states, blocks);
    }
    assert!(is_x86_feature_detected!("avx2"));
    // SAFETY: the processor was asked for them.
    unsafe { compiled(states, blocks) }
}

/// See [`add_short`].
pub(super) fn add_short_with_avx2<M: ShortMessages, const G: usize>(states: &mut States<G>, messages: &M) {
    #[target_feature(enable = "avx2")]
    fn compiled<M: ShortMessages, const G: usize>(states: &mut States<G>, messages: &M) {
        add_short(states, messages);
    }
    assert!(is_x86_feature_detected!("avx2"));
    // SAFETY: the processor was asked for them.
    unsafe { compiled(states, messages) }
}

/// Whether the processor has the instructions that are used of AVX-512.
pub(super) fn has_avx512() -> bool {
    // The last two multiply numbers of 64 bits and turn their bytes around, which keys are made by.
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512bw")
}

/// Written out: the compiler takes the words apart one by one, which costs as much as the rounds, and does
/// not find the instructions that do three operations in one.
pub(super) fn with_avx512<const G: usize>(states: &mut States<G>, blocks: &Blocks<'_, G>) {
    assert!(has_avx512());
    // SAFETY: the processor was asked for them.
    unsafe { add_blocks(states, blocks) }
}

/// See [`add_short`].
pub(super) fn add_short_with_avx512<M: ShortMessages, const G: usize>(states: &mut States<G>, messages: &M) {
    #[target_feature(enable = "avx512f,avx512dq,avx512bw")]
    fn compiled<M: ShortMessages, const G: usize>(states: &mut States<G>, messages: &M) {
        let sums = add_words(loaded(states), &padded(messages, 0));
        store(states, &sums);
    }
    assert!(has_avx512());
    // SAFETY: the processor was asked for them.
    unsafe { compiled(states, messages) }
}

// What `_mm512_ternarylogic_epi32` makes of each bit of b, c and d, as RFC 1321 names the functions.
const MIX_F: i32 = 0xCA;
const MIX_G: i32 = 0xE4;
const MIX_H: i32 = 0x96;
const MIX_I: i32 = 0x39;

#[target_feature(enable = "avx512f")]
fn add_blocks<const G: usize>(states: &mut States<G>, blocks: &Blocks<'_, G>) {
    let mut sums = loaded(states);
    let mut words = [[[0; GROUP]; 16]; G];
    for number in 0..blocks[0][0].len() {
        for (words, blocks) in words.iter_mut().zip(blocks) {
            for (words, vector) in words.iter_mut().zip(transpose(&load(blocks, number))) {
                // SAFETY: sixteen words are 64 bytes.
                unsafe { _mm512_storeu_si512(words.as_mut_ptr().cast(), vector) }
            }
        }
        sums = add_words(sums, &words);
    }
    store(states, &sums);
}

#[inline]
#[target_feature(enable = "avx512f")]
fn add_words<const G: usize>(mut sums: Sums<G>, words: &[[Words; 16]; G]) -> Sums<G> {
    let after = round::<G, MIX_F, 7, 12, 17, 22>(sums, words, &SINES[..16], (1, 0));
    let after = round::<G, MIX_G, 5, 9, 14, 20>(after, words, &SINES[16..32], (5, 1));
    let after = round::<G, MIX_H, 4, 11, 16, 23>(after, words, &SINES[32..48], (3, 5));
    let after = round::<G, MIX_I, 6, 10, 15, 21>(after, words, &SINES[48..], (7, 0));
    for (sum, after) in sums.as_flattened_mut().iter_mut().zip(after.as_flattened()) {
        *sum = _mm512_add_epi32(*sum, *after);
    }
    sums
}

/// The states in vectors.
type Sums<const G: usize> = [[__m512i; 4]; G];

#[inline]
#[target_feature(enable = "avx512f")]
fn loaded<const G: usize>(states: &States<G>) -> Sums<G> {
    let mut sums = [[_mm512_setzero_si512(); 4]; G];
    for (sum, words) in sums.as_flattened_mut().iter_mut().zip(states.as_flattened()) {
        // SAFETY: sixteen words are 64 bytes.
        *sum = unsafe { _mm512_loadu_si512(words.as_ptr().cast()) };
    }
    sums
}

#[inline]
#[target_feature(enable = "avx512f")]
fn store<const G: usize>(states: &mut States<G>, sums: &Sums<G>) {
    for (words, sum) in states.as_flattened_mut().iter_mut().zip(sums.as_flattened()) {
        // SAFETY: sixteen words are 64 bytes.
        unsafe { _mm512_storeu_si512(words.as_mut_ptr().cast(), *sum) }
    }
}

/// A vector for the block of this number of each message.
#[inline]
#[target_feature(enable = "avx512f")]
fn load(blocks: &[&[[u8; 64]]; GROUP], number: usize) -> [__m512i; GROUP] {
    let mut vectors = [_mm512_setzero_si512(); GROUP];
    for (vector, blocks) in vectors.iter_mut().zip(blocks) {
        // SAFETY: a block is 64 bytes.
        *vector = unsafe { _mm512_loadu_si512(blocks[number].as_ptr().cast()) };
    }
    vectors
}

/// From a vector for each block to one for each word.
#[inline]
#[target_feature(enable = "avx512f")]
fn transpose(blocks: &[__m512i; GROUP]) -> [__m512i; 16] {
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

/// See `super::round`. The groups take turns, so that the steps of one fill the waits of the other.
#[inline]
#[target_feature(enable = "avx512f")]
fn round<const G: usize, const MIX: i32, const S0: i32, const S1: i32, const S2: i32, const S3: i32>(
    mut states: Sums<G>,
    words: &[[Words; 16]; G],
    sines: &[u32],
    (times, plus): (usize, usize),
) -> Sums<G> {
    let word = |step: usize| (times * step + plus) % 16;
    for step in (0..16).step_by(4) {
        turn::<G, MIX, S0>(&mut states, [0, 1, 2, 3], words, word(step), sines[step]);
        turn::<G, MIX, S1>(&mut states, [3, 0, 1, 2], words, word(step + 1), sines[step + 1]);
        turn::<G, MIX, S2>(&mut states, [2, 3, 0, 1], words, word(step + 2), sines[step + 2]);
        turn::<G, MIX, S3>(&mut states, [1, 2, 3, 0], words, word(step + 3), sines[step + 3]);
    }
    states
}

#[inline]
#[target_feature(enable = "avx512f")]
fn turn<const G: usize, const MIX: i32, const SHIFT: i32>(
    states: &mut Sums<G>,
    [a, b, c, d]: [usize; 4],
    words: &[[Words; 16]; G],
    word: usize,
    sine: u32,
) {
    let sine = _mm512_set1_epi32(sine.cast_signed());
    let mut next = [sine; G];
    for ((next, state), words) in next.iter_mut().zip(states.iter()).zip(words) {
        // SAFETY: sixteen words are 64 bytes.
        let word = unsafe { _mm512_loadu_si512(words[word].as_ptr().cast()) };
        let sum = _mm512_add_epi32(_mm512_add_epi32(state[a], word), sine);
        let sum = _mm512_add_epi32(sum, _mm512_ternarylogic_epi32::<MIX>(state[b], state[c], state[d]));
        *next = _mm512_add_epi32(state[b], _mm512_rol_epi32::<SHIFT>(sum));
    }
    meet(&mut next);
    for (state, next) in states.iter_mut().zip(next) {
        state[a] = next;
    }
}

/// Not an instruction, but a place that each group and the next must have come to: the compiler would do the steps of one
/// after those of the other, to keep more in registers, and each would wait for the one before (10 ns a block rather than
/// 4.6).
#[inline]
#[target_feature(enable = "avx512f")]
fn meet<const G: usize>(next: &mut [__m512i; G]) {
    for group in 1..G {
        let (mut one, mut other) = (next[group - 1], next[group]);
        // SAFETY: it does nothing.
        unsafe {
            std::arch::asm!("/* {0} {1} */", inout(zmm_reg) one, inout(zmm_reg) other,
                options(pure, nomem, nostack, preserves_flags));
        }
        (next[group - 1], next[group]) = (one, other);
    }
}
