//! MD5 of many messages at once.
//!
//! Kinesis routes by the MD5 of the partition key, and a KPL aggregate ends in the MD5 of its message:
//! with one message at a time (0.6 GB/s) that is the largest single cost of a small record. The rounds of
//! one message depend on each other, those of several do not, so sixteen are computed side by side, in the
//! widest vectors that the processor has; and as a vector's rounds still wait for each other, up to four groups of
//! sixteen take turns. A block takes 100 ns by itself, 62 ns among sixteen with the vectors that
//! every x86-64 has and 25 ns with AVX2; with AVX-512 in one group 8.1 ns, in two 7.2 ns and in four 7.3 ns (AMD EPYC
//! of 2022), or 10, 4.6 and 3.2 ns (of 2024), 0.2 more where blocks are to be taken apart. Three aggregates in one
//! group take 0.6 or 1.1 times what they do in two.

#[cfg(target_arch = "x86_64")]
mod x86;

/// How many messages are hashed at once.
pub const LANES: usize = GROUPS * GROUP;

/// Groups that take turns.
const GROUPS: usize = 4;

/// Messages of a group.
const GROUP: usize = 16;

/// A word of each message of a group.
type Words = [u32; GROUP];

/// The state of each group.
type States<const G: usize> = [[Words; 4]; G];

/// Blocks of each message, of all as many.
type Blocks<'a, const G: usize> = [[&'a [[u8; 64]]; GROUP]; G];

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
    let mut digests = [[0; 16]; LANES];
    match messages.len().div_ceil(GROUP) {
        0 | 1 => add_digests::<1>(messages, &mut digests),
        2 => add_digests::<2>(messages, &mut digests),
        _ => add_digests::<GROUPS>(messages, &mut digests),
    }
    digests
}

