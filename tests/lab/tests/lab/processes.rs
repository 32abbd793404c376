//! Nothing outlives the lab.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use lab::cluster::Cluster;
use lab::process::{Process, Spawn};

use crate::support::wait_for;

/// The variable that is set in the process that `whatever_the_lab_started_dies_with_it` starts and kills.
const VICTIM: &str = "LAB_TEST_VICTIM";

fn is_running(pid: &str) -> bool {
    // A zombie has been killed, and only waits to be reaped by whoever inherited it.
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

fn children_of(pid: u32) -> Vec<String> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("the process is there");
    let children = tasks.flatten().map(|task| fs::read_to_string(task.path().join("children")).unwrap_or_default());
    children.flat_map(|line| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>()).collect()
}

#[test]
fn whatever_the_lab_started_dies_with_it() {
    let file = std::env::temp_dir().join(format!("lab-victim-{}", std::process::id()));
    let mut victim = Command::new(std::env::current_exe().expect("a path"))
        .args(["--exact", "processes::victim", "--nocapture"])
        .env(VICTIM, &file)
        .stdout(Stdio::null())
        .spawn()
        .expect("the test binary starts");
    let directory =
        wait_for(|| fs::read_to_string(&file).ok().filter(|text| text.ends_with('\n')), || "cluster".into());
    let directory = PathBuf::from(directory.trim_end());
    let children = children_of(victim.id());
    // The children are etcd, API server, controller manager, scheduler, and the process that cleans up.
    assert_eq!(children.len(), 5, "{children:?}");
    assert!(children.iter().all(|pid| is_running(pid)));

    victim.kill().expect("killed with SIGKILL");
    victim.wait().expect("reaped");
    wait_for(|| (!children.iter().any(|pid| is_running(pid))).then_some(()), || format!("end of {children:?}"));
    wait_for(|| (!directory.exists()).then_some(()), || format!("end of {}", directory.display()));
    fs::remove_file(file).expect("removable");
}

/// The process that the test above kills. It is no test of its own.
#[test]
fn victim() {
    let Some(file) = std::env::var_os(VICTIM) else { return };
    let directory = Cluster::shared().slot().directory().display().to_string();
    fs::write(file, directory + "\n").expect("writable");
    loop {
        std::thread::park();
    }
}

#[test]
fn a_process_tells_how_it_ended_and_dies_when_dropped() {
    let directory = std::env::temp_dir().join(format!("lab-process-{}", std::process::id()));
    fs::create_dir_all(&directory).expect("writable");
    let shell = |script: &str| {
        Process::spawn(Spawn {
            program: "/bin/sh".into(),
            argv0: Some("name".into()),
            args: vec!["-c".into(), script.into()],
            env: vec![("ONLY".into(), "this".into())],
            dir: directory.clone(),
            log: directory.join("log"),
        })
        .expect("a shell starts")
    };
    let mut process = shell("echo $ONLY-$HOME; pwd; exit 3");
    let status = wait_for(|| process.exit_status(), || "exit status".into());
    assert_eq!(status.code(), Some(3));
    let log = fs::read_to_string(directory.join("log")).expect("a log");
    assert_eq!(log, format!("this-\n{}\n", directory.display()));

    let process = shell("exec sleep 600");
    let pid = process.pid().to_string();
    assert!(is_running(&pid));
    drop(process);
    assert!(!is_running(&pid));
    fs::remove_dir_all(directory).expect("removable");
}
