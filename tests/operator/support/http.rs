//! The operator's HTTP port, as an HTTP client that is not ours reads it.

use std::net::SocketAddr;
use std::time::Duration;

use lab::operator::RunningOperator;

/// The status, content type and body of an answer, or `None` if nobody listens.
pub fn ask(operator: &RunningOperator, path: &str) -> Option<(u16, String, String)> {
    let address: SocketAddr = operator.http_address();
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .proxy(None)
        .timeout_global(Some(Duration::from_secs(10)))
        .build()
        .into();
    let mut reply = agent.get(format!("http://{address}{path}")).call().ok()?;
    let header = reply.headers().get("content-type").and_then(|value| value.to_str().ok());
    let content_type = header.unwrap_or_default().to_owned();
    let status = reply.status().as_u16();
    Some((status, content_type, reply.body_mut().read_to_string().expect("a whole body")))
}

pub fn status(operator: &RunningOperator, path: &str) -> Option<u16> {
    ask(operator, path).map(|(status, ..)| status)
}

pub fn metrics(operator: &RunningOperator) -> String {
    let (status, content_type, text) = ask(operator, "/metrics").expect("an answer");
    assert_eq!((status, content_type.as_str()), (200, "text/plain; version=0.0.4; charset=utf-8"));
    text
}
