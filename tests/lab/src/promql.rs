//! Evaluates queries as Prometheus does.

use std::io::Write;
use std::process::{Command, Stdio};

use serde::Deserialize;
use serde_json::json;

use crate::parts::{self, PROMETHEUS};

#[derive(Deserialize)]
struct Answer {
    series: usize,
    error: Option<String>,
}

/// Evaluates each query over texts that were scraped one after the other, at the time of the last scrape. Returns how
/// many series each query gives. Every series has the labels `job` and `instance`, as from Prometheus.
///
/// # Errors
/// Each query has an error of its own: why it cannot be evaluated, or which of its selectors finds nothing.
///
/// # Panics
/// It panics if the engine does not start, or if a scrape cannot be parsed.
pub fn promql(scrapes: &[String], queries: &[String]) -> Vec<Result<usize, String>> {
    let program = parts::on_first_use(PROMETHEUS).expect("the query engine can be built");
    let mut engine = Command::new(program);
    let mut engine = engine.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the query engine starts");
    let asked = json!({ "scrapes": scrapes, "queries": queries }).to_string();
    // An error may be ignored: an engine that cannot parse its input ends early, and says why on our own standard
    // error.
    let _ = engine.stdin.take().expect("it is piped").write_all(asked.as_bytes());
    let output = engine.wait_with_output().expect("the query engine ends");
    assert!(output.status.success(), "the query engine fails");
    let answers: Vec<Answer> = serde_json::from_slice(&output.stdout).expect("answers");
    answers.into_iter().map(|answer| answer.error.map_or(Ok(answer.series), Err)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_queries_give_series_and_bad_ones_are_told() {
        let scrapes = [3, 5].map(|polls| format!("polls_total{{result=\"success\"}} {polls}\nlate 1\n"));
        let cases = [
            ("rate(polls_total{job=~\".+\"}[1m])", Ok(1)),
            ("polls_total > 100", Ok(0)),
            ("polls", Err("nothing is selected")),
            ("polls_total{result=\"failure\"} or vector(0)", Err("nothing is selected")),
            ("sum(polls_total", Err("parse error")),
            ("rate(late[1m])", Err("might not be a counter")),
        ];
        let queries = cases.map(|(query, _)| query.to_owned());
        for ((query, expected), answer) in cases.iter().zip(promql(&scrapes, &queries)) {
            match (expected, answer) {
                (Ok(series), Ok(answer)) => assert_eq!(*series, answer, "{query}"),
                (Err(told), Err(error)) => assert!(error.contains(told), "{query}: {error}"),
                (_, answer) => panic!("{query}: {answer:?}"),
            }
        }
    }
}
