//! Texts that people read.

/// The text, cut where it is longer than that many characters: what comes from outside goes into conditions, events and
/// the log, and may be a whole page.
pub fn shortened(text: &str, longest: usize) -> String {
    match text.char_indices().nth(longest) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_cut_between_characters() {
        assert_eq!(shortened("ääää", 3), "äää…");
        assert_eq!(shortened("äää", 3), "äää");
    }
}
