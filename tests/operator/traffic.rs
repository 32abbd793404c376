//! A client on the public address gets the backend's answer.

use std::io::{Read, Write};
use std::net::{IpAddr, TcpStream};

use lab::homelab::Homelab;

use crate::{DEADLINE, start};

/// An HTTP exchange, as a user would have it.
fn get(ip: IpAddr, port: u16, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect((ip, port))?;
    stream.set_read_timeout(Some(DEADLINE))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

#[test]
fn one_port() {
    let lab = Homelab::new();
    let _operator = start(&lab);
    let web = lab.service("web").port(8080).create();
    let ip = web.address(DEADLINE);
    let answer = get(ip, 8080, "/").expect("an answer");
    assert!(answer.contains("web-"), "{answer}");
    web.delete();
    web.wait_gone(DEADLINE);
    let state = lab.fly().state();
    assert_eq!(state["apps"], serde_json::json!([]), "{state}");
}
