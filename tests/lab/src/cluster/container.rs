//! The life of one container: it is put together, started, probed, restarted and stopped.

use std::fs;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::echo::Echo;
use super::environment::{Environment, environment, expand};
use super::images::{Image, Program};
use super::mounts::Mounts;
use super::pod::PodContext;
use super::probes::{self, Probed};
use super::spec::{Container, RestartPolicy};
use super::status::{ContainerState, Waiting};
use crate::process::{Process, Spawn};
use crate::root_fs::RootFs;

/// The kubelet's back-off between restarts, twenty times as fast. The kubelet begins with 10 s, doubles it up to 5
/// minutes, and forgets it after 10 minutes. The first restart comes at once.
const FIRST_BACKOFF: Duration = Duration::from_millis(500);
const LONGEST_BACKOFF: Duration = Duration::from_secs(15);
const FORGET_BACKOFF: Duration = Duration::from_secs(30);
/// The time that a container has to end in, however long its `preStop` hook took.
const LEAST_GRACE: Duration = Duration::from_secs(2);
/// The pause before a failed start is tried again, in case no watch tells that the missing thing has come.
const RETRY: Duration = Duration::from_secs(1);

/// Runs a container until it has ended for good, or until `stop` gives it a grace period to end in.
pub(crate) async fn run(context: &PodContext, index: usize, mut stop: watch::Receiver<Option<Duration>>) {
    let life = Life { context, container: &context.pod.spec.containers[index], index };
    let mut running = None;
    let grace = tokio::select! {
        () = life.live(&mut running) => return,
        stop = stop.wait_for(Option::is_some) => stop.ok().and_then(|grace| *grace).unwrap_or_default(),
    };
    if let Some(running) = running {
        let exit_code = life.end(running, grace).await;
        life.update(|state| state.terminate(exit_code, ""));
    }
}

/// The file name of a container's log.
pub(crate) fn log_name(namespace: &str, pod: &str, container: &str) -> String {
    format!("{namespace}_{pod}_{container}.log")
}

struct Life<'a> {
    context: &'a PodContext,
    container: &'a Container,
    index: usize,
}

