//! The real parts of the lab, built from the Go modules in `tools/` into a cache outside of git.
//!
//! Each module has a folder `${XDG_CACHE_HOME:-~/.cache}/fly-tunnel-operator/HASH/`, where the hash is over everything
//! that goes into the build. A build writes into a folder beside its results and moves them into place at its end, so
//! an interrupted build is never taken for a finished one. One lab builds at a time, while others wait for it. Modules
//! are built side by side; those that only some tests need are built when they are asked for ([`on_first_use`]).

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use ring::digest::{Context, SHA256};

use crate::process::{Process, Spawn, tail, write_script};

/// The programs of the multi-call binary, which runs the one that it is called as.
const CONTROL_PLANE_NAMES: [&str; 6] =
    ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl", "promlint"];

const KUBERNETES: Module = Module {
    what: "the control plane (once, some 5 minutes)",
    folder: concat!(env!("CARGO_MANIFEST_DIR"), "/tools/kubernetes"),
    // Without this flag the API server reports no version. The version is that of go.mod.
    ldflags: "-s -w -X k8s.io/component-base/version.gitVersion=v1.36.3 \
              -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=36",
    tags: "",
    packages: &["."],
    programs: &["kubernetes"],
    dependencies: 2711,
};

const FRP: Module = Module {
    what: "frps and frpc (once, a minute)",
    folder: concat!(env!("CARGO_MANIFEST_DIR"), "/tools/frp"),
    // The module lacks the pages of the dashboards, which nobody here asks for.
    tags: "noweb",
    ldflags: "-s -w",
    packages: FRP_PACKAGES,
    programs: FRP_PROGRAMS,
    dependencies: 436,
};

const OLD_FRP: Module = Module {
    what: "frps and frpc 0.61.1 (once, a minute)",
    folder: concat!(env!("CARGO_MANIFEST_DIR"), "/tools/frp-0.61.1"),
    tags: "",
    ldflags: "-s -w",
    packages: FRP_PACKAGES,
    programs: FRP_PROGRAMS,
    dependencies: 445,
};

const FRP_PACKAGES: &[&str] = &["github.com/fatedier/frp/cmd/frps", "github.com/fatedier/frp/cmd/frpc"];

const FRP_PROGRAMS: &[&str] = &["frps", "frpc"];

/// The name of helm, for [`on_first_use`].
pub const HELM: &str = "helm";

/// The name of Prometheus' query engine, for [`on_first_use`].
pub const PROMETHEUS: &str = "prometheus";

/// Modules that no lab needs to run. Each is built when its program is first asked for by name.
const ON_FIRST_USE: [Module; 2] = [
    Module {
        what: "helm (once, 2 minutes)",
        folder: concat!(env!("CARGO_MANIFEST_DIR"), "/tools/helm"),
        // Without this flag helm has no version, which a chart may ask for. The version is that of go.mod.
        tags: "",
        ldflags: "-s -w -X helm.sh/helm/v4/internal/version.version=v4.3.1",
        packages: &["helm.sh/helm/v4/cmd/helm"],
        programs: &[HELM],
        dependencies: 1183,
    },
    Module {
        what: "Prometheus' query engine (once, a minute)",
        folder: concat!(env!("CARGO_MANIFEST_DIR"), "/tools/prometheus"),
        tags: "",
        ldflags: "-s -w",
        packages: &["."],
        programs: &[PROMETHEUS],
        dependencies: 415,
    },
];

/// Paths of the programs that the lab runs.
pub struct Parts {
    /// etcd, kube-apiserver, kube-controller-manager, kube-scheduler, kubectl and promlint, by `argv[0]`.
    pub control_plane: PathBuf,
    /// frp at the version of the default images.
    pub frp: Frp,
    /// frp 0.61.1, from which an operator that is upgraded moves.
    pub old_frp: Frp,
}

/// Paths of frp's two programs, of one version.
pub struct Frp {
    pub frps: PathBuf,
    pub frpc: PathBuf,
}

impl Frp {
    fn of(module: &Module, cache: &Path) -> io::Result<Frp> {
        let folder = module.results(cache)?;
        Ok(Frp { frps: folder.join("frps"), frpc: folder.join("frpc") })
    }
}

/// The modules that every lab needs.
const ALWAYS: [&Module; 3] = [&KUBERNETES, &FRP, &OLD_FRP];

