//! Word error rate.

use super::Item;

/// The item `[errors, words]` of a transcript: the fewest words to insert, delete or replace in `heard` to get `said`, and
/// the words of `said`, both spelled alike by [`words`].
pub(crate) fn item(said: &str, heard: &str) -> Item {
    let (said, heard) = (words(said), words(heard));
    vec![distance(&said, &heard) as f64, said.len() as f64]
}

/// Errors over words of all transcripts together.
pub(crate) fn rate(items: &[&Item]) -> f64 {
    let sum = |column: usize| items.iter().map(|item| item[column]).sum::<f64>();
    sum(0) / sum(1)
}

/// Words in small letters without punctuation; apostrophes inside of words go, digits of one number up to twenty are
/// spelled, and what stands in brackets is no speech.
pub(crate) fn words(text: &str) -> Vec<String> {
    let mut depth = 0usize;
    let mut plain = String::new();
    for c in text.chars() {
        match c {
            '[' | '(' | '<' => depth += 1,
            ']' | ')' | '>' => depth = depth.saturating_sub(1),
            '\'' | '’' => {}
            _ if depth > 0 => {}
            _ if c.is_alphanumeric() => plain.extend(c.to_lowercase()),
            _ => plain.push(' '),
        }
    }
    plain.split_whitespace().map(spelled).collect()
}

fn spelled(word: &str) -> String {
    const NUMBERS: [&str; 21] = [
        "zero",
        "one",
        "two",
        "three",
        "four",
        "five",
        "six",
        "seven",
        "eight",
        "nine",
        "ten",
        "eleven",
        "twelve",
        "thirteen",
        "fourteen",
        "fifteen",
        "sixteen",
        "seventeen",
        "eighteen",
        "nineteen",
        "twenty",
    ];
    let number = word.parse::<usize>().ok().filter(|_| !word.starts_with('0') || word == "0");
    number.and_then(|n| NUMBERS.get(n)).map_or_else(|| word.to_owned(), |name| (*name).to_owned())
}

/// Levenshtein's distance of two lists of words, a row of the table at a time.
fn distance(a: &[String], b: &[String]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spelled_alike() {
        assert_eq!(words("Press 1, then don't [beep] STOP."), ["press", "one", "then", "dont", "stop"]);
        assert_eq!(words("007 is 1024"), ["007", "is", "1024"]);
    }

    #[test]
    fn errors() {
        assert_eq!(item("a b c d", "a b c d"), [0.0, 4.0]);
        assert_eq!(item("a b c d", "a x c"), [2.0, 4.0]);
        assert_eq!(item("", "a b"), [2.0, 0.0]);
        assert_eq!(item("a b", ""), [2.0, 2.0]);
        let (first, second) = (item("a b c d", "a b"), item("e", "e"));
        assert_eq!(rate(&[&first, &second]), 0.4);
    }

    #[test]
    fn the_distance_is_a_metric() {
        let list = |text: &str| text.split(' ').map(String::from).collect::<Vec<_>>();
        let lists = ["a b c", "b c", "a c b", "c", "a b d c", "x y z w"].map(list);
        for a in &lists {
            assert_eq!(distance(a, a), 0);
            for b in &lists {
                assert_eq!(distance(a, b), distance(b, a));
                for c in &lists {
                    assert!(distance(a, c) <= distance(a, b) + distance(b, c));
                }
            }
        }
    }
}
