/// The most made-up symbols.
pub const MAX_SYMBOLS: usize = 100_000;

const LETTERS: usize = 26;
const ALL: usize = LETTERS.pow(4);

/// `count` made-up ticker symbols of four capital letters, all different: `TAGH`, `JGHC`, `ZMHX` and so on Symbol i
/// is the same in every run and whatever the count.
#[must_use]
pub fn made_up_symbols(count: usize) -> Vec<String> {
    (0..count.min(ALL)).map(symbol).collect()
}

/// Steps through all four-letter words: the step has no factor in common with 26^4, so none comes twice.
fn symbol(i: usize) -> String {
    let mut rest = (334_107 + i * 285_293) % ALL;
    let mut letters = ['A'; 4];
    for letter in letters.iter_mut().rev() {
        *letter = char::from(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ"[rest % LETTERS]);
        rest /= LETTERS;
    }
    letters.iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn symbols_differ_and_stay() {
        let symbols = made_up_symbols(MAX_SYMBOLS);
        assert_eq!(symbols.iter().collect::<BTreeSet<_>>().len(), MAX_SYMBOLS);
        assert!(symbols.iter().all(|s| s.len() == 4 && s.bytes().all(|b| b.is_ascii_uppercase())));
        assert_eq!(symbols[..7], made_up_symbols(7));
        assert_eq!(symbols[..3], ["TAGH", "JGHC", "ZMHX"]);
    }
}