impl Parts {
    /// The programs that every lab runs, built if they are not in the cache. Progress goes to standard error.
    ///
    /// # Errors
    /// Go is missing or too old, or a build fails; the message tells which.
    pub fn get() -> io::Result<&'static Parts> {
        static PARTS: OnceLock<io::Result<Parts>> = OnceLock::new();
        PARTS.get_or_init(Parts::find_or_build).as_ref().map_err(|error| io::Error::other(error.to_string()))
    }

    fn find_or_build() -> io::Result<Parts> {
        let cache = cache_folder()?;
        build(&ALWAYS, &cache)?;
        Ok(Parts {
            control_plane: KUBERNETES.results(&cache)?.join("kubernetes"),
            frp: Frp::of(&FRP, &cache)?,
            old_frp: Frp::of(&OLD_FRP, &cache)?,
        })
    }

    /// The frp that an image of this reference brings: 0.61.1 where its tag says so.
    pub fn frp_of(&self, image: &str) -> &Frp {
        let is_old = [":0.61.1", ":v0.61.1"].iter().any(|tag| image.contains(tag));
        if is_old { &self.old_frp } else { &self.frp }
    }

    /// Fills a folder for `PATH` with kubectl, kube-scheduler and the others, frpc, frps, the operator if given, and a
    /// `helm` that is built on first use.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn link_into(&self, folder: &Path, operator: Option<&Path>) -> io::Result<()> {
        fs::create_dir_all(folder)?;
        for name in CONTROL_PLANE_NAMES {
            symlink(&self.control_plane, folder.join(name))?;
        }
        symlink(&self.frp.frps, folder.join("frps"))?;
        symlink(&self.frp.frpc, folder.join("frpc"))?;
        if let Some(operator) = operator {
            symlink(operator, folder.join("fly-tunnel-operator"))?;
        }
        write_script(&folder.join(HELM), &helm_wrapper(&module_of(HELM)?.program(&cache_folder()?)?))
    }
}

/// The path of a program that no lab needs to run, such as [`HELM`]. It is built if it is not in the cache.
///
/// # Errors
/// There is no such program, or a build fails as in [`Parts::get`].
pub fn on_first_use(program: &str) -> io::Result<PathBuf> {
    let cache = cache_folder()?;
    let module = module_of(program)?;
    build(&[module], &cache)?;
    module.program(&cache)
}

/// Builds the programs that every lab runs, and these besides, side by side.
///
/// # Errors
/// As [`on_first_use`].
pub fn build_with(programs: &[String]) -> io::Result<()> {
    let mut modules = ALWAYS.to_vec();
    for program in programs {
        modules.push(module_of(program)?);
    }
    build(&modules, &cache_folder()?)
}

fn module_of(program: &str) -> io::Result<&'static Module> {
    let module = ON_FIRST_USE.iter().find(|module| module.programs == [program]);
    module.ok_or_else(|| io::Error::other(format!("there is no part {program}")))
}

/// The text of the `helm` in `PATH`. It is a script, since it may be called long after the test or lab that made the
/// folder has ended.
fn helm_wrapper(helm: &Path) -> String {
    format!(
        "#!/bin/sh\n\
         # Builds helm on first use, then runs it.\n\
         helm='{helm}'\n\
         [ -x \"$helm\" ] || cargo run --quiet --locked --manifest-path '{manifest}' --bin parts -- {HELM} || exit\n\
         exec \"$helm\" \"$@\"\n",
        helm = helm.display(),
        manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"),
    )
}

/// A Go module and the programs that are built from it.
struct Module {
    what: &'static str,
    folder: &'static str,
    /// Build tags, with commas between them.
    tags: &'static str,
    ldflags: &'static str,
    packages: &'static [&'static str],
    /// The names of the programs, one for each package.
    programs: &'static [&'static str],
    /// The number of packages to compile (`go list -deps`). Only the progress uses it.
    dependencies: usize,
}

