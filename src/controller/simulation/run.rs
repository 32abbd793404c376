//! Runs as many schedules as the environment asks for (`scripts/simulate`), on all cores, and tells the story of each that fails.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::{Part, ROUNDS, Run, schedule};

/// So many failing seeds are told of, and then no more is run.
const MOST_FAILURES: usize = 10;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// `SIMULATE_SEEDS=1000 SIMULATE_FROM=0`. Without `SIMULATE_SEEDS` it does nothing.
#[test]
fn simulate() {
    let Some(seeds) = number("SIMULATE_SEEDS") else { return };
    let from = number("SIMULATE_FROM").unwrap_or_default();
    std::panic::set_hook(Box::new(|_| ())); // each failure is told below, once it is short
    let (next, failed) = (AtomicU64::new(from), Mutex::new(Vec::new()));
    let (requests, longest) = (AtomicU64::new(0), Mutex::new((Duration::ZERO, 0)));
    let began = Instant::now();
    let cores = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= from + seeds || failed.lock().expect("nobody panics with it").len() >= MOST_FAILURES {
                        return;
                    }
                    match attempt(seed, &Run::default()) {
                        Ok((sent, took)) => {
                            requests.fetch_add(sent, Ordering::Relaxed);
                            let mut longest = longest.lock().expect("nobody panics with it");
                            *longest = (*longest).max((took, seed));
                        }
                        Err(_) => failed.lock().expect("nobody panics with it").push(seed),
                    }
                }
            });
        }
    });
    let _ = std::panic::take_hook();
    let ran = (next.load(Ordering::Relaxed).min(from + seeds) - from) as f64;
    let seconds = began.elapsed().as_secs_f64();
    let (took, seed) = longest.into_inner().expect("nobody panics with it");
    println!("{ran} schedules in {seconds:.0} s, {:.0} a second, {} requests", ran / seconds, requests.into_inner());
    println!("the longest took {} s of their time to settle: seed {seed}", took.as_secs());
    let mut failed = failed.into_inner().expect("nobody panics with it");
    failed.sort_unstable();
    for seed in &failed {
        println!(
            "\n== seed {seed} fails; scripts/simulate --seeds 1 --from {seed} runs it again. Its shortest story:\n{}",
            shortest(*seed)
        );
    }
    assert!(failed.is_empty(), "these seeds fail: {failed:?}");
}

/// Runs a schedule. The error is the story of its failure.
fn attempt(seed: u64, run: &Run) -> Result<(u64, Duration), String> {
    catch_unwind(AssertUnwindSafe(|| schedule(seed, run))).map(|done| (done.requests, done.took)).map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
    })
}

/// Leaves out one part after the other, as long as it fails all the same.
fn shortest(seed: u64) -> String {
    std::panic::set_hook(Box::new(|_| ()));
    let mut run = Run { told: true, ..Run::default() };
    let mut story = attempt(seed, &run).err().unwrap_or_default();
    let parts = [Part::Round, Part::Faults, Part::Crash, Part::Rival, Part::Meanwhile, Part::Event];
    for (part, round) in parts.iter().flat_map(|part| (0..ROUNDS).rev().map(|round| (*part, round))) {
        run.left_out.push((round, part));
        match attempt(seed, &run) {
            Err(shorter) => story = shorter,
            Ok(_) => {
                run.left_out.pop();
            }
        }
    }
    let _ = std::panic::take_hook();
    story
}
