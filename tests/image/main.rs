//! Tests of the image that `scripts/image` has built, an OCI layout: its configuration, the contents of its layer, and
//! that the very binary in it works. Only that script runs these tests; it names the image in the environment.

mod dns;
mod elf;
mod layout;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use std::{env, fs};

use lab::homelab::Homelab;
use lab::operator::Operator;
use serde_json::json;

use elf::Elf;
use layout::Image;

/// The deadline for an address. Even on a slow machine that emulates the processor it takes less.
const DEADLINE: Duration = Duration::from_secs(120);

fn given(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| panic!("{name} is not set: scripts/image runs this test"))
}

fn image() -> Image {
    Image::read(Path::new(&given("IMAGE")))
}

/// The image's binary, unpacked into a folder of its own, which is removed when this is dropped.
struct Unpacked {
    folder: PathBuf,
}

impl Unpacked {
    fn new(test: &str) -> Unpacked {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("image-{test}-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        image().unpack_layer(&folder);
        Unpacked { folder }
    }

    fn binary(&self) -> PathBuf {
        self.folder.join("fly-tunnel-operator")
    }

    /// The operator of this lab that is this binary.
    fn operator<'a>(&self, lab: &'a Homelab) -> Operator<'a> {
        let operator = lab.operator(&self.binary());
        match emulator() {
            Some(emulator) => operator.run_by(&emulator),
            None => operator,
        }
    }
}

/// The program that runs the binary, if it is for another processor.
fn emulator() -> Option<PathBuf> {
    Some(given("IMAGE_RUNNER")).filter(|path| !path.is_empty()).map(PathBuf::from)
}

impl Drop for Unpacked {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

#[test]
fn it_says_what_it_is_and_how_it_is_run() {
    let mut config = image().config;
    assert_eq!(config["os"], "linux");
    assert_eq!(config["architecture"], given("IMAGE_ARCHITECTURE").as_str());
    let run = &mut config["config"];
    let labels = run["Labels"].as_object_mut().expect("labels");
    labels.retain(|name, _| name.starts_with("org.opencontainers.image."));
    let github = env!("CARGO_PKG_REPOSITORY");
    let expected = json!({
        "org.opencontainers.image.title": env!("CARGO_PKG_NAME"),
        "org.opencontainers.image.description": env!("CARGO_PKG_DESCRIPTION"),
        "org.opencontainers.image.url": github,
        "org.opencontainers.image.source": github,
        "org.opencontainers.image.documentation": format!("{github}#readme"),
        "org.opencontainers.image.vendor": "zhming0",
        "org.opencontainers.image.licenses": env!("CARGO_PKG_LICENSE"),
        "org.opencontainers.image.version": env!("CARGO_PKG_VERSION"),
        "org.opencontainers.image.revision": given("IMAGE_REVISION"),
        "org.opencontainers.image.created": given("IMAGE_CREATED"),
        "org.opencontainers.image.base.name": "scratch",
    });
    assert_eq!(json!(labels), expected);
    run["Labels"].take();
    // The image sets nothing else: no volumes, no ports, no command. The builder adds PATH.
    let expected = json!({
        "User": "65532:65532",
        "Entrypoint": ["/fly-tunnel-operator"],
        "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
        "Labels": null,
    });
    assert_eq!(*run, expected);
}

#[test]
fn its_layer_is_the_binary_and_small() {
    let layer = image().layer();
    // The binary is the only entry. There is no folder, and nothing that the user of the image may write.
    assert_eq!(layout::entries(&layer), ["-rwxr-xr-x 0/0 fly-tunnel-operator"]);
    let size = fs::metadata(&layer).expect("the layer").len() as f64 / 1e6;
    let most = lab::bounds::COMPRESSED_OPERATOR_MB;
    assert!(size <= most, "{size:.2} MB compressed, and {most} MB are promised");
}

#[test]
fn its_binary_is_static_and_for_its_processor() {
    let unpacked = Unpacked::new("elf");
    let elf = Elf::read(&unpacked.binary());
    let machine = match given("IMAGE_ARCHITECTURE").as_str() {
        "amd64" => elf::X86_64,
        "arm64" => elf::AARCH64,
        other => panic!("which machine is {other}?"),
    };
    assert_eq!(elf.machine, machine);
    assert!(!elf.has_segment(elf::INTERPRETER), "it asks for a dynamic linker");
    assert!(!elf.is_stack_executable());
}

/// The twin was built without a container, in another folder, with another Cargo home, at another time.
#[test]
fn its_binary_is_the_same_wherever_it_is_built() {
    let unpacked = Unpacked::new("twin");
    let twin = given("IMAGE_TWIN");
    let (ours, theirs) = (fs::read(unpacked.binary()).expect("ours"), fs::read(&twin).expect("the twin"));
    assert!(ours == theirs, "{} and {twin} differ", unpacked.binary().display());
}

#[test]
fn its_binary_tells_its_version() {
    let unpacked = Unpacked::new("version");
    let mut command = emulator().map_or_else(
        || Command::new(unpacked.binary()),
        |emulator| {
            let mut command = Command::new(emulator);
            command.arg(unpacked.binary());
            command
        },
    );
    let output = command.arg("--version").output().expect("it runs");
    let expected = concat!(env!("CARGO_PKG_NAME"), " ", env!("CARGO_PKG_VERSION"), "\n");
    assert_eq!(String::from_utf8_lossy(&output.stdout), expected, "{output:?}");
}

#[test]
fn its_binary_gives_a_service_its_address() {
    let unpacked = Unpacked::new("lab");
    let lab = Homelab::new();
    let _operator = unpacked.operator(&lab).start();
    let web = lab.service("web").port(8080).create();
    let address = web.address(DEADLINE);
    let mut user = TcpStream::connect((address, 8080)).expect("the tunnel is open");
    user.write_all(b"GET / HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n").expect("it takes a request");
    let mut answer = String::new();
    user.read_to_string(&mut answer).expect("it answers");
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("web-"), "{answer:?}");
}
