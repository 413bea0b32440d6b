/// Bytes in the making, with room behind them. A piece is copied there at a length that the compiler knows and counts
/// as far as it is of use, so that many short pieces cost neither a call each nor a look at the memory there is.
#[derive(Clone, Debug, Default)]
pub struct Pieces {
    bytes: Vec<u8>,
    len: usize,
}

impl Pieces {
    /// Forgets all bytes.
    pub fn clear(&mut self) {
        self.len = 0;
    }

    /// How many bytes there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The bytes.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// The bytes, to be changed.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        &mut self.bytes[..self.len]
    }

    /// The next bytes; what they hold is of no meaning.
    #[inline]
    #[expect(clippy::missing_panics_doc, clippy::expect_used, reason = "they are as many as are asked for")]
    pub fn room<const N: usize>(&mut self) -> &mut [u8; N] {
        let end = self.len + N;
        if self.bytes.len() < end {
            self.bytes.resize(end.next_power_of_two(), 0);
        }
        self.bytes[self.len..end].first_chunk_mut().expect("as many")
    }

    /// Counts so many of the next bytes, at most those of the room that was asked for.
    #[inline]
    pub fn advance(&mut self, len: usize) {
        self.len += len;
    }

    /// Appends bytes.
    pub fn extend(&mut self, bytes: &[u8]) {
        let end = self.len + bytes.len();
        if self.bytes.len() < end {
            self.bytes.resize(end.next_power_of_two(), 0);
        }
        self.bytes[self.len..end].copy_from_slice(bytes);
        self.len = end;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_count_as_far_as_they_are_used() {
        let mut pieces = Pieces::default();
        assert!(pieces.is_empty() && pieces.as_slice().is_empty());
        for n in 0..100 {
            *pieces.room::<4>() = [n, n, 7, 7];
            pieces.advance(2);
            pieces.extend(b"abc");
        }
        let expected: Vec<u8> = (0..100).flat_map(|n| [n, n, b'a', b'b', b'c']).collect();
        assert_eq!((pieces.len(), pieces.as_slice()), (500, expected.as_slice()));
        pieces.as_mut_slice()[0] = 9;
        assert_eq!(pieces.as_slice()[..2], [9, 0]);
        pieces.clear();
        pieces.extend(b"z");
        assert_eq!(pieces.as_slice(), b"z");
    }
}
