//! YAML and JSON as one kind of value.
//!
//! What is `null` is left out: to kubectl it is the same as a setting that is not there.

use serde_json::Value;
use yaml_rust2::{Yaml, YamlLoader};

/// Reads the first document of a file. An empty file is an empty object.
///
/// # Errors
/// A sentence with the place in the text.
pub(crate) fn parse(text: &str) -> Result<Value, String> {
    let text = text.trim_start_matches('\u{feff}');
    // JSON is YAML but for the tabs, which JSON's users indent with.
    if let Ok(value) = serde_json::from_str(text) {
        return Ok(without_nulls(value));
    }
    let documents = YamlLoader::load_from_str(text).map_err(|error| error.to_string())?;
    match documents.into_iter().next() {
        Some(document) => to_json(document).map(without_nulls),
        None => Ok(Value::Object(Default::default())),
    }
}

fn to_json(yaml: Yaml) -> Result<Value, String> {
    Ok(match yaml {
        Yaml::Null => Value::Null,
        Yaml::Boolean(flag) => Value::Bool(flag),
        Yaml::Integer(number) => Value::from(number),
        Yaml::String(text) => Value::String(text),
        // No setting is a fraction: the text is as good to say what is wrong with it.
        Yaml::Real(text) => Value::String(text),
        Yaml::Array(items) => items.into_iter().map(to_json).collect::<Result<_, _>>().map(Value::Array)?,
        Yaml::Hash(members) => {
            let members = members.into_iter().map(|(key, value)| Ok((key_text(key)?, to_json(value)?)));
            members.collect::<Result<_, String>>().map(Value::Object)?
        }
        Yaml::Alias(_) | Yaml::BadValue => return Err("a YAML alias leads nowhere".to_owned()),
    })
}

fn key_text(key: Yaml) -> Result<String, String> {
    key.into_string().ok_or_else(|| "a key is not a text".to_owned())
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
    fn what_is_neither_is_an_error() {
        for text in ["a: [", "a: b: c", "? [a]\n: b\n", "a: 1\na: 2\n"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
