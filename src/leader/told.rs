//! Tells people about the election: each change once.

use std::time::Duration;

use kube_client_lite::lease::{Candidate, Standing};

/// The last thing that people were told.
#[derive(Default)]
pub(super) struct Told {
    /// The holder that we said we wait for, and whether its Lease is retired.
    followed: Option<(String, bool)>,
}

impl Told {
    /// Tells how `identity` stands now, where that is news. `led` says whether it led before.
    pub(super) fn standing(&mut self, identity: &str, led: bool, standing: &Standing, candidate: &Candidate) {
        match standing {
            Standing::Leading if !led => {
                self.followed = None;
                log::info!("leading, as {identity}");
            }
            Standing::Leading | Standing::Seized(_) => {}
            Standing::Following { holder, .. } => {
                let followed = Some((holder.clone(), candidate.is_retired()));
                if self.followed != followed {
                    self.followed = followed;
                    following(identity, led, holder, candidate);
                }
            }
        }
    }
}

fn following(identity: &str, led: bool, holder: &str, candidate: &Candidate) {
    if candidate.is_retired() {
        log::warn!(
            "standing by: {holder} took all tunnels down (--drain), and they stay down: end this operator, or start it again to make them anew"
        );
        return;
    }
    let whose = match holder {
        "" => "nobody's at the moment".to_owned(),
        holder if holder == identity => "ours, but not renewed".to_owned(),
        holder => format!("{holder}'s"),
    };
    let left = candidate.expires_in().map(|left| humantime::format_duration(whole_seconds(left)));
    let wait = left.map(|left| format!(", and to be taken in {left} without a sign of life")).unwrap_or_default();
    if led {
        log::warn!("standing by: the Lease was lost, and is {whose}{wait}");
    } else {
        log::info!("standing by, as {identity}: the Lease is {whose}{wait}");
    }
}

/// A duration without the fractions that nobody reads.
pub(super) fn whole_seconds(duration: Duration) -> Duration {
    Duration::from_secs(duration.as_secs_f64().round() as u64)
}
