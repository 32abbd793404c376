//! Reads a page of a list object by object, as it arrives.
//!
//! The text of one object at a time is held, in a buffer that all of them share. So an object that cannot be decoded hides no
//! other, and no page is ever held as text. `serde_json` can do the same by `RawValue`, but from a reader that takes
//! one byte at a time, and an operator at rest does little else than read lists: it took 1.7 times the instructions.

use std::io::{self, BufRead};

use serde::Deserialize;
use serde::de::{DeserializeOwned, Error as _};

/// Why a page cannot be read.
#[derive(Debug)]
pub(crate) enum Broken {
    /// The body ended early or did not come.
    Io(io::Error),
    /// It is not the JSON of a list.
    NotAList(serde_json::Error),
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Metadata {
    #[serde(rename = "continue")]
    next: String,
}

/// Takes the text of an object. An error says that it is no JSON.
pub(crate) type Take<'a> = dyn FnMut(&[u8]) -> serde_json::Result<()> + 'a;

/// Hands the text of each object to `take`. Gives the token of the next page, empty after the last. The whole body is read, so that its
/// connection can be used again.
pub(crate) fn read(body: &mut dyn BufRead, take: &mut Take) -> Result<String, Broken> {
    let mut page = Page { body, text: Vec::new() };
    let (mut metadata, mut has_items) = (None, false);
    let mut more = page.opens(b'{', b'}')?;
    while more {
        let key: String = page.decoded()?;
        page.expect(b':')?;
        match key.as_str() {
            "metadata" => metadata = Some(page.decoded::<Metadata>()?),
            "items" => {
                has_items = true;
                page.items(take)?;
            }
            _ => page.value()?,
        }
        more = page.goes_on(b'}')?;
    }
    if page.next_byte()?.is_some() {
        return Err(not_a_list("something follows the list"));
    }
    // A reply without items is no list, and must not be taken for an empty one.
    metadata
        .filter(|_| has_items)
        .map(|metadata| metadata.next)
        .ok_or_else(|| not_a_list("it has no metadata or no items"))
}

fn not_a_list(text: &str) -> Broken {
    Broken::NotAList(serde_json::Error::custom(text))
}

/// A page, as far as it was not read yet.
struct Page<'a> {
    body: &'a mut dyn BufRead,
    /// The text of the value that was read last.
    text: Vec<u8>,
}

impl Page<'_> {
    /// Items may be `null`: Go writes an empty list like that.
    fn items(&mut self, take: &mut Take) -> Result<(), Broken> {
        if self.next_byte()? == Some(b'n') {
            return self.decoded();
        }
        let mut more = self.opens(b'[', b']')?;
        while more {
            self.value()?;
            take(&self.text).map_err(Broken::NotAList)?;
            more = self.goes_on(b']')?;
        }
        Ok(())
    }

    /// Reads an opening bracket. Returns whether something stands between it and the closing one.
    fn opens(&mut self, opening: u8, closing: u8) -> Result<bool, Broken> {
        self.expect(opening)?;
        let is_empty = self.next_byte()? == Some(closing);
        if is_empty {
            self.body.consume(1);
        }
        Ok(!is_empty)
    }

    /// Reads a comma or the closing bracket. Returns whether it was a comma.
    fn goes_on(&mut self, closing: u8) -> Result<bool, Broken> {
        let goes_on = self.next_byte()? == Some(b',');
        self.expect(if goes_on { b',' } else { closing })?;
        Ok(goes_on)
    }

    fn expect(&mut self, expected: u8) -> Result<(), Broken> {
        match self.next_byte()? {
            Some(found) if found == expected => {
                self.body.consume(1);
                Ok(())
            }
            Some(_) => Err(not_a_list(&format!("there is no {:?} where it should be", char::from(expected)))),
            None => Err(ends_early()),
        }
    }

    /// The next byte that is no white space; `None` at the end. It is not consumed.
    fn next_byte(&mut self) -> Result<Option<u8>, Broken> {
        loop {
            let buffer = self.body.fill_buf().map_err(Broken::Io)?;
            let Some(first) = buffer.first() else { return Ok(None) };
            if !first.is_ascii_whitespace() {
                return Ok(Some(*first));
            }
            let blank = buffer.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
            self.body.consume(blank);
        }
    }

    /// Reads a value, and decodes it.
    fn decoded<T: DeserializeOwned>(&mut self) -> Result<T, Broken> {
        self.value()?;
        serde_json::from_slice(&self.text).map_err(Broken::NotAList)
    }

    /// Reads the text of a value. It finds where the value ends, and leaves it to a decoder whether it is JSON.
    fn value(&mut self) -> Result<(), Broken> {
        self.text.clear();
        self.next_byte()?;
        let mut end = End::default();
        loop {
            let buffer = self.body.fill_buf().map_err(Broken::Io)?;
            if buffer.is_empty() {
                return Err(ends_early());
            }
            let found = end.find(buffer);
            let length = found.unwrap_or(buffer.len());
            self.text.extend_from_slice(&buffer[..length]);
            self.body.consume(length);
            if found.is_some() {
                return Ok(());
            }
        }
    }
}

