//! YAML and JSON as one kind of value.
//!
//! YAML is read as by kubectl (go-yaml 2): `yes` is a flag and `0777` a number, `<<` merges, of two
//! members with one name the last one counts, and nothing is read after the first document. A member that is `null` is left
//! out: to kubectl it is the same as a setting that is not there.
//!
//! A document may come from anybody, as plugins print one. So its depth has a bound, and so has the size that its aliases
//! stand for.

use std::collections::HashMap;

use serde_json::{Map, Number, Value};
use yaml_rust2::parser::{Event, Parser, Tag};
use yaml_rust2::scanner::TScalarStyle;

/// So many lists and maps may be within each other. A kubeconfig has 6, and its extensions not many more.
const DEPTH: usize = 64;
/// Anchors and aliases together may stand for so many values and bytes of text.
const COPIED: usize = 4 << 20;

/// Reads the first document of a file. An empty file is an empty object.
///
/// # Errors
/// A sentence with the place in the text.
pub(crate) fn parse(text: &str) -> Result<Value, String> {
    let text = text.trim_start_matches('\u{feff}');
    // JSON is YAML, but for one thing: it may be indented with tabs.
    if let Ok(value) = serde_json::from_str(text) {
        return Ok(without_nulls(value));
    }
    let mut parser = Parser::new_from_str(text);
    let mut builder = Builder::default();
    loop {
        let (event, mark) = parser.next_token().map_err(|error| error.to_string())?;
        let done = builder.take(event).map_err(|reason| format!("{reason} at line {}", mark.line()))?;
        if let Some(value) = done {
            return Ok(without_nulls(value));
        }
    }
}

/// Makes a value of a parser's events, without recursion.
#[derive(Default)]
struct Builder {
    /// The lists and maps that are not at their end, the outermost first.
    open: Vec<Node>,
    anchors: HashMap<usize, Value>,
    copied: usize,
}

/// A list or a map that is not at its end, with its anchor (0: none).
enum Node {
    List(Vec<Value>, usize),
    Map(Map<String, Value>, Option<Key>, usize),
}

/// The key of a member whose value is still to come.
enum Key {
    Name(String),
    /// `<<`
    Merge,
}

impl Builder {
    /// Takes the next event. Returns the document when it is at its end.
    fn take(&mut self, event: Event) -> Result<Option<Value>, String> {
        match event {
            Event::Nothing | Event::StreamStart | Event::DocumentStart => Ok(None),
            // The document ends before it has a value.
            Event::DocumentEnd | Event::StreamEnd => Ok(Some(Value::Object(Map::new()))),
            Event::Alias(anchor) => {
                let value = self.anchors.get(&anchor).cloned().ok_or("an alias leads nowhere")?;
                self.count(&value)?;
                self.put(value, 0)
            }
            Event::Scalar(text, style, anchor, tag) => {
                let is_plain = style == TScalarStyle::Plain && tag.is_none();
                if is_plain
                    && text == "<<"
                    && let Some(Node::Map(_, key @ None, _)) = self.open.last_mut()
                {
                    *key = Some(Key::Merge);
                    return Ok(None);
                }
                self.put(scalar(text, style, tag)?, anchor)
            }
            Event::SequenceStart(anchor, _) => self.begin(Node::List(Vec::new(), anchor)),
            Event::MappingStart(anchor, _) => self.begin(Node::Map(Map::new(), None, anchor)),
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some(Node::List(items, anchor)) => self.put(Value::Array(items), anchor),
                Some(Node::Map(members, _, anchor)) => self.put(Value::Object(members), anchor),
                None => Ok(None),
            },
        }
    }

    /// Counts another copy of a value, at the present depth.
    fn count(&mut self, value: &Value) -> Result<(), String> {
        self.copied += weigh(value, DEPTH - self.open.len())?;
        if self.copied > COPIED { Err("anchors and aliases stand for too much".to_owned()) } else { Ok(()) }
    }

    fn begin(&mut self, node: Node) -> Result<Option<Value>, String> {
        if self.open.len() == DEPTH {
            return Err(TOO_DEEP.to_owned());
        }
        self.open.push(node);
        Ok(None)
    }

    fn put(&mut self, value: Value, anchor: usize) -> Result<Option<Value>, String> {
        if anchor > 0 {
            self.count(&value)?;
            self.anchors.insert(anchor, value.clone());
        }
        match self.open.last_mut() {
            None => return Ok(Some(value).map(|value| if value.is_null() { Value::Object(Map::new()) } else { value })),
            Some(Node::List(items, _)) => items.push(value),
            Some(Node::Map(members, key, _)) => match key.take() {
                None => *key = Some(Key::Name(key_text(value)?)),
                Some(Key::Name(name)) => {
                    members.insert(name, value);
                }
                Some(Key::Merge) => merge(members, value)?,
            },
        }
        Ok(None)
    }
}