impl Module {
    /// The folder where the programs are, or will be.
    fn results(&self, cache: &Path) -> io::Result<PathBuf> {
        let mut inputs: Vec<PathBuf> = Vec::new();
        for entry in fs::read_dir(self.folder)? {
            inputs.push(entry?.path());
        }
        inputs.sort();
        let mut hash = Context::new(&SHA256);
        for input in inputs {
            hash.update(&fs::read(input)?);
        }
        hash.update(self.tags.as_bytes());
        hash.update(self.ldflags.as_bytes());
        let hex: String = hash.finish().as_ref()[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(cache.join(hex))
    }

    /// The path where its only program is, or will be.
    fn program(&self, cache: &Path) -> io::Result<PathBuf> {
        Ok(self.results(cache)?.join(self.programs[0]))
    }

    fn is_built(&self, cache: &Path) -> io::Result<bool> {
        let results = self.results(cache)?;
        Ok(self.programs.iter().all(|program| results.join(program).exists()))
    }
}

fn cache_folder() -> io::Result<PathBuf> {
    let base = match (std::env::var_os("XDG_CACHE_HOME"), std::env::var_os("HOME")) {
        (Some(cache), _) if !cache.is_empty() => PathBuf::from(cache),
        (_, Some(home)) => PathBuf::from(home).join(".cache"),
        _ => return Err(io::Error::other("neither XDG_CACHE_HOME nor HOME is set")),
    };
    Ok(base.join("fly-tunnel-operator"))
}

/// Builds those of `modules` that the cache lacks.
fn build(modules: &[&Module], cache: &Path) -> io::Result<()> {
    let missing = || -> io::Result<Vec<&Module>> {
        let mut missing = Vec::new();
        for module in modules {
            if !module.is_built(cache)? {
                missing.push(*module);
            }
        }
        Ok(missing)
    };
    if missing()?.is_empty() {
        return Ok(());
    }
    fs::create_dir_all(cache)?;
    let _lock = wait_for_lock(&cache.join("lock"))?;
    // Look again: while we waited for the lock, another lab may have built them.
    let missing = missing()?;
    check_go(missing.first().map_or(cache, |module| Path::new(module.folder)))?;
    let mut builds = Vec::new();
    for module in missing {
        builds.push(Build::start(module, cache)?);
    }
    let mut progress = Progress::new();
    while !builds.is_empty() {
        std::thread::sleep(Duration::from_millis(100));
        let mut running = Vec::new();
        for mut build in builds {
            match build.process.exit_status() {
                None => running.push(build),
                Some(status) if status.success() => build.finish()?,
                Some(_) => {
                    let tail = tail(&build.log, 30);
                    return Err(io::Error::other(format!("building {} failed:\n{tail}", build.module.what)));
                }
            }
        }
        builds = running;
        progress.every_two_seconds(|seconds| {
            for build in &builds {
                eprintln!("lab: building {}: {seconds} s, {}", build.module.what, build.progress());
            }
        });
    }
    Ok(())
}

/// Takes the lock, which lets only one lab build at a time.
fn wait_for_lock(path: &Path) -> io::Result<File> {
    let lock = File::create(path)?;
    let mut progress = Progress::new();
    loop {
        match lock.try_lock() {
            Ok(()) => return Ok(lock),
            Err(TryLockError::Error(error)) => return Err(error),
            Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(100)),
        }
        progress.every_two_seconds(|seconds| eprintln!("lab: another lab builds the parts, waiting: {seconds} s"));
    }
}

/// Checks that Go is there. If it is older than the module asks for, Go itself says so clearly.
fn check_go(module: &Path) -> io::Result<()> {
    let go = Command::new("go").arg("version").current_dir(module).output().map_err(|error| {
        io::Error::other(format!("the lab builds its parts with Go 1.26 or newer, but `go` does not start: {error}"))
    })?;
    if go.status.success() {
        return Ok(());
    }
    Err(io::Error::other(format!("the lab needs a newer Go: {}", String::from_utf8_lossy(&go.stderr).trim())))
}

/// One `go build` under way.
struct Build<'a> {
    module: &'a Module,
    process: Process,
    results: PathBuf,
    unfinished: PathBuf,
    log: PathBuf,
}

