//! An image in a folder, in the layout of https://github.com/opencontainers/image-spec.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// An image with one layer.
pub struct Image {
    folder: PathBuf,
    manifest: Value,
    pub config: Value,
}

impl Image {
    /// # Panics
    /// It panics unless the folder has exactly one image, with one layer.
    pub fn read(folder: &Path) -> Image {
        let index = json(&folder.join("index.json"));
        assert_eq!(index["manifests"].as_array().map(Vec::len), Some(1), "{index}");
        let manifest = json(&blob(folder, &index["manifests"][0]));
        assert_eq!(manifest["layers"].as_array().map(Vec::len), Some(1), "{manifest}");
        let config = json(&blob(folder, &manifest["config"]));
        Image { folder: folder.to_owned(), manifest, config }
    }

    /// The file of the layer, compressed as it is pushed and pulled.
    pub fn layer(&self) -> PathBuf {
        let layer = &self.manifest["layers"][0];
        assert_eq!(layer["mediaType"], "application/vnd.oci.image.layer.v1.tar+gzip");
        blob(&self.folder, layer)
    }

    pub fn unpack_layer(&self, into: &Path) {
        tar(&["-xzf", utf8(&self.layer()), "-C", utf8(into)]);
    }
}

/// The mode, owner and name of each file and folder in a layer.
pub fn entries(layer: &Path) -> Vec<String> {
    let listing = tar(&["--numeric-owner", "-tvzf", utf8(layer)]);
    let entry = |line: &str| {
        // A line has mode, owner, size, date, time and name.
        let words: Vec<&str> = line.split_whitespace().collect();
        format!("{} {} {}", words[0], words[1], words[5..].join(" "))
    };
    listing.lines().map(entry).collect()
}

fn tar(arguments: &[&str]) -> String {
    let output = Command::new("tar").args(arguments).output().expect("tar runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

/// The path of the content that a descriptor names.
fn blob(folder: &Path, descriptor: &Value) -> PathBuf {
    let digest = descriptor["digest"].as_str().expect("a digest");
    folder.join("blobs").join(digest.replace(':', "/"))
}

fn json(path: &Path) -> Value {
    let text = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_slice(&text).expect("JSON")
}

fn utf8(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}