const TOO_DEEP: &str = "lists and maps are too deep within each other";

/// The number of values and bytes of text in a value.
fn weigh(value: &Value, depth: usize) -> Result<usize, String> {
    let below = || depth.checked_sub(1).ok_or(TOO_DEEP.to_owned());
    match value {
        Value::Array(items) => {
            let depth = below()?;
            items.iter().try_fold(1, |sum, item| Ok(sum + weigh(item, depth)?))
        }
        Value::Object(members) => {
            let depth = below()?;
            members.iter().try_fold(1, |sum, (name, value)| Ok(sum + name.len() + weigh(value, depth)?))
        }
        Value::String(text) => Ok(1 + text.len()),
        Value::Null | Value::Bool(_) | Value::Number(_) => Ok(1),
    }
}

/// Adds the members of the map that `<<` names, or of several maps, of which the first one counts most.
fn merge(members: &mut Map<String, Value>, value: Value) -> Result<(), String> {
    let maps = match value {
        Value::Array(maps) => maps,
        map => vec![map],
    };
    for map in maps.into_iter().rev() {
        let Value::Object(map) = map else { return Err("what << names is no map".to_owned()) };
        members.extend(map);
    }
    Ok(())
}

fn key_text(key: Value) -> Result<String, String> {
    match key {
        Value::String(text) => Ok(text),
        Value::Bool(_) | Value::Number(_) => Ok(key.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => Err("a key is not a text".to_owned()),
    }
}

fn scalar(text: String, style: TScalarStyle, tag: Option<Tag>) -> Result<Value, String> {
    let is_text = tag.is_some_and(|tag| !["null", "bool", "int", "float"].contains(&tag.suffix.as_str()));
    if style != TScalarStyle::Plain || is_text {
        return Ok(Value::String(text));
    }
    Ok(match text.as_str() {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => Value::Bool(true),
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => Value::Bool(false),
        _ => number(&text).map_or(Value::String(text), Value::Number),
    })
}

/// The number that kubectl takes a plain text for, if it does. No setting of a kubeconfig is a number, but kubectl refuses a
/// name or a token that looks like one, and a plugin may be given one.
fn number(text: &str) -> Option<Number> {
    let plain = text.replace('_', "");
    let digits = plain.strip_prefix(['+', '-']).unwrap_or(&plain);
    if text.starts_with('_') || !digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return None;
    }
    let (integer, radix) = match digits.strip_prefix('0') {
        Some(hexadecimal) if hexadecimal.starts_with('x') => (&hexadecimal[1..], 16),
        Some(octal) if !octal.is_empty() => (octal, 8),
        _ => (digits, 10),
    };
    let sign = &plain[..plain.len() - digits.len()];
    if integer.bytes().all(|byte| byte.is_ascii_alphanumeric())
        && let Ok(integer) = i64::from_str_radix(&format!("{sign}{integer}"), radix)
    {
        return Some(integer.into());
    }
    let is_fraction = digits.bytes().all(|byte| byte.is_ascii_digit() || b".eE+-".contains(&byte));
    plain.parse().ok().filter(|_| is_fraction).and_then(Number::from_f64)
}

fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(members) => {
            let present = members.into_iter().filter(|(_, value)| !value.is_null());
            Value::Object(present.map(|(key, value)| (key, without_nulls(value))).collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(without_nulls).collect()),
        scalar => scalar,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn yaml_and_json_give_the_same() {
        let expected = json!({"users": [{"name": "u", "user": {"token": "t"}}], "on": true});
        for text in [
            "users:\n- name: u\n  user: {token: t}\n\"on\": true\n",
            "---\nusers: [{name: u, user: {token: t}}]\n'on': true\n---\nsecond: document\n",
            "{\n\t\"users\": [{\"name\": \"u\", \"user\": {\"token\": \"t\"}}],\n\t\"on\": true}",
            "\u{feff}{\"users\": [{\"name\": \"u\", \"user\": {\"token\": \"t\"}}], \"on\": true, \"off\": null}",
            "clusters: null\nusers: [&a {name: u, user: {token: t}}]\n\"on\": true\n",
        ] {
            assert_eq!(parse(text), Ok(expected.clone()), "{text}");
        }
    }

    #[test]
    fn nothing_is_an_empty_object() {
        assert_eq!(parse(""), Ok(json!({})));
        assert_eq!(parse("# a comment\n"), Ok(json!({})));
    }

    #[test]
    fn a_text_that_is_neither_is_an_error() {
        for text in ["a: [", "a: b: c", "? [a]\n: b\n", "~: b\n", "a: *b", "<<: a"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    /// kubectl reads with go-yaml 2, so these are its rules. The operator's tests try some of them with the real kubectl.
    #[test]
    fn plain_words_are_what_kubectl_takes_them_for() {
        for (words, expected) in [
            (&["yes", "on", "Y", "True"][..], json!(true)),
            (&["no", "off", "n", "FALSE"], json!(false)),
            (&["7", "+7", "0x7", "07", "0_7"], json!(7)),
            (&["-8", "-0x8", "-010"], json!(-8)),
            (&["1.5", "+1.5", "15e-1"], json!(1.5)),
            (&["08", "8."], json!(8.0)),
            (&[".5"], json!(0.5)),
        ] {
            for word in words {
                let value = parse(&format!("[{word}]")).expect(word);
                assert_eq!(value[0].as_f64(), expected.as_f64(), "{word}: {value}");
                assert!(value[0].is_number() || value[0] == expected, "{word}: {value}");
            }
        }
        for word in [
            "yeS",
            "oui",
            "_7",
            "0x",
            "0xg",
            "7a",
            "1.2.3",
            "2026-01-01",
            "10.0.0.1",
            "'7'",
            "!!str 7",
            "!mine 7",
            "--1",
            "e5",
            "1e999",
            ".inf",
        ] {
            let value = parse(&format!("a: {word}")).expect(word);
            assert!(value["a"].is_string(), "{word}: {value}");
        }
    }

    #[test]
    fn maps_are_merged_in_order() {
        let text = "base: &base {a: 1, b: 1}\nother: &other {b: 2, c: 2}\n";
        let merged = |members: &str| parse(&format!("{text}merged:\n{members}")).expect("YAML")["merged"].clone();
        assert_eq!(merged("  <<: *base\n  a: 3\n"), json!({"a": 3, "b": 1}));
        assert_eq!(merged("  <<: [*base, *other]\n"), json!({"a": 1, "b": 1, "c": 2}));
        assert_eq!(merged("  a: 3\n  <<: *base\n"), json!({"a": 1, "b": 1}), "as go-yaml 2 has it");
        assert_eq!(merged("  \"<<\": 1\n"), json!({"<<": 1}));
        assert_eq!(merged("  1: a\n  true: b\n  1: c\n"), json!({"1": "c", "true": "b"}));
    }

    #[test]
    fn a_document_that_is_too_deep_or_multiplies_is_an_error() {
        let deep = 100_000;
        let mut multiplied = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        let mut nested = "a0: &a0 []\n".to_owned();
        for level in 1..50 {
            let tenfold = vec![format!("*a{}", level - 1); 10].join(", ");
            multiplied.push_str(&format!("a{level}: &a{level} [{tenfold}]\n"));
        }
        for level in 1..deep {
            nested.push_str(&format!("a{level}: &a{level} [*a{}]\n", level - 1));
        }
        for text in [
            "[".repeat(deep),
            "{\"a\":".repeat(deep),
            "- ".repeat(deep),
            "? ".repeat(deep),
            "[".repeat(200) + &"]".repeat(200),
            multiplied,
            nested,
        ] {
            let error = parse(&text).expect_err("too deep");
            assert!(error.len() < 200, "{error}");
        }
    }
}
