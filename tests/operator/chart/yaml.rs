//! Helm's output, which is YAML, as values.

use serde_json::{Map, Value, json};
use yaml_rust2::{Yaml, YamlLoader};

/// All documents in the text that are not empty. A key that is there twice is refused.
#[track_caller]
pub fn documents(text: &str) -> Vec<Value> {
    let documents = YamlLoader::load_from_str(text).unwrap_or_else(|error| panic!("{error}:\n{text}"));
    documents.iter().map(value).filter(|document| !document.is_null()).collect()
}

fn value(yaml: &Yaml) -> Value {
    match yaml {
        Yaml::Real(number) => json!(number.parse::<f64>().expect("a number")),
        Yaml::Integer(number) => json!(number),
        Yaml::String(text) => json!(text),
        Yaml::Boolean(flag) => json!(flag),
        Yaml::Array(items) => items.iter().map(value).collect(),
        Yaml::Hash(members) => {
            let member = |(key, member): (&Yaml, &Yaml)| (key.as_str().expect("a text").to_owned(), value(member));
            Value::Object(members.iter().map(member).collect::<Map<_, _>>())
        }
        Yaml::Null => Value::Null,
        Yaml::Alias(_) | Yaml::BadValue => panic!("{yaml:?} is not expected in a manifest"),
    }
}