fn ends_early() -> Broken {
    Broken::Io(io::ErrorKind::UnexpectedEof.into())
}

/// Finds the end of a value.
#[derive(Default)]
struct End {
    /// How many brackets are open.
    depth: usize,
    in_text: bool,
    /// The last byte was a backslash that stands for no other.
    escaped: bool,
}

impl End {
    /// The length of the rest of the value, if it ends in these bytes.
    fn find(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut at = 0;
        while at < bytes.len() {
            if self.in_text {
                at += self.skip_text(&bytes[at..]);
                if !self.in_text && self.depth == 0 {
                    return Some(at);
                }
                continue;
            }
            // Most bytes are in texts or are letters, digits and colons between them.
            let matters = |byte: &u8| matches!(byte, b'"' | b'{' | b'}' | b'[' | b']') || self.depth == 0;
            at += bytes[at..].iter().position(matters)?;
            match bytes[at] {
                b'"' => self.in_text = true,
                b'{' | b'[' => self.depth += 1,
                // A number or a word ends before what follows it.
                b'}' | b']' | b',' | b':' if self.depth == 0 => return Some(at),
                b'}' | b']' => {
                    self.depth -= 1;
                    if self.depth == 0 {
                        return Some(at + 1);
                    }
                }
                blank if blank.is_ascii_whitespace() => return Some(at),
                _ => {}
            }
            at += 1;
        }
        None
    }

    /// Goes on to the end of a text, or of the bytes. Returns the number of bytes.
    fn skip_text(&mut self, bytes: &[u8]) -> usize {
        let mut at = usize::from(std::mem::take(&mut self.escaped)); // an escaped byte ends nothing
        while let Some(found) =
            bytes.get(at..).and_then(|rest| rest.iter().position(|byte| matches!(byte, b'"' | b'\\')))
        {
            at += found + 1;
            if bytes[at - 1] == b'"' {
                self.in_text = false;
                return at;
            }
            if at == bytes.len() {
                self.escaped = true;
                return at;
            }
            at += 1;
        }
        bytes.len()
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufReader, Read};

    use serde_json::Value;

    use super::*;
    use crate::list::List;

    /// Reads a page into a list.
    fn read_list(body: &mut dyn BufRead) -> Result<(List<Value>, String), Broken> {
        let mut list = List::default();
        let next = read(body, &mut |object| list.take(object))?;
        Ok((list, next))
    }

    /// Reads a page that arrives in pieces of this size.
    fn page(text: &str, piece: usize) -> Result<(List<Value>, String), Broken> {
        read_list(&mut BufReader::with_capacity(piece, text.as_bytes()))
    }

