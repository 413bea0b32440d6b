#![expect(unsafe_code, reason = "instructions may be used where the processor was asked for them")]

use super::{Blocks, GROUP, GROUPS, SINES, ShortMessages, States, add_short, compress, padded};
use std::arch::x86_64::{
    __m512i, _mm512_add_epi32, _mm512_loadu_si512, _mm512_rol_epi32, _mm512_set1_epi32, _mm512_setzero_si512,
    _mm512_shuffle_i32x4, _mm512_storeu_si512, _mm512_ternarylogic_epi32, _mm512_unpackhi_epi32,
    _mm512_unpackhi_epi64, _mm512_unpacklo_epi32, _mm512_unpacklo_epi64,
};

/// The general code in the compiler's vectors of eight words.
pub(super) fn with_avx2(states: &mut States, blocks: &Blocks<'_>) {
    #[target_feature(enable = "avx2")]
    fn compiled(states: &mut States, blocks: &Blocks<'_>) {
        compress(states, blocks);
    }
    assert!(is_x86_feature_detected!("avx2"));
    // SAFETY: the processor was asked for them.
    unsafe { compiled(states, blocks) }
}

/// See [`add_short`].
pub(super) fn add_short_with_avx2<M: ShortMessages>(states: &mut States, messages: &M) {
    #[target_feature(enable = "avx2")]
    fn compiled<M: ShortMessages>(states: &mut States, messages: &M) {
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
pub(super) fn with_avx512(states: &mut States, blocks: &Blocks<'_>) {
    assert!(has_avx512());
    // SAFETY: the processor was asked for them.
    unsafe { add_blocks(states, blocks) }
}

/// See [`add_short`].
pub(super) fn add_short_with_avx512<M: ShortMessages>(states: &mut States, messages: &M) {
    #[target_feature(enable = "avx512f,avx512dq,avx512bw")]
    fn compiled<M: ShortMessages>(states: &mut States, messages: &M) {
        let padded = padded(messages);
        let mut words = [[_mm512_setzero_si512(); 16]; GROUPS];
        for (words, padded) in words.as_flattened_mut().iter_mut().zip(padded.as_flattened()) {
            // SAFETY: sixteen words are 64 bytes.
            *words = unsafe { _mm512_loadu_si512(padded.as_ptr().cast()) };
        }
        let sums = add_words(loaded(states), &words);
        store(states, &sums);
    }
    assert!(has_avx512());
    // SAFETY: the processor was asked for them.
    unsafe { compiled(states, messages) }
}

// What `_mm512_ternarylogic_epi32` makes of each bit of b, c and d, as RFC 1321 names the functions.
const F: i32 = 0xCA;
const G: i32 = 0xE4;
const H: i32 = 0x96;
const I: i32 = 0x39;

#[target_feature(enable = "avx512f")]
fn add_blocks(states: &mut States, blocks: &Blocks<'_>) {
    let mut sums = loaded(states);
    let (groups, _) = blocks.as_chunks::<GROUP>();
    for number in 0..blocks[0].len() {
        // Written out for both groups: a closure does not have the instructions of the function around it.
        let words = [transpose(&load(&groups[0], number)), transpose(&load(&groups[1], number))];
        sums = add_words(sums, &words);
    }
    store(states, &sums);
}

#[inline]
#[target_feature(enable = "avx512f")]
fn add_words(mut sums: Sums, words: &[[__m512i; 16]; GROUPS]) -> Sums {
    let after = round::<F, 7, 12, 17, 22>(sums, words, &SINES[..16], (1, 0));
    let after = round::<G, 5, 9, 14, 20>(after, words, &SINES[16..32], (5, 1));
    let after = round::<H, 4, 11, 16, 23>(after, words, &SINES[32..48], (3, 5));
    let after = round::<I, 6, 10, 15, 21>(after, words, &SINES[48..], (7, 0));
    for (sum, after) in sums.as_flattened_mut().iter_mut().zip(after.as_flattened()) {
        *sum = _mm512_add_epi32(*sum, *after);
    }
    sums
}

/// The states in vectors.
type Sums = [[__m512i; 4]; GROUPS];

#[inline]
#[target_feature(enable = "avx512f")]
fn loaded(states: &States) -> Sums {
    let mut sums = [[_mm512_setzero_si512(); 4]; GROUPS];
    for (sum, words) in sums.as_flattened_mut().iter_mut().zip(states.as_flattened()) {
        // SAFETY: sixteen words are 64 bytes.
        *sum = unsafe { _mm512_loadu_si512(words.as_ptr().cast()) };
    }
    sums
}

#[inline]
#[target_feature(enable = "avx512f")]
fn store(states: &mut States, sums: &Sums) {
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
fn round<const MIX: i32, const S0: i32, const S1: i32, const S2: i32, const S3: i32>(
    mut states: Sums,
    words: &[[__m512i; 16]; GROUPS],
    sines: &[u32],
    (times, plus): (usize, usize),
) -> Sums {
    let word = |step: usize| (times * step + plus) % 16;
    for step in (0..16).step_by(4) {
        turn::<MIX, S0>(&mut states, [0, 1, 2, 3], words, word(step), sines[step]);
        turn::<MIX, S1>(&mut states, [3, 0, 1, 2], words, word(step + 1), sines[step + 1]);
        turn::<MIX, S2>(&mut states, [2, 3, 0, 1], words, word(step + 2), sines[step + 2]);
        turn::<MIX, S3>(&mut states, [1, 2, 3, 0], words, word(step + 3), sines[step + 3]);
    }
    states
}

#[inline]
#[target_feature(enable = "avx512f")]
fn turn<const MIX: i32, const SHIFT: i32>(
    states: &mut Sums,
    [a, b, c, d]: [usize; 4],
    words: &[[__m512i; 16]; GROUPS],
    word: usize,
    sine: u32,
) {
    let sine = _mm512_set1_epi32(sine.cast_signed());
    let mut next = [sine; GROUPS];
    for ((next, state), words) in next.iter_mut().zip(states.iter()).zip(words) {
        let sum = _mm512_add_epi32(_mm512_add_epi32(state[a], words[word]), sine);
        let sum = _mm512_add_epi32(sum, _mm512_ternarylogic_epi32::<MIX>(state[b], state[c], state[d]));
        *next = _mm512_add_epi32(state[b], _mm512_rol_epi32::<SHIFT>(sum));
    }
    let [mut first, mut second] = next;
    // Not an instruction, but a place that both groups must have come to: the compiler would do the steps of
    // one after those of the other, to keep more in registers, and each would wait for the one before (10 ns
    // a block rather than 4.3).
    // SAFETY: it does nothing.
    unsafe {
        std::arch::asm!("/* {0} {1} */", inout(zmm_reg) first, inout(zmm_reg) second,
            options(pure, nomem, nostack, preserves_flags));
    }
    states[0][a] = first;
    states[1][a] = second;
}
