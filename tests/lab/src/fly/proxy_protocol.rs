//! The header by which a proxy tells who the client is (haproxy's `proxy-protocol.txt`), versions 1 and 2.

use std::net::SocketAddr;

use super::types::ProxyProtoVersion;

/// The header for a TCP connection from `source` to `destination`, both IPv4 or both IPv6.
pub(crate) fn header(version: ProxyProtoVersion, source: SocketAddr, destination: SocketAddr) -> Vec<u8> {
    match version {
        ProxyProtoVersion::V1 => {
            let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
            let (from, to) = (source.ip(), destination.ip());
            format!("PROXY {family} {from} {to} {} {}\r\n", source.port(), destination.port()).into_bytes()
        }
        ProxyProtoVersion::V2 => {
            let mut addresses = Vec::new();
            for address in [source, destination] {
                match address {
                    SocketAddr::V4(address) => addresses.extend(address.ip().octets()),
                    SocketAddr::V6(address) => addresses.extend(address.ip().octets()),
                }
            }
            addresses.extend(source.port().to_be_bytes());
            addresses.extend(destination.port().to_be_bytes());
            let mut header = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
            // 0x21 is version 2 and the command PROXY; then come the address family and TCP.
            header.extend([0x21, if source.is_ipv4() { 0x11 } else { 0x21 }]);
            header.extend((addresses.len() as u16).to_be_bytes());
            header.extend(addresses);
            header
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions() {
        let (source, destination) = (SocketAddr::from(([192, 0, 2, 1], 4660)), SocketAddr::from(([192, 0, 2, 2], 443)));
        assert_eq!(header(ProxyProtoVersion::V1, source, destination), b"PROXY TCP4 192.0.2.1 192.0.2.2 4660 443\r\n");
        let mut expected =
            vec![0x0D, 0x0A, 0x0D, 0x0A, 0x00, 0x0D, 0x0A, 0x51, 0x55, 0x49, 0x54, 0x0A, 0x21, 0x11, 0, 12];
        expected.extend([192, 0, 2, 1, 192, 0, 2, 2, 0x12, 0x34, 0x01, 0xBB]);
        assert_eq!(header(ProxyProtoVersion::V2, source, destination), expected);
    }
}
