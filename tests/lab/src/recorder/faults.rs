//! Faults that strike requests on their way.

use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use hyper::http::StatusCode;
use regex::Regex;
use serde::Deserialize;
use serde_json::{Map, Value};
use tokio::sync::Notify;

use super::log::{Request, Target};

/// The fate of a request that a rule strikes.
#[derive(Clone, Debug)]
pub enum Fault {
    /// The recorder gives this answer, and the backend never sees the request.
    Answer(Answer),
    /// The request is passed on after this time.
    Delay(Duration),
    /// The connection is closed, and the backend never sees the request.
    Refuse,
    /// The request is carried out, and then the connection is closed without a reply.
    LoseReply,
    /// The request is carried out at once, and its reply is given after this time.
    DelayReply(Duration),
    /// The request is carried out, and its reply has this body instead of its own.
    ReplyBody(String),
    /// The request is carried out. Its reply breaks off in the midst of the body, and the connection is closed. A reply that
    /// can have no body (204, 304) is lost.
    CutReply,
    /// The request is kept from the backend until the gate opens.
    Hold(Gate),
    /// The request is carried out at once, and its reply is kept until the gate opens.
    HoldReply(Gate),
}

/// An answer that the recorder makes up.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    pub status: u16,
    #[serde(default)]
    pub headers: Map<String, Value>,
    #[serde(default)]
    pub body: String,
}

/// A rule says which requests to strike, when, and with which fault.
///
/// ```
/// # use lab::recorder::{Fault, Rule, Target};
/// // The second and third POST of a Machine end in a broken connection, though the Machine is made.
/// let rule = Rule::new(Fault::LoseReply).to(Target::Fly).method("POST").path("/machines$").skip(1).times(2);
/// ```
#[derive(Clone, Debug)]
pub struct Rule {
    to: Option<Target>,
    from: Option<String>,
    method: Option<String>,
    path: Option<Regex>,
    skip: u32,
    times: u32,
    fault: Fault,
}

impl Rule {
    /// A rule that strikes one request: the first one, whoever it is for.
    pub fn new(fault: Fault) -> Rule {
        Rule { to: None, from: None, method: None, path: None, skip: 0, times: 1, fault }
    }

    /// Strikes only requests to this backend.
    pub fn to(self, to: Target) -> Rule {
        Rule { to: Some(to), ..self }
    }

    /// Strikes only requests from this client: see [`super::Recorder::before_fly`].
    pub fn from(self, client: &str) -> Rule {
        Rule { from: Some(client.to_owned()), ..self }
    }

    /// Strikes only requests with this method.
    pub fn method(self, method: &str) -> Rule {
        Rule { method: Some(method.to_owned()), ..self }
    }

    /// Strikes only requests whose path, with its query, contains a match of this regular expression.
    ///
    /// # Panics
    /// It panics if `pattern` is no regular expression.
    pub fn path(self, pattern: &str) -> Rule {
        Rule { path: Some(Regex::new(pattern).expect("a regular expression")), ..self }
    }

    /// Lets that many matching requests pass first.
    pub fn skip(self, skip: u32) -> Rule {
        Rule { skip, ..self }
    }

    /// Strikes that many matching requests instead of one.
    pub fn times(self, times: u32) -> Rule {
        Rule { times, ..self }
    }

    fn matches(&self, to: Target, from: &str, method: &str, path: &str) -> bool {
        self.to.is_none_or(|wanted| wanted == to)
            && self.from.as_deref().is_none_or(|wanted| wanted == from)
            && self.method.as_deref().is_none_or(|wanted| wanted.eq_ignore_ascii_case(method))
            && self.path.as_ref().is_none_or(|pattern| pattern.is_match(path))
    }
}

/// Reads the JSON of `PUT /faults`. All fields but `fault` may be left out; the defaults are those of [`Rule::new`].
impl TryFrom<Value> for Rule {
    type Error = String;