impl<'a> Build<'a> {
    fn start(module: &'a Module, cache: &Path) -> io::Result<Build<'a>> {
        let results = module.results(cache)?;
        let unfinished = results.join("unfinished");
        // A folder that is there was left by an interrupted build: nobody else builds while we hold the lock.
        if unfinished.exists() {
            fs::remove_dir_all(&unfinished)?;
        }
        fs::create_dir_all(&unfinished)?;
        let log = unfinished.join("log");
        let mut args =
            vec!["build", "-v", "-trimpath", "-buildvcs=false", "-tags", module.tags, "-ldflags", module.ldflags, "-o"];
        let output = format!("{}/", unfinished.display());
        args.push(&output);
        args.extend(module.packages);
        let process = Process::spawn(Spawn {
            program: "go".into(),
            argv0: None,
            args: args.into_iter().map(str::to_owned).collect(),
            env: std::env::vars().chain([("CGO_ENABLED".into(), "0".into())]).collect(),
            dir: module.folder.into(),
            log: log.clone(),
        })?;
        Ok(Build { module, process, results, unfinished, log })
    }

    fn finish(self) -> io::Result<()> {
        for program in self.module.programs {
            fs::rename(self.unfinished.join(program), self.results.join(program))?;
        }
        fs::remove_dir_all(&self.unfinished)
    }

    /// The progress as text. It counts lines of the log: with `-v`, go prints a line for each package that it compiles
    /// and for each module that it downloads.
    fn progress(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let downloads = log.lines().filter(|line| line.starts_with("go: downloading")).count();
        let packages = log.lines().count() - downloads;
        let last = log.lines().last().unwrap_or("checking what is there, or linking");
        let all = self.module.dependencies;
        format!("{downloads} modules downloaded, {packages} of {all} packages compiled, last: {last}")
    }
}

/// Prints progress from time to time.
struct Progress {
    start: Instant,
    next: Duration,
}

impl Progress {
    const INTERVAL: Duration = Duration::from_secs(2);

    fn new() -> Progress {
        Progress { start: Instant::now(), next: Progress::INTERVAL }
    }

    fn every_two_seconds(&mut self, say: impl FnOnce(u64)) {
        let elapsed = self.start.elapsed();
        if elapsed >= self.next {
            self.next = elapsed + Progress::INTERVAL;
            say(elapsed.as_secs());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A module that builds in a second, and an empty cache for it.
    fn tiny(name: &str, source: &str) -> (Module, PathBuf) {
        let base = std::env::temp_dir().join(format!("lab-parts-{name}-{}", std::process::id()));
        let folder = base.join("module");
        fs::create_dir_all(&folder).expect("writable");
        fs::write(folder.join("go.mod"), "module example.com/tiny\n\ngo 1.26.0\n").expect("writable");
        fs::write(folder.join("main.go"), source).expect("writable");
        let folder = folder.to_str().expect("UTF-8").to_owned().leak();
        (
            Module {
                what: "tiny",
                folder,
                tags: "",
                ldflags: "",
                packages: &["."],
                programs: &["tiny"],
                dependencies: 50,
            },
            base,
        )
    }

    #[test]
    fn an_interrupted_build_is_not_taken_for_a_finished_one() {
        let (module, base) = tiny("interrupted", "package main\n\nfunc main() {}\n");
        let cache = base.join("cache");
        let results = module.results(&cache).expect("readable");
        // A lab that was killed while it built leaves the folder like this.
        fs::create_dir_all(results.join("unfinished")).expect("writable");
        fs::write(results.join("unfinished/tiny"), "half a program").expect("writable");
        assert!(!module.is_built(&cache).expect("readable"));
        build(&[&module], &cache).expect("builds");
        assert!(Command::new(results.join("tiny")).status().expect("runs").success());
        assert!(!results.join("unfinished").exists());
        fs::remove_dir_all(base).expect("removable");
    }

    #[test]
    fn a_failed_build_leaves_nothing_and_says_why() {
        let (module, base) = tiny("failed", "package main\n\nfunc main() { nonsense }\n");
        let cache = base.join("cache");
        let error = build(&[&module], &cache).expect_err("nonsense is not defined").to_string();
        assert!(error.contains("undefined: nonsense"), "{error}");
        assert!(!module.is_built(&cache).expect("readable"));
        fs::remove_dir_all(base).expect("removable");
    }

    #[test]
    fn a_changed_source_is_another_build() {
        let (module, base) = tiny("changed", "package main\n\nfunc main() {}\n");
        let before = module.results(&base).expect("readable");
        fs::write(Path::new(module.folder).join("main.go"), "package main\n\nfunc main() { println() }\n")
            .expect("writable");
        assert_ne!(module.results(&base).expect("readable"), before);
        fs::remove_dir_all(base).expect("removable");
    }
}
