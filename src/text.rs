//! Texts that people read.

/// Cuts a text that is longer than that many characters. Texts from outside go into conditions, events and the log, and
/// one may be a whole page.
pub fn shortened(text: &str, longest: usize) -> String {
    match text.char_indices().nth(longest) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// Breaks a text between words into lines of at most that many characters. A longer word has a line of its own.
pub fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_cut_between_characters() {
        assert_eq!(shortened("ääää", 3), "äää…");
        assert_eq!(shortened("äää", 3), "äää");
    }

    #[test]
    fn texts_are_broken_between_words() {
        for (text, lines) in [
            ("", &[][..]),
            ("one two", &["one two"]),
            ("one two three", &["one two", "three"]),
            ("ä ä ä ä ä", &["ä ä ä ä", "ä"]),
            ("a unbreakable b", &["a", "unbreakable", "b"]),
        ] {
            assert_eq!(wrapped(text, 7), lines, "{text:?}");
        }
    }
}