impl Life<'_> {
    /// Runs the container again and again, until the restart policy wants no further start. The current run is in
    /// `running`, so that a caller that cuts this short can end it.
    async fn live(&self, running: &mut Option<Running>) {
        let Some(image) = self.context.lab.find_image(&self.container.image) else {
            self.update(|state| state.wait(&Waiting::no_image(&self.container.image)));
            return std::future::pending().await;
        };
        tokio::time::sleep(self.pull_time()).await;
        let mut backoff = Duration::ZERO;
        loop {
            let root = self.root();
            let mut mounts = Mounts::new(self.context, self.container, &root);
            let running_now = self.start(&image, &root, &mut mounts).await;
            let running_now = running.insert(running_now);
            let since = Instant::now();
            self.update(ContainerState::run);
            let (exit_code, message) = tokio::select! {
                exit_code = running_now.wait() => (Some(exit_code), String::new()),
                unhealthy = probes::run(self.container, self.context.address, self) => (None, unhealthy),
                never = mounts.follow() => match never {},
            };
            let ended = running.take();
            let exit_code = match (exit_code, ended) {
                (None, Some(unhealthy)) => {
                    let grace = self.context.pod.spec.termination_grace_period_seconds;
                    self.end(unhealthy, Duration::from_secs(grace)).await
                }
                (exit_code, _) => exit_code.unwrap_or_default(),
            };
            self.update(|state| state.terminate(exit_code, &message));
            match self.context.pod.spec.restart_policy {
                RestartPolicy::Never => return,
                RestartPolicy::OnFailure if exit_code == 0 => return,
                RestartPolicy::OnFailure | RestartPolicy::Always => {}
            }
            if since.elapsed() > FORGET_BACKOFF {
                backoff = Duration::ZERO;
            }
            self.update(ContainerState::restart);
            if !backoff.is_zero() {
                let message = format!("back-off {backoff:?} restarting failed container={}", self.container.name);
                self.update(|state| state.wait(&Waiting { reason: "CrashLoopBackOff", message }));
                tokio::time::sleep(backoff).await;
            }
            backoff = (backoff * 2).clamp(FIRST_BACKOFF, LONGEST_BACKOFF);
        }
    }

    fn pull_time(&self) -> Duration {
        let times = self.context.lab.pull_times.lock().expect("no one panics while holding it");
        times.get(&self.context.pod.metadata.namespace).copied().unwrap_or_default()
    }

    /// Runs the `preStop` hook, and then has the container end. Both share the grace period; as with the kubelet, two seconds of it are left
    /// for the container at the least.
    async fn end(&self, running: Running, grace: Duration) -> i32 {
        let end = Instant::now() + grace;
        let hook = self.container.lifecycle.pre_stop.as_ref().and_then(|hook| hook.exec.as_ref());
        if let Some(hook) = hook
            && let Ok(Err(why)) = tokio::time::timeout(grace, self.exec(&hook.command)).await
        {
            eprintln!("lab: the preStop hook of pod {} failed: {why}", self.context.pod.metadata.name);
        }
        running.end(end.saturating_duration_since(Instant::now()).max(LEAST_GRACE)).await
    }

    fn root(&self) -> RootFs {
        let dir = self.context.directory.join(&self.container.name);
        let mut root = RootFs::new(dir, self.context.address);
        for mount in &self.container.volume_mounts {
            root.mount(&mount.mount_path);
        }
        root
    }

    /// Tries until the container runs. Meanwhile the status says what it waits for.
    async fn start(&self, image: &Image, root: &RootFs, mounts: &mut Mounts<'_>) -> Running {
        let mut changes = self.context.lab.objects.changes();
        loop {
            match self.try_start(image, root, mounts).await {
                Ok(running) => return running,
                Err(waiting) => self.update(|state| state.wait(&waiting)),
            }
            // Wait for a change of any Secret or ConfigMap, which may be the missing one. The timeout is for things
            // that no watch tells.
            let _ = tokio::time::timeout(RETRY, changes.changed()).await;
        }
    }

    async fn try_start(&self, image: &Image, root: &RootFs, mounts: &mut Mounts<'_>) -> Result<Running, Waiting> {
        if let Some(why) = probes::unsupported(self.container) {
            return Err(Waiting::config(why));
        }
        mounts.update().await?;
        let failed = |error: io::Error| Waiting { reason: "RunContainerError", message: error.to_string() };
        match image {
            Image::Echo => {
                let (name, address) = (&self.context.pod.metadata.name, self.context.address);
                Echo::start(name, address, &self.container.ports, &self.context.lab.frozen)
                    .await
                    .map(Running::Echo)
                    .map_err(failed)
            }
            Image::Program(program) => {
                let process = Process::spawn(self.command(program, root)?).map_err(failed)?;
                let handle = process.handle().map_err(failed)?;
                let mut processes = self.context.lab.processes.lock().expect("no one panics while holding it");
                processes.insert(self.log_name(), handle);
                Ok(Running::Process(process))
            }
        }
    }

    fn command(&self, program: &Program, root: &RootFs) -> Result<Spawn, Waiting> {
        let Container { command, args, working_dir, .. } = self.container;
        let environment = environment(self.context, self.container, program.env)?;
        let expanded = |words: &[String]| -> Vec<String> {
            words.iter().map(|word| root.map_argument(&expand(word, &environment))).collect()
        };
        let args = match command.split_first() {
            None if args.is_empty() => program.default_args.iter().map(|arg| root.map_argument(arg)).collect(),
            None => expanded(args),
            Some((name, first)) if name.rsplit('/').next() == Some(program.name) => {
                [expanded(first), expanded(args)].concat()
            }
            Some((name, _)) => {
                let message = format!("exec: \"{name}\": the image has {} only", program.name);
                return Err(Waiting { reason: "RunContainerError", message });
            }
        };
        let dir = root
            .host_path(working_dir.as_deref().unwrap_or("/"))
            .and_then(|dir| fs::create_dir_all(&dir).map(|()| dir));
        Ok(Spawn {
            program: program.path.clone(),
            argv0: Some(program.name.into()),
            args,
            env: mapped(&environment, root),
            dir: dir.map_err(|error| Waiting::config(error.to_string()))?,
            log: self.log(),
        })
    }

    /// How to run a command beside the container's own process, in its environment.
    fn beside(&self, command: &[String]) -> Result<Spawn, String> {
        let not_found = |name: &str| format!("exec: \"{name}\": executable file not found in $PATH");
        let (name, args) = command.split_first().ok_or("the probe's command is empty")?;
        let program = match self.context.lab.find_image(&self.container.image) {
            Some(Image::Program(program)) if program.shell && name == "sh" => program,
            _ => return Err(not_found(name)),
        };
        let root = self.root();
        let environment = environment(self.context, self.container, program.env).map_err(|waiting| waiting.message)?;
        let mut env = mapped(&environment, &root);
        // The image's program is found by its name, as it would be in the image.
        let folder = program.path.parent().unwrap_or(&program.path).display();
        env.push(("PATH".into(), format!("{folder}:/usr/local/bin:/usr/bin:/bin")));
        let args = args.iter().map(|arg| root.map_argument(arg)).collect();
        let dir = self.context.directory.clone();
        Ok(Spawn { program: "/bin/sh".into(), argv0: None, args, env, dir, log: "/dev/null".into() })
    }

    fn log(&self) -> PathBuf {
        self.context.lab.logs.join(self.log_name())
    }

    fn log_name(&self) -> String {
        let metadata = &self.context.pod.metadata;
        log_name(&metadata.namespace, &metadata.name, &self.container.name)
    }

    fn update(&self, change: impl FnOnce(&mut ContainerState)) {
        self.context.update(self.index, change);
    }
}

/// The environment as the processes of the container get it.
fn mapped(environment: &Environment, root: &RootFs) -> Vec<(String, String)> {
    environment.iter().map(|(name, value)| (name.clone(), root.map_argument(value))).collect()
}

impl probes::Probed for Life<'_> {
    fn started(&self) {
        self.update(|state| state.started = true);
    }

    fn ready(&self, ready: bool) {
        self.update(|state| state.ready = ready);
    }

    async fn exec(&self, command: &[String]) -> Result<(), String> {
        let mut process = Process::spawn(self.beside(command)?).map_err(|error| error.to_string())?;
        let status = process.wait().await;
        if status.success() { Ok(()) } else { Err(format!("command {command:?} ended with {status}")) }
    }
}

enum Running {
    Process(Process),
    #[expect(dead_code, reason = "it serves until it is dropped")]
    Echo(Echo),
}

impl Running {
    /// Waits for its end; returns the exit code as a shell would.
    async fn wait(&mut self) -> i32 {
        match self {
            Running::Process(process) => {
                let status = process.wait().await;
                status.code().or(status.signal().map(|signal| 128 + signal)).unwrap_or_default()
            }
            Running::Echo(_) => std::future::pending().await,
        }
    }

    /// Sends SIGTERM, and SIGKILL when the grace period is over.
    async fn end(mut self, grace: Duration) -> i32 {
        let Running::Process(process) = &mut self else { return 0 };
        process.signal(libc::SIGTERM);
        if tokio::time::timeout(grace, process.wait()).await.is_err() {
            process.signal(libc::SIGKILL);
        }
        self.wait().await
    }
}