    fn try_from(value: Value) -> Result<Rule, String> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Fields {
            to: Option<Target>,
            method: Option<String>,
            path: Option<String>,
            #[serde(default)]
            skip: u32,
            times: Option<u32>,
            fault: Value,
        }
        let fields: Fields = serde_json::from_value(value).map_err(|error| error.to_string())?;
        let path = fields.path.as_deref().map(Regex::new).transpose().map_err(|error| error.to_string())?;
        let fault = Fault::try_from(fields.fault)?;
        let times = fields.times.unwrap_or(1);
        Ok(Rule { to: fields.to, from: None, method: fields.method, path, skip: fields.skip, times, fault })
    }
}

/// Reads `{"status", "headers", "body"}`, `{"delay_ms"}`, `{"delay_reply_ms"}`, `{"reply_body"}`, `"refuse"`, `"lose_reply"` or
/// `"cut_reply"`.
impl TryFrom<Value> for Fault {
    type Error = String;

    fn try_from(value: Value) -> Result<Fault, String> {
        /// One field, which names the fault.
        #[derive(Deserialize)]
        #[serde(rename_all = "snake_case")]
        enum Named {
            DelayMs(u64),
            DelayReplyMs(u64),
            ReplyBody(String),
            Refuse,
            LoseReply,
            CutReply,
        }
        match Named::deserialize(&value) {
            Ok(Named::DelayMs(delay)) => return Ok(Fault::Delay(Duration::from_millis(delay))),
            Ok(Named::DelayReplyMs(delay)) => return Ok(Fault::DelayReply(Duration::from_millis(delay))),
            Ok(Named::ReplyBody(body)) => return Ok(Fault::ReplyBody(body)),
            Ok(Named::Refuse) => return Ok(Fault::Refuse),
            Ok(Named::LoseReply) => return Ok(Fault::LoseReply),
            Ok(Named::CutReply) => return Ok(Fault::CutReply),
            Err(_) => {} // an answer
        }
        let answer = Answer::deserialize(&value);
        let answer = answer.map_err(|error| format!("fault {value} is none that the lab knows ({error})"))?;
        StatusCode::from_u16(answer.status).map_err(|error| error.to_string())?;
        Ok(Fault::Answer(answer))
    }
}

/// A gate at which requests, or their replies, are held. Clones are the same gate.
///
/// ```no_run
/// # use std::time::Duration;
/// # use lab::recorder::{Fault, Gate, Recorder, Rule};
/// # let recorder = Recorder::default();
/// let gate = Gate::default();
/// recorder.add_fault(Rule::new(Fault::Hold(gate.clone())).method("POST").path("/ip_assignments$"));
/// let request = gate.wait(Duration::from_secs(10)).expect("an address is asked for");
/// // Kill the client here: the request does not reach Fly.
/// gate.drop_held();
/// ```
#[derive(Clone, Debug, Default)]
pub struct Gate(Arc<GateInner>);

#[derive(Debug, Default)]
struct GateInner {
    state: Mutex<GateState>,
    arrived: Condvar,
    decided: Notify,
}

#[derive(Debug, Default)]
struct GateState {
    held: Vec<Request>,
    /// `Some(true)` lets everything that is held go on, `Some(false)` drops it, `None` is undecided.
    decision: Option<bool>,
}

impl Gate {
    /// Waits until a request is held, and returns the first; `None` after `deadline`.
    pub fn wait(&self, deadline: Duration) -> Option<Request> {
        let state = self.0.state.lock().expect("no one panics while holding it");
        let none_held = |state: &mut GateState| state.held.is_empty();
        let (state, _) = self.0.arrived.wait_timeout_while(state, deadline, none_held).expect("no one panics");
        state.held.first().cloned()
    }

    /// Lets everything go on that is held, and everything that comes later.
    pub fn open(&self) {
        self.decide(true);
    }