    #[test]
    fn a_page_is_read_in_whatever_pieces_it_arrives() {
        let items = [
            r#"{"a":"}]\"\\","b":[1,{"c":"\\\""}]}"#,
            r#"{ "spec" : { } , "x" : -1.5e3 }"#,
            "{}",
            r#""text, with ] and \u00e9""#,
            "17",
            "true",
            "null",
            "[[],[]]",
        ];
        let text = format!(
            " {{ \"kind\":\"List\", \"apiVersion\" : \"v1\",\"metadata\":{{\"continue\":\"a\\\"b\"}},\n\"items\":[ {} ] }} \n",
            items.join(" ,\n")
        );
        let expected: Vec<Value> = items.map(|item| serde_json::from_str(item).expect("JSON")).into();
        for piece in 1..text.len() + 1 {
            let (list, next) = page(&text, piece).unwrap_or_else(|error| panic!("pieces of {piece}: {error:?}"));
            assert_eq!((list.items, next.as_str()), (expected.clone(), "a\"b"), "pieces of {piece}");
        }
        for end in 0..text.trim_end().len() {
            assert!(page(&text[..end], 7).is_err(), "it is cut off after {end} bytes");
        }
    }

    #[test]
    fn the_order_of_the_fields_does_not_matter_and_null_is_empty() {
        let (list, next) = page(r#"{"items":null,"metadata":{"continue":""}}"#, 5).expect("a list");
        assert!(list.items.is_empty() && list.unreadable.is_empty() && next.is_empty());
    }

    #[test]
    fn rubbish_is_no_list() {
        for text in [
            "",
            "[]",
            "null",
            "{}",
            "<html>",
            r#"{"metadata":{}}"#,
            r#"{"items":[]}"#,
            r#"{"metadata":{},"items":{}}"#,
            r#"{"metadata":{},"items":[}]}"#,
            r#"{"metadata":{},"items":[{"a":}]}"#,
            r#"{"metadata":{},"items":[{"a":1}{"a":2}]}"#,
            r#"{"metadata":{},"items":[1,]}"#,
            r#"{"metadata":{},"items":[]]"#,
            r#"{"metadata":{},"items":[]}{"#,
            r#"{"metadata" {},"items":[]}"#,
            r#"{metadata:{},"items":[]}"#,
        ] {
            assert!(page(text, 3).is_err(), "{text}");
        }
    }

    /// Whatever the bytes are, the text of a page is taken as `serde_json` takes it.
    #[test]
    fn it_agrees_with_serde_json_on_mutated_pages() {
        let text = r#"{"metadata":{"continue":"x"},"items":[{"a":"b\\\"c"},{"d":[1,2,{"e":null}]},"f",-2]}"#;
        let whole = |bytes: &[u8]| {
            let value: Value = serde_json::from_slice(bytes).ok()?;
            let items = match &value["items"] {
                Value::Array(items) => items.clone(),
                Value::Null if value.as_object()?.contains_key("items") => Vec::new(),
                _ => return None,
            };
            let metadata = value.as_object()?.get("metadata")?.as_object()?;
            let next = metadata.get("continue").map_or(Some(""), Value::as_str)?;
            Some((items, next.to_owned()))
        };
        let alphabet = br#"{}[]",:\ 1nx"#;
        for at in 0..text.len() {
            for byte in alphabet {
                let mut bytes = text.as_bytes().to_vec();
                bytes[at] = *byte;
                let mut body = BufReader::with_capacity(4, &bytes[..]);
                let read = read_list(&mut body).ok().map(|(list, next)| (list.items, next));
                let shown = String::from_utf8_lossy(&bytes).into_owned();
                let mut rest = Vec::new();
                body.read_to_end(&mut rest).expect("it is in memory");
                assert_eq!(read.is_some(), whole(&bytes).is_some(), "{shown}");
                if let (Some(read), Some(whole)) = (read, whole(&bytes)) {
                    assert_eq!(read, whole, "{shown}");
                    assert!(rest.is_empty(), "{shown}");
                }
            }
        }
    }
}
