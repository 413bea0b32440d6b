//! MD5 of eight messages at once.
//!
//! Kinesis routes by the MD5 of the partition key, and a KPL aggregate ends in the MD5 of its message:
//! with one message at a time (0.6 GB/s) that is the largest single cost of a small record. The rounds of
//! one message depend on each other, those of several do not, so eight are computed side by side in the
//! lanes of vector registers (SSE2, which every x86-64 has; NEON on arm64).

use wide::u32x8;

/// How many messages are hashed at once.
pub const LANES: usize = 8;

const START: [u32; 4] = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476];

const SHIFTS: [[u32; 4]; 4] = [[7, 12, 17, 22], [5, 9, 14, 20], [4, 11, 16, 23], [6, 10, 15, 21]];

/// floor(2^32 * |sin(i + 1)|), RFC 1321.
const SINES: [u32; 64] = [
    0xd76a_a478,
    0xe8c7_b756,
    0x2420_70db,
    0xc1bd_ceee,
    0xf57c_0faf,
    0x4787_c62a,
    0xa830_4613,
    0xfd46_9501,
    0x6980_98d8,
    0x8b44_f7af,
    0xffff_5bb1,
    0x895c_d7be,
    0x6b90_1122,
    0xfd98_7193,
    0xa679_438e,
    0x49b4_0821,
    0xf61e_2562,
    0xc040_b340,
    0x265e_5a51,
    0xe9b6_c7aa,
    0xd62f_105d,
    0x0244_1453,
    0xd8a1_e681,
    0xe7d3_fbc8,
    0x21e1_cde6,
    0xc337_07d6,
    0xf4d5_0d87,
    0x455a_14ed,
    0xa9e3_e905,
    0xfcef_a3f8,
    0x676f_02d9,
    0x8d2a_4c8a,
    0xfffa_3942,
    0x8771_f681,
    0x6d9d_6122,
    0xfde5_380c,
    0xa4be_ea44,
    0x4bde_cfa9,
    0xf6bb_4b60,
    0xbebf_bc70,
    0x289b_7ec6,
    0xeaa1_27fa,
    0xd4ef_3085,
    0x0488_1d05,
    0xd9d4_d039,
    0xe6db_99e5,
    0x1fa2_7cf8,
    0xc4ac_5665,
    0xf429_2244,
    0x432a_ff97,
    0xab94_23a7,
    0xfc93_a039,
    0x655b_59c3,
    0x8f0c_cc92,
    0xffef_f47d,
    0x8584_5dd1,
    0x6fa8_7e4f,
    0xfe2c_e6e0,
    0xa301_4314,
    0x4e08_11a1,
    0xf753_7e82,
    0xbd3a_f235,
    0x2ad7_d2bb,
    0xeb86_d391,
];

/// The digests of up to [`LANES`] messages; those of messages left out are of no meaning. It takes as
/// long as the longest message.
#[must_use]
pub fn digests(messages: &[&[u8]]) -> [[u8; 16]; LANES] {
    let lanes: [Lane<'_>; LANES] =
        std::array::from_fn(|i| Lane::new(messages.get(i).copied().unwrap_or_default()));
    let blocks = lanes.iter().map(Lane::blocks).max().unwrap_or(0);
    let mut state = START.map(u32x8::splat);
    let mut digests = [[0; 16]; LANES];
    for number in 0..blocks {
        let mut words = [[0; LANES]; 16];
        for (place, lane) in lanes.iter().enumerate() {
            for (word, bytes) in words.iter_mut().zip(lane.block(number).as_chunks::<4>().0) {
                word[place] = u32::from_le_bytes(*bytes);
            }
        }
        compress(&mut state, &words.map(u32x8::new));
        for (place, lane) in lanes.iter().enumerate() {
            if number + 1 == lane.blocks() {
                for (bytes, word) in digests[place].chunks_exact_mut(4).zip(&state) {
                    bytes.copy_from_slice(&word.to_array()[place].to_le_bytes());
                }
            }
        }
    }
    digests
}

/// One message as padded blocks of 64 bytes.
struct Lane<'a> {
    whole: &'a [[u8; 64]],
    tail: [[u8; 64]; 2],
    tail_blocks: usize,
}

impl<'a> Lane<'a> {
    #[inline]
    fn new(message: &'a [u8]) -> Self {
        let (whole, rest) = message.as_chunks::<64>();
        let mut tail = [[0; 64]; 2];
        tail[0][..rest.len()].copy_from_slice(rest);
        tail[0][rest.len()] = 0x80;
        // The padding needs a byte, the length eight.
        let tail_blocks = if rest.len() < 56 { 1 } else { 2 };
        tail[tail_blocks - 1][56..].copy_from_slice(&(message.len() as u64 * 8).to_le_bytes());
        Self { whole, tail, tail_blocks }
    }

    #[inline]
    fn blocks(&self) -> usize {
        self.whole.len() + self.tail_blocks
    }

    /// A block of the message; any block after its end, whose result is not used.
    #[inline]
    fn block(&self, number: usize) -> &[u8; 64] {
        match self.whole.get(number) {
            Some(block) => block,
            None => &self.tail[(number - self.whole.len()) & 1],
        }
    }
}

fn compress(state: &mut [u32x8; 4], words: &[u32x8; 16]) {
    let [mut a, mut b, mut c, mut d] = *state;
    for step in 0..16 {
        let mixed = d ^ (b & (c ^ d));
        let next = turn(a, b, mixed, words[step], SINES[step], SHIFTS[0][step % 4]);
        (a, d, c, b) = (d, c, b, next);
    }
    for step in 0..16 {
        let mixed = c ^ (d & (b ^ c));
        let next = turn(a, b, mixed, words[(5 * step + 1) % 16], SINES[16 + step], SHIFTS[1][step % 4]);
        (a, d, c, b) = (d, c, b, next);
    }
    for step in 0..16 {
        let mixed = b ^ c ^ d;
        let next = turn(a, b, mixed, words[(3 * step + 5) % 16], SINES[32 + step], SHIFTS[2][step % 4]);
        (a, d, c, b) = (d, c, b, next);
    }
    for step in 0..16 {
        let mixed = c ^ (b | !d);
        let next = turn(a, b, mixed, words[7 * step % 16], SINES[48 + step], SHIFTS[3][step % 4]);
        (a, d, c, b) = (d, c, b, next);
    }
    for (total, word) in state.iter_mut().zip([a, b, c, d]) {
        *total += word;
    }
}

/// One step of a round, in every lane.
#[inline]
fn turn(a: u32x8, b: u32x8, mixed: u32x8, word: u32x8, sine: u32, shift: u32) -> u32x8 {
    let sum = a + mixed + word + u32x8::splat(sine);
    b + ((sum << shift) | (sum >> (32 - shift)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::md5::{Digest, Md5};
    use proptest::prelude::*;

    proptest! {
        /// The digests of crate md-5, whatever the lengths of the eight and wherever their blocks end.
        #[test]
        fn digests_are_those_of_one_at_a_time(messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..=LANES)) {
            let borrowed: Vec<&[u8]> = messages.iter().map(Vec::as_slice).collect();
            let digests = digests(&borrowed);
            for (message, digest) in messages.iter().zip(digests) {
                prop_assert_eq!(<[u8; 16]>::from(Md5::digest(message)), digest);
            }
        }
    }

    #[test]
    fn every_length_around_a_block_is_padded_right() {
        for len in 0..200 {
            let message = vec![7; len];
            assert_eq!(digests(&[&message])[0], <[u8; 16]>::from(Md5::digest(&message)), "{len}");
        }
    }
}
