//! The root of a container, which is a folder.
//!
//! Processes of the lab share one file system and one loopback network with everybody else. So a container's absolute
//! paths and its own addresses are mapped, in arguments, in the environment and in mounted text files:
//!
//! | written | becomes |
//! |---|---|
//! | a path at or under a mount, `/etc/frp/frps.toml` | the same path under the folder |
//! | `0.0.0.0` | the container's own loopback address |
//! | `fly-global-services` | its second one, if it has one |
//! | `:8080` as a whole argument or value | `ADDRESS:8080` |
//! | an frps configuration without `bindAddr` | one with it |
//! | `127.0.0.1` as the `addr` of frp's `[webServer]` | the container's own loopback address |
//!
//! Nothing else is changed. `127.0.0.1` stays elsewhere: it is the lab's own address, where Fly and the API server are.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::net::Ipv4Addr;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

/// The root of one container (or Fly Machine). It maps the container's texts and paths into the folder.
pub struct RootFs {
    dir: PathBuf,
    address: Ipv4Addr,
    udp_address: Option<Ipv4Addr>,
    /// The mounts, as paths in the container, without a slash at the end.
    mounts: Vec<String>,
}

impl RootFs {
    /// A root in `dir` for a process whose `0.0.0.0` is `address`.
    pub fn new(dir: PathBuf, address: Ipv4Addr) -> RootFs {
        RootFs { dir, address, udp_address: None, mounts: Vec::new() }
    }

    /// Maps `fly-global-services` to this address.
    pub fn with_udp_address(self, address: Ipv4Addr) -> RootFs {
        RootFs { udp_address: Some(address), ..self }
    }

    /// Maps `guest_path` and all paths under it from now on. Mount everything before the first [`Self::write`], since a
    /// file's text is mapped when it is written.
    pub fn mount(&mut self, guest_path: &str) {
        self.mounts.push(guest_path.trim_end_matches('/').to_owned());
    }

    /// The real place of a path of the container.
    ///
    /// # Errors
    /// The path is not absolute, or leaves the root by `..`.
    pub fn host_path(&self, guest_path: &str) -> io::Result<PathBuf> {
        let inside = Path::new(guest_path).strip_prefix("/").ok();
        match inside.filter(|path| path.components().all(|part| matches!(part, Component::Normal(_)))) {
            Some(path) => Ok(self.dir.join(path)),
            None => Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{guest_path} is not an absolute path"))),
        }
    }

    /// Writes a file, mapped if it is text, in one step: a reader sees the old content or the new, never a part.
    ///
    /// # Errors
    /// The path is wrong, as in [`Self::host_path`], or the file system fails.
    pub fn write(&self, guest_path: &str, mode: u32, content: &[u8]) -> io::Result<()> {
        let path = self.host_path(guest_path)?;
        let folder = path.parent().expect("a path in the root has a parent");
        fs::create_dir_all(folder)?;
        let mapped = std::str::from_utf8(content)
            .map(|text| self.map_web_server(self.fill_in_bind_address(self.map_text(text))));
        let content = mapped.as_ref().map_or(content, |text| text.as_bytes());
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let new = folder.join(format!(".{name}.new"));
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(content)?;
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        fs::rename(&new, &path)
    }

    /// Maps an argument or the value of an environment variable. It maps it as text, and also the `:PORT` of `:8080` or
    /// `--flag=:8080`.
    pub fn map_argument(&self, argument: &str) -> String {
        let (flag, value) = match argument.rfind('=') {
            Some(at) => argument.split_at(at + 1),
            None => ("", argument),
        };
        match value.strip_prefix(':') {
            Some(port) if port.parse::<u16>().is_ok() => format!("{flag}{}:{port}", self.address),
            _ => self.map_text(argument),
        }
    }

    /// Maps paths and addresses wherever they stand in a text.
    pub fn map_text(&self, text: &str) -> String {
        let mut mounts: Vec<&str> = self.mounts.iter().map(String::as_str).collect();
        mounts.sort_by_key(|mount| std::cmp::Reverse(mount.len()));
        let mut mapped = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(next) = rest.chars().next() {
            let before = character_before(text, rest);
            if let Some((length, replacement)) = self.replacement(&mounts, before, rest) {
                mapped.push_str(&replacement);
                rest = &rest[length..];
            } else {
                mapped.push(next);
                rest = &rest[next.len_utf8()..];
            }
        }
        mapped
    }

    /// If `rest` starts with something that has to be replaced, its length and the replacement.
    fn replacement(&self, mounts: &[&str], before: Option<char>, rest: &str) -> Option<(usize, String)> {
        let is_path = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
        if rest.starts_with('/') && !before.is_some_and(|c| is_path(c) || c == '/') {
            let ends = |mount: &str| !rest[mount.len()..].starts_with(is_path);
            let mount = mounts.iter().find(|mount| rest.starts_with(**mount) && ends(mount))?;
            return Some((mount.len(), format!("{}{mount}", self.dir.display())));
        }
        let is_number = |c: char| c.is_ascii_digit() || c == '.';
        const ANY: &str = "0.0.0.0";
        if let Some(after) = rest.strip_prefix(ANY)
            && !before.is_some_and(is_number)
            // `0.0.0.0/0` is a range, not a listener.
            && !after.starts_with(|c| is_number(c) || c == '/')
        {
            return Some((ANY.len(), self.address.to_string()));
        }
        const UDP: &str = "fly-global-services";
        let udp_address = self.udp_address.filter(|_| rest.starts_with(UDP))?;
        Some((UDP.len(), udp_address.to_string()))
    }