    /// Closes the connections of all requests that are held, and of all that come later.
    pub fn drop_held(&self) {
        self.decide(false);
    }

    fn decide(&self, go_on: bool) {
        self.0.state.lock().expect("no one panics while holding it").decision = Some(go_on);
        self.0.decided.notify_waiters();
    }

    /// Holds a request until the decision is made. Returns whether to go on.
    pub(super) async fn hold(&self, request: Request) -> bool {
        self.0.state.lock().expect("no one panics while holding it").held.push(request);
        self.0.arrived.notify_all();
        loop {
            // Register before looking, so that a decision between look and wait is not missed.
            let decided = self.0.decided.notified();
            if let Some(go_on) = self.0.state.lock().expect("no one panics while holding it").decision {
                return go_on;
            }
            decided.await;
        }
    }
}

/// The faults in force.
#[derive(Default)]
pub(super) struct Faults(Mutex<Vec<Rule>>);

impl Faults {
    pub(super) fn set(&self, rules: Vec<Rule>) {
        *self.0.lock().expect("no one panics while holding it") = rules;
    }

    pub(super) fn add(&self, rule: Rule) {
        self.0.lock().expect("no one panics while holding it").push(rule);
    }

    /// Returns the fault that strikes a request, if one does. Each rule counts the requests that reach it: those that
    /// match it and that no rule before it struck.
    pub(super) fn strike(&self, to: Target, from: &str, method: &str, path: &str) -> Option<Fault> {
        let mut rules = self.0.lock().expect("no one panics while holding it");
        for rule in rules.iter_mut().filter(|rule| rule.times > 0 && rule.matches(to, from, method, path)) {
            if rule.skip > 0 {
                rule.skip -= 1;
            } else {
                rule.times -= 1;
                return Some(rule.fault.clone());
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn skip_then_strike_so_many_times() {
        let faults = Faults::default();
        let rule =
            json!({"to": "fly", "method": "POST", "path": "/machines$", "skip": 1, "times": 2, "fault": "refuse"});
        faults.set(vec![Rule::try_from(rule).expect("a rule")]);
        let struck = |method, path| faults.strike(Target::Fly, "", method, path).is_some();
        assert!(!struck("GET", "/v1/apps/a/machines"));
        let posts: Vec<bool> = (0..4).map(|_| struck("POST", "/v1/apps/a/machines")).collect();
        assert_eq!(posts, [false, true, true, false]);
    }

    #[test]
    fn a_rule_may_be_for_one_client_alone() {
        let faults = Faults::default();
        faults.set(vec![Rule::new(Fault::Refuse).from("a").times(u32::MAX)]);
        let struck = |from| faults.strike(Target::Fly, from, "GET", "/").is_some();
        assert_eq!(["a", "b", "", "a"].map(struck), [true, false, false, true]);
    }

    #[test]
    fn rules_are_read_strictly() {
        for good in [
            json!({"fault": "lose_reply"}),
            json!({"fault": "cut_reply"}),
            json!({"fault": {"delay_reply_ms": 50}}),
            json!({"fault": {"reply_body": "<html>"}}),
            json!({"to": "kubernetes", "fault": {"delay_ms": 50}}),
            json!({"fault": {"status": 503, "headers": {"retry-after": "1"}, "body": "busy"}}),
        ] {
            assert!(Rule::try_from(good.clone()).is_ok(), "{good}");
        }
        for bad in [
            json!({"fault": "explode"}),
            json!({"fault": "delay_ms"}),
            json!({"fault": {"delay_ms": 50, "delay_reply_ms": 50}}),
            json!({"fault": {"status": 9999}}),
            json!({"fault": {"status": 503, "delay": 1}}),
            json!({"to": "moon", "fault": "refuse"}),
            json!({"path": "(", "fault": "refuse"}),
            json!({"time": 1, "fault": "refuse"}),
        ] {
            assert!(Rule::try_from(bad.clone()).is_err(), "{bad}");
        }
    }
}
