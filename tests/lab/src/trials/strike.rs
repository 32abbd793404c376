//! The faults that a request can meet.

use std::time::Duration;

use serde_json::{Map, json};

use super::point::Point;
use crate::homelab::Homelab;
use crate::recorder::{Answer, Fault, Gate, Rule};

/// A fault, by name.
#[derive(Clone, Copy)]
pub struct Strike {
    pub name: &'static str,
    what: What,
}

#[derive(Clone, Copy)]
enum What {
    Refused,
    /// The server answers with this status, and asks to be left alone for so many seconds.
    Answers(u16, Option<u64>),
    /// A policy, or a right that is missing: the request and what is tried again after it.
    Policy(u16),
    Lost,
    Silent,
    SilentAfterwards,
    Rubbish,
    Portal,
    Cut,
    Killed,
    KilledAfterwards,
}

/// A policy refuses that many requests in a row. From the third on a Service is told of a failure.
const POLICY: u32 = 3;

/// Twice in a row, since a client sends again at once what met a connection that was closed meanwhile.
const REFUSED: u32 = 2;

/// The silence: longer than any request of the operator may take.
const SILENCE: Duration = Duration::from_secs(60);

/// The page that some proxy in between answers with.
const PAGE: &str = "<html><body>Please accept our terms of use</body></html>";

const fn strike(name: &'static str, what: What) -> Strike {
    Strike { name, what }
}

/// All faults. A request that is `lost`, `silent afterwards`, `rubbish` or `cut` was carried out; one that meets the others was not.
pub const STRIKES: [Strike; 15] = [
    strike("refused", What::Refused),
    strike("500", What::Answers(500, None)),
    strike("503", What::Answers(503, None)),
    strike("429", What::Answers(429, None)),
    strike("429 with Retry-After", What::Answers(429, Some(3))),
    strike("403 three times", What::Policy(403)),
    strike("422 three times", What::Policy(422)),
    strike("lost", What::Lost),
    strike("silent", What::Silent),
    strike("silent afterwards", What::SilentAfterwards),
    strike("rubbish", What::Rubbish),
    strike("a page of a proxy", What::Portal),
    strike("cut", What::Cut),
    strike("killed", What::Killed),
    strike("killed afterwards", What::KilledAfterwards),
];

impl Strike {
    /// Lets the fault strike at the point. The gate tells when the operator is to be killed, if it is.
    pub(super) fn strike(self, lab: &Homelab, point: &Point) -> Option<Gate> {
        let gate = Gate::default();
        let fault = match self.what {
            What::Refused => Fault::Refuse,
            What::Answers(status, retry_after) => Fault::Answer(answer(point, status, retry_after)),
            What::Policy(status) => Fault::Answer(answer(point, status, None)),
            What::Lost => Fault::LoseReply,
            What::Silent => Fault::Delay(SILENCE),
            What::SilentAfterwards => Fault::DelayReply(SILENCE),
            What::Rubbish => Fault::ReplyBody("\u{fffd}}{ rubbish".to_owned()),
            What::Portal => Fault::Answer(Answer { status: 200, headers: Map::new(), body: PAGE.to_owned() }),
            What::Cut => Fault::CutReply,
            What::Killed => Fault::Hold(gate.clone()),
            What::KilledAfterwards => Fault::HoldReply(gate.clone()),
        };
        let times = match self.what {
            What::Policy(_) => POLICY,
            What::Refused => REFUSED,
            _ => 1,
        };
        lab.faults([point.rule(Rule::new(fault)).times(times)]);
        matches!(self.what, What::Killed | What::KilledAfterwards).then_some(gate)
    }
}

/// The server's own way to say so.
fn answer(point: &Point, status: u16, retry_after: Option<u64>) -> Answer {
    let headers = retry_after.map(|seconds| ("Retry-After".to_owned(), json!(seconds.to_string())));
    let (reason, text) = match status {
        403 => ("Forbidden", "a policy does not allow it"),
        422 => ("Invalid", "a policy refuses it: a label is missing"),
        429 => ("TooManyRequests", "rate limit exceeded"),
        503 => ("ServiceUnavailable", "the server is overloaded"),
        _ => ("InternalError", "an error of the server"),
    };
    let body = if point.is_of_fly() {
        json!({ "error": text })
    } else {
        json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "message": text, "code": status })
    };
    Answer { status, headers: headers.into_iter().collect(), body: body.to_string() }
}
