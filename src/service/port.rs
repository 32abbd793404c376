//! A port of a Service: its protocol and its number.

use std::fmt;

/// A transport protocol that a tunnel can carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    Tcp,
}

/// A port of a Service. Ports with one number and two protocols are two ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Port {
    pub protocol: Protocol,
    pub number: u16,
}

impl Port {
    /// The TCP port of that number.
    pub const fn tcp(number: u16) -> Port {
        Port { protocol: Protocol::Tcp, number }
    }
}

/// As people write it: `443` for a TCP port, which is what nearly every port is.
impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.protocol {
            Protocol::Tcp => write!(f, "{}", self.number),
        }
    }
}

/// As Kubernetes and frp's names write it in lower case: `tcp`.
impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Protocol::Tcp => f.write_str("tcp"),
        }
    }
}

/// In a recipe: `"443/tcp"`.
impl serde::Serialize for Port {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{}/{}", self.number, self.protocol))
    }
}

impl<'de> serde::Deserialize<'de> for Port {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Port, D::Error> {
        let text = String::deserialize(deserializer)?;
        let number = text.strip_suffix("/tcp").and_then(|number| number.parse().ok());
        number.map(Port::tcp).ok_or_else(|| serde::de::Error::custom(format_args!("{text} is no port that is known")))
    }
}