fn add_digests<const G: usize>(messages: &[&[u8]], digests: &mut [[u8; 16]; LANES]) {
    // Lanes that are left over do the first message again.
    let message = |i: usize| messages.get(i).or(messages.first()).copied().unwrap_or_default();
    let lanes: [[Lane<'_>; GROUP]; G] =
        std::array::from_fn(|group| std::array::from_fn(|place| Lane::new(message(group * GROUP + place))));
    let all = lanes.as_flattened();
    let blocks = all.iter().map(Lane::blocks).max().unwrap_or(0);
    // Up to where the shortest ends there is nothing to look for.
    let common = all.iter().map(|lane| lane.whole.len()).min().unwrap_or(0);
    let mut states = start();
    let compress = fastest();
    compress(&mut states, &lanes.each_ref().map(|group| group.each_ref().map(|lane| &lane.whole[..common])));
    for number in common..blocks {
        compress(&mut states, &lanes.each_ref().map(|group| group.each_ref().map(|lane| lane.block(number))));
        for (place, (lane, digest)) in all.iter().zip(&mut *digests).enumerate() {
            if number + 1 == lane.blocks() {
                *digest = digest_of(&states, place).to_be_bytes();
            }
        }
    }
}

fn start<const G: usize>() -> States<G> {
    [START.map(|word| [word; GROUP]); G]
}

/// [`LANES`] messages of one length, which fit into one block with their padding, as partition keys do. They
/// are given word by word: putting their bytes together first, to take them apart again, took longer than the
/// rounds.
pub trait ShortMessages {
    /// Their length in bytes.
    const LEN: usize;

    /// The message of a lane, four bytes to a word, the first of them its lowest; past its end zeros.
    ///
    /// To be inlined: it is compiled anew for each width of vectors, and then makes those of all lanes at once.
    fn words(&self, lane: usize) -> [u32; 14];
}

/// The digests of [`ShortMessages`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShortDigests(States<GROUPS>);

impl ShortDigests {
    /// The first four bytes of a lane's digest, as a big-endian number.
    #[must_use]
    #[inline]
    pub fn high(&self, lane: usize) -> u32 {
        self.0[lane / GROUP][0][lane % GROUP].swap_bytes()
    }

    /// A lane's digest as a big-endian number.
    #[must_use]
    pub fn whole(&self, lane: usize) -> u128 {
        digest_of(&self.0, lane)
    }
}

/// The digests of the first `count` short messages; those of others are of no meaning.
#[must_use]
pub fn short_digests<M: ShortMessages>(messages: &M, count: usize) -> ShortDigests {
    let mut states = start::<GROUPS>();
    match (count.div_ceil(GROUP), &mut states) {
        (0 | 1, [one, ..]) => add_short_fastest(std::array::from_mut(one), messages),
        (2, [few @ .., _, _]) => add_short_fastest(few, messages),
        (_, all) => add_short_fastest(all, messages),
    }
    ShortDigests(states)
}

fn add_short_fastest<M: ShortMessages, const G: usize>(states: &mut States<G>, messages: &M) {
    #[cfg(target_arch = "x86_64")]
    {
        if x86::has_avx512() {
            return x86::add_short_with_avx512(states, messages);
        }
        if is_x86_feature_detected!("avx2") {
            return x86::add_short_with_avx2(states, messages);
        }
    }
    add_short(states, messages);
}

#[inline(always)]
#[expect(clippy::inline_always, reason = "see `compress`")]
fn add_short<M: ShortMessages, const G: usize>(states: &mut States<G>, messages: &M) {
    for (group, state) in states.iter_mut().enumerate() {
        let [words] = padded(messages, group);
        compress_words(state, &words);
    }
}

/// The blocks of the short messages of `G` groups, word by word, from this group on.
#[inline(always)]
#[expect(clippy::inline_always, reason = "see `compress`")]
#[expect(clippy::cast_possible_truncation, reason = "below 56")]
fn padded<M: ShortMessages, const G: usize>(messages: &M, from: usize) -> [[Words; 16]; G] {
    const { assert!(M::LEN < 56, "the padding needs a byte, the length eight") };
    let mut padded = [[[0; GROUP]; 16]; G];
    for (group, padded) in padded.iter_mut().enumerate() {
        for place in 0..GROUP {
            let mut words = messages.words((from + group) * GROUP + place);
            words[M::LEN / 4] |= 0x80 << (M::LEN % 4 * 8);
            for (padded, word) in padded.iter_mut().zip(words) {
                padded[place] = word;
            }
        }
        padded[14] = [M::LEN as u32 * 8; GROUP];
    }
    padded
}

/// A message's digest as a big-endian number.
fn digest_of<const G: usize>(states: &States<G>, place: usize) -> u128 {
    let words = &states[place / GROUP];
    words.iter().fold(0, |digest, word| digest << 32 | u128::from(word[place % GROUP].swap_bytes()))
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
    fn block(&self, number: usize) -> &[[u8; 64]] {
        match self.whole.get(number) {
            Some(block) => std::slice::from_ref(block),
            None => std::slice::from_ref(&self.tail[(number - self.whole.len()) & 1]),
        }
    }
}

/// Adds blocks of each message to the states.
type Compress<const G: usize> = fn(&mut States<G>, &Blocks<'_, G>);

/// The fastest that this processor can run.
fn fastest<const G: usize>() -> Compress<G> {
    #[cfg(target_arch = "x86_64")]
    {
        if x86::has_avx512() {
            return x86::with_avx512;
        }
        if is_x86_feature_detected!("avx2") {
            return x86::with_avx2;
        }
    }
    with_any
}

fn with_any<const G: usize>(states: &mut States<G>, blocks: &Blocks<'_, G>) {
    compress(states, blocks);
}

/// A block for each lane, in whatever vectors the compiler may use where this is inlined: one group after the
/// other, as the states of more are more than the registers of narrower vectors hold.
#[inline(always)]
#[expect(clippy::inline_always, reason = "it is compiled anew where there are wider vectors")]
fn compress<const G: usize>(states: &mut States<G>, blocks: &Blocks<'_, G>) {
    for (state, blocks) in states.iter_mut().zip(blocks) {
        for number in 0..blocks[0].len() {
            compress_group(state, blocks, number);
        }
    }
}

#[inline(always)]
#[expect(clippy::inline_always, reason = "see `compress`")]
fn compress_group(state: &mut [Words; 4], blocks: &[&[[u8; 64]]; GROUP], number: usize) {
    let mut words = [[0; GROUP]; 16];
    for (place, blocks) in blocks.iter().enumerate() {
        for (word, bytes) in words.iter_mut().zip(blocks[number].as_chunks::<4>().0) {
            word[place] = u32::from_le_bytes(*bytes);
        }
    }
    compress_words(state, &words);
}

#[inline(always)]
#[expect(clippy::inline_always, reason = "see `compress`")]
fn compress_words(state: &mut [Words; 4], words: &[Words; 16]) {
    let after = round::<0>(*state, words, (1, 0), |b, c, d| d ^ (b & (c ^ d)));
    let after = round::<1>(after, words, (5, 1), |b, c, d| c ^ (d & (b ^ c)));
    let after = round::<2>(after, words, (3, 5), |b, c, d| b ^ c ^ d);
    let after = round::<3>(after, words, (7, 0), |b, c, d| c ^ (b | !d));
    for (total, words) in state.iter_mut().zip(after) {
        for (total, word) in total.iter_mut().zip(words) {
            *total = total.wrapping_add(word);
        }
    }
}

/// Sixteen steps; step `i` takes word `times * i + plus`.
#[inline(always)]
#[expect(clippy::inline_always, reason = "see `compress`")]
fn round<const ROUND: usize>(
    [mut a, mut b, mut c, mut d]: [Words; 4],
    words: &[Words; 16],
    (times, plus): (usize, usize),
    mix: impl Fn(u32, u32, u32) -> u32 + Copy,
) -> [Words; 4] {
    let word = |step: usize| &words[(times * step + plus) % 16];
    for step in (0..16).step_by(4) {
        let sines = &SINES[16 * ROUND + step..][..4];
        a = turn([a, b, c, d], word(step), sines[0], SHIFTS[ROUND][0], mix);
        d = turn([d, a, b, c], word(step + 1), sines[1], SHIFTS[ROUND][1], mix);
        c = turn([c, d, a, b], word(step + 2), sines[2], SHIFTS[ROUND][2], mix);
        b = turn([b, c, d, a], word(step + 3), sines[3], SHIFTS[ROUND][3], mix);
    }
    [a, b, c, d]
}

/// One step, in every lane.
#[inline(always)]
#[expect(clippy::inline_always, reason = "see `compress`")]
fn turn(
    [a, b, c, d]: [Words; 4],
    words: &Words,
    sine: u32,
    shift: u32,
    mix: impl Fn(u32, u32, u32) -> u32,
) -> Words {
    let mut next = [0; GROUP];
    for i in 0..GROUP {
        let sum = a[i].wrapping_add(words[i]).wrapping_add(sine).wrapping_add(mix(b[i], c[i], d[i]));
        next[i] = sum.rotate_left(shift).wrapping_add(b[i]);
    }
    next
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::md5::{Digest, Md5};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn short_digests_are_those_of_one_at_a_time(long: [[u8; 41]; LANES], short: [[u8; 16]; LANES], full: [[u8; 55]; LANES]) {
            assert_digests(&long);
            assert_digests(&short);
            assert_digests(&full);
        }

        /// The digests of crate md-5, whatever the lengths of the messages and wherever their blocks end.
        #[test]
        fn digests_are_those_of_one_at_a_time(messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..=LANES)) {
            let borrowed: Vec<&[u8]> = messages.iter().map(Vec::as_slice).collect();
            let digests = digests(&borrowed);
            for (message, digest) in messages.iter().zip(digests) {
                prop_assert_eq!(<[u8; 16]>::from(Md5::digest(message)), digest);
            }
        }
    }

    impl<const LEN: usize> ShortMessages for [[u8; LEN]; LANES] {
        const LEN: usize = LEN;

        fn words(&self, lane: usize) -> [u32; 14] {
            let mut bytes = [0; 56];
            bytes[..LEN].copy_from_slice(&self[lane]);
            std::array::from_fn(|word| u32::from_le_bytes(bytes[word * 4..][..4].try_into().unwrap()))
        }
    }

    /// Whatever way of compiling it the processor does not choose is held too.
    fn assert_digests<const LEN: usize>(messages: &[[u8; LEN]; LANES]) {
        let mut any = start();
        add_short(&mut any, messages);
        let mut ways = vec![short_digests(messages, LANES), ShortDigests(any)];
        let all = short_digests(messages, LANES);
        for count in [1, GROUP, GROUP + 1, 2 * GROUP, 2 * GROUP + 1] {
            let few = short_digests(messages, count);
            assert!((0..count).all(|lane| few.whole(lane) == all.whole(lane)), "{count}");
        }
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") {
            let mut narrow = start();
            x86::add_short_with_avx2(&mut narrow, messages);
            ways.push(ShortDigests(narrow));
        }
        for digests in ways {
            for (lane, message) in messages.iter().enumerate() {
                let digest = u128::from_be_bytes(Md5::digest(message).into());
                assert_eq!((digests.whole(lane), digests.high(lane)), (digest, (digest >> 96) as u32));
            }
        }
    }

    /// What the processor running the tests does not choose is held too.
    #[test]
    fn every_way_of_compiling_it_gives_the_same() {
        every_way_gives_the_same::<2>();
        every_way_gives_the_same::<1>();
        every_way_gives_the_same::<GROUPS>();
    }

    fn every_way_gives_the_same<const G: usize>() {
        let blocks: [[[[u8; 64]; 3]; GROUP]; G] = std::array::from_fn(|group| {
            std::array::from_fn(|i| {
                let byte = |j: usize, k: usize| ((group * GROUP + i) * 192 + j * 64 + k * 3).to_le_bytes()[0];
                std::array::from_fn(|j| std::array::from_fn(|k| byte(j, k)))
            })
        });
        let blocks = blocks.each_ref().map(|group| group.each_ref().map(<[[u8; 64]; 3]>::as_slice));
        let (mut chosen, mut any) = (start(), start());
        fastest()(&mut chosen, &blocks);
        with_any(&mut any, &blocks);
        assert_eq!(chosen, any);
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") {
            let mut narrow = start();
            x86::with_avx2(&mut narrow, &blocks);
            assert_eq!(chosen, narrow);
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
