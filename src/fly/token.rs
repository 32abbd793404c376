//! The Fly token: where it comes from, and how it goes into a request. It never shows.

use std::path::PathBuf;
use std::{fmt, fs};

/// Where the token is. A file is read at each use: it is small, and a rotated Secret then needs no restart. What can be read
/// only once is a value.
#[derive(Clone, Debug)]
pub enum TokenSource {
    File(PathBuf),
    Value(Token),
}

/// A token as it was given. Only this file reads it, and its `Debug` does not show it.
#[derive(Clone)]
pub struct Token(String);

impl From<&str> for Token {
    fn from(text: &str) -> Token {
        Token(text.to_owned())
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

impl TokenSource {
    /// The token in a file. A pipe, such as /dev/stdin, can be read only once, so what it holds is kept.
    ///
    /// # Errors
    /// The file cannot be read, or there is no token in it.
    pub fn in_file(path: &str) -> Result<TokenSource, String> {
        let is_pipe = fs::metadata(path).is_ok_and(|file| !file.is_file() && !file.is_dir());
        let source = if is_pipe {
            TokenSource::Value(Token(fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?))
        } else {
            TokenSource::File(path.into())
        };
        source.read().map(|_| source)
    }

    /// The value of the `Authorization` header.
    ///
    /// # Errors
    /// The file cannot be read, or there is no token in it.
    pub fn read(&self) -> Result<String, String> {
        match self {
            TokenSource::Value(Token(text)) => header(text),
            TokenSource::File(path) => match fs::read_to_string(path) {
                Ok(text) => header(&text).map_err(|error| format!("{}: {error}", path.display())),
                Err(error) => Err(format!("{}: {error}", path.display())),
            },
        }
    }
}

/// Macaroons (`fm1r_`, `fm1a_`, `fm2_`, several joined by commas) go under `FlyV1`, any other token under `Bearer`
/// (fly-go `tokens.go`). The prefixes, quotes and blanks that come along when people copy a token are taken off.
fn header(text: &str) -> Result<String, String> {
    let mut token = text.trim().trim_matches(['"', '\'']).trim();
    while let Some((scheme, rest)) = token.split_once(char::is_whitespace) {
        if !is_scheme(scheme) {
            return Err("the token has a blank in it".into());
        }
        token = rest.trim_start();
    }
    if token.is_empty() || is_scheme(token) {
        return Err("the token is empty".into());
    }
    if !token.bytes().all(|b| b.is_ascii_graphic()) {
        return Err("the token has a character that no token has".into());
    }
    let macaroons: Vec<&str> = token.split(',').filter(|part| is_macaroon(part)).collect();
    Ok(if macaroons.is_empty() { format!("Bearer {token}") } else { format!("FlyV1 {}", macaroons.join(",")) })
}

fn is_scheme(word: &str) -> bool {
    word.eq_ignore_ascii_case("bearer") || word.eq_ignore_ascii_case("flyv1")
}

fn is_macaroon(token: &str) -> bool {
    ["fm1r_", "fm1a_", "fm2_"].iter().any(|prefix| token.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_taken_as_people_paste_them() {
        for (text, expected) in [
            ("fo1_abc", "Bearer fo1_abc"),
            ("fo1_abc\n", "Bearer fo1_abc"),
            ("\"fo1_abc\"\n", "Bearer fo1_abc"),
            ("Bearer fo1_abc", "Bearer fo1_abc"),
            ("FlyV1 fm2_a,fm2_b", "FlyV1 fm2_a,fm2_b"),
            ("bearer FlyV1 fm2_a", "FlyV1 fm2_a"),
            ("fm2_a,fo1_b", "FlyV1 fm2_a"),
        ] {
            assert_eq!(header(text).as_deref(), Ok(expected), "{text:?}");
        }
        for wrong in ["", " \n", "\"\"", "Bearer ", "two words"] {
            assert!(header(wrong).is_err(), "{wrong:?}");
        }
    }

    /// `--fly-api-token-file <(fly tokens create org)`, or `/dev/stdin`: it can be read only once.
    #[test]
    fn a_token_from_a_pipe_is_kept() {
        use std::io::Write;
        use std::os::fd::AsRawFd;
        let (reader, mut writer) = std::io::pipe().expect("a pipe");
        writer.write_all(b"fo1_abc\n").expect("there is room");
        drop(writer);
        let source = TokenSource::in_file(&format!("/proc/self/fd/{}", reader.as_raw_fd())).expect("a token");
        for _ in 0..3 {
            assert_eq!(source.read().as_deref(), Ok("Bearer fo1_abc"));
        }
    }

    #[test]
    fn a_token_in_a_file_is_read_each_time() {
        let path = std::env::temp_dir().join(format!("fly-tunnel-operator-token-{}", std::process::id()));
        let shown = path.display().to_string();
        assert!(TokenSource::in_file(&shown).is_err_and(|error| error.contains(&shown)));
        fs::write(&path, "fo1_a").expect("a file");
        let source = TokenSource::in_file(&shown).expect("a token");
        fs::write(&path, "fo1_b").expect("a file");
        assert_eq!(source.read().as_deref(), Ok("Bearer fo1_b"));
        fs::write(&path, "").expect("a file");
        assert!(source.read().is_err(), "nothing is kept");
        fs::remove_file(&path).expect("it is ours");
    }

    #[test]
    fn a_token_never_shows() {
        assert_eq!(format!("{:?}", TokenSource::Value("fo1_secret".into())), "Value(…)");
    }
}