    /// A container's `127.0.0.1` is its own, and the lab's is everybody's: two frpc cannot both listen at one port of it.
    fn map_web_server(&self, text: String) -> String {
        text.replace("[webServer]\naddr = \"127.0.0.1\"\n", &format!("[webServer]\naddr = \"{}\"\n", self.address))
    }

    /// Adds `bindAddr` to a configuration of frps that lacks it: frps would listen on all addresses.
    /// A configuration with `bindPort` is one of frps.
    fn fill_in_bind_address(&self, text: String) -> String {
        let top_level = || text.lines().map(str::trim_start).take_while(|line| !line.starts_with('['));
        let has = |key: &str| {
            top_level().any(|line| line.strip_prefix(key).is_some_and(|rest| rest.trim_start().starts_with('=')))
        };
        if has("bindPort") && !has("bindAddr") { format!("bindAddr = \"{}\"\n{text}", self.address) } else { text }
    }
}

/// The character of `text` that stands before its suffix `rest`.
fn character_before(text: &str, rest: &str) -> Option<char> {
    text[..text.len() - rest.len()].chars().next_back()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root(dir: &str) -> RootFs {
        let mut root = RootFs::new(dir.into(), Ipv4Addr::new(127, 77, 0, 1));
        root.mount("/etc/frp/");
        root.mount("/etc/frp/keys");
        root.with_udp_address(Ipv4Addr::new(127, 78, 0, 1))
    }

    #[test]
    fn text_is_mapped() {
        for (written, expected) in [
            ("/etc/frp/frps.toml", "/r/etc/frp/frps.toml"),
            ("/etc/frp", "/r/etc/frp"),
            ("certFile = \"/etc/frp/keys/tls.crt\"", "certFile = \"/r/etc/frp/keys/tls.crt\""),
            ("a:/etc/frp/x,/etc/frp/y", "a:/r/etc/frp/x,/r/etc/frp/y"),
            ("/etc/frps.toml", "/etc/frps.toml"),
            ("/etc/frp.d/x", "/etc/frp.d/x"),
            ("http://host/etc/frp/x", "http://host/etc/frp/x"),
            ("//etc/frp", "//etc/frp"),
            ("bindAddr = \"0.0.0.0\"", "bindAddr = \"127.77.0.1\""),
            ("0.0.0.0:80", "127.77.0.1:80"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("10.0.0.0.0", "10.0.0.0.0"),
            ("http://127.0.0.1:4280", "http://127.0.0.1:4280"),
            ("proxyBindAddr = \"fly-global-services\"", "proxyBindAddr = \"127.78.0.1\""),
            ("grüße /etc/frp", "grüße /r/etc/frp"),
        ] {
            assert_eq!(root("/r").map_text(written), expected);
        }
    }

    #[test]
    fn a_bare_port_gets_the_address() {
        for (written, expected) in [
            (":8080", "127.77.0.1:8080"),
            ("--http-bind-address=:8080", "--http-bind-address=127.77.0.1:8080"),
            ("--config=/etc/frp/x", "--config=/r/etc/frp/x"),
            (":tag", ":tag"),
            ("image:8080", "image:8080"),
        ] {
            assert_eq!(root("/r").map_argument(written), expected);
        }
    }

    #[test]
    fn frp_listens_at_the_containers_address() {
        let dir = std::env::temp_dir().join(format!("lab-root-fs-{}", std::process::id()));
        let root = root(dir.to_str().expect("UTF-8"));
        for (written, expected) in [
            ("bindPort = 7000\n", "bindAddr = \"127.77.0.1\"\nbindPort = 7000\n"),
            ("bindAddr = \"::1\"\nbindPort = 7000\n", "bindAddr = \"::1\"\nbindPort = 7000\n"),
            ("serverPort = 7000\n", "serverPort = 7000\n"),
            ("[t]\nbindPort = 7000\n", "[t]\nbindPort = 7000\n"),
            ("[webServer]\naddr = \"127.0.0.1\"\nport = 1\n", "[webServer]\naddr = \"127.77.0.1\"\nport = 1\n"),
            ("[other]\naddr = \"127.0.0.1\"\n", "[other]\naddr = \"127.0.0.1\"\n"),
        ] {
            root.write("/etc/frp/frps.toml", 0o400, written.as_bytes()).expect("writable");
            assert_eq!(fs::read_to_string(dir.join("etc/frp/frps.toml")).expect("readable"), expected);
        }
        assert!(root.write("/../x", 0o600, b"").is_err());
        assert!(root.write("etc/x", 0o600, b"").is_err());
        fs::remove_dir_all(dir).expect("removable");
    }
}
