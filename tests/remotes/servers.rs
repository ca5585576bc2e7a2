//! Storage services on this machine, each with a store of its own, and rclone to reach them with.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use exuvia::clock::SystemClock;
use exuvia::rclone::{Secret, Settings, Target};
use exuvia::remote::Rclone;
use exuvia::report::Silent;
use rustix::process::{Pid, Signal, geteuid, kill_process};

/// Credentials of the services.
pub(crate) const KEY: &str = "accesskey";
pub(crate) const SECRET: &str = "secretsecret";
/// S3 wants at least three letters.
pub(crate) const BUCKET: &str = "bucket";
/// What the services hold lies below this.
const PREFIX: &str = "some/prefix";
/// In the environment of every rclone that works for a test, with a file in the place of that test as value.
const MARK: &str = "RCLONE_CONFIG";

/// Which rclone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    /// Of the distribution.
    Old,
    /// The newest.
    New,
}

pub(crate) const BOTH: [Version; 2] = [Version::Old, Version::New];

impl Version {
    pub(crate) fn program(self) -> PathBuf {
        match self {
            Self::Old => tool("EXUVIA_TEST_RCLONE_OLD", "/usr/bin/rclone"),
            Self::New => tool("EXUVIA_TEST_RCLONE_NEW", "bin/rclone"),
        }
    }
}

/// A program that the tests need: where the variable says, or else where `.ci/test` puts it.
fn tool(variable: &str, default: &str) -> PathBuf {
    let path = std::env::var_os(variable).map_or_else(|| tools().join(default), PathBuf::from);
    assert!(
        path.is_file(),
        "{} is missing; .ci/test installs it, or set {variable} to where it is",
        path.display()
    );
    path
}

fn tools() -> PathBuf {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache");
    cache.unwrap_or_else(home).join("exuvia-test-tools")
}

/// What kind of service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A directory, with no server.
    Directory,
    /// S3 as moto does it, in memory.
    Moto,
    /// S3 as rclone serves it.
    S3,
    /// `WebDAV` as rclone serves it.
    WebDav,
    /// OpenSSH.
    Sftp,
}

/// A service and its store. Ends with the value.
pub(crate) struct Service {
    pub(crate) kind: Kind,
    dir: tempfile::TempDir,
    port: u16,
    child: Option<Child>,
}

impl Drop for Service {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Service {
    /// Starts a service that holds nothing but an empty bucket.
    pub(crate) fn start(kind: Kind) -> Self {
        let mut service = Self::without_bucket(kind);
        match kind {
            Kind::Moto => service.make_bucket(),
            _ => fs::create_dir_all(service.dir.path().join("store").join(BUCKET)).unwrap(),
        }
        // So that a directory that was there from the start does not hide one that is not made.
        assert!(service.child.as_mut().is_none_or(|child| child.try_wait().unwrap().is_none()));
        service
    }

    /// Starts a service that holds nothing.
    pub(crate) fn without_bucket(kind: Kind) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("store")).unwrap();
        let mut service = Self { kind, dir, port: 0, child: None };
        if kind == Kind::Sftp {
            service.make_keys();
        }
        if kind != Kind::Directory {
            // Between the look for a free port and its use, somebody else may take it.
            let started = (0..5).any(|_| {
                service.port = free_port();
                service.try_start()
            });
            assert!(started, "{kind:?} does not start:\n{}", service.log());
        }
        service
    }

    /// Ends the server at once.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Starts the server that was killed, at the same port.
    pub(crate) fn restart(&mut self) {
        assert!(self.child.is_none() && self.kind != Kind::Moto, "its store went with it");
        assert!((0..5).any(|_| self.try_start()), "{:?} does not start again:\n{}", self.kind, self.log());
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// True when it takes connections.
    fn try_start(&mut self) -> bool {
        let address = format!("127.0.0.1:{}", self.port);
        let store = self.dir.path().join("store");
        let mut command = match self.kind {
            Kind::Directory => unreachable!("there is no server"),
            Kind::Moto => {
                let mut command = Command::new(tool("EXUVIA_TEST_MOTO", "bin/moto_server"));
                command.args(["-H", "127.0.0.1", "-p", &self.port.to_string()]);
                command
            }
            Kind::S3 => {
                let mut command = Command::new(Version::New.program());
                command.args(["serve", "s3", "--auth-key", &format!("{KEY},{SECRET}"), "--addr", &address]);
                command.arg(&store);
                command
            }
            Kind::WebDav => {
                let mut command = Command::new(Version::New.program());
                command.args(["serve", "webdav", "--user", KEY, "--pass", SECRET, "--addr", &address]);
                command.arg(&store);
                command
            }
            Kind::Sftp => {
                let sshd = tool("EXUVIA_TEST_SSHD", "/usr/sbin/sshd");
                fs::write(self.dir.path().join("sshd_config"), self.sshd_config()).unwrap();
                let mut command = Command::new(sshd);
                command.args(["-D", "-e", "-f"]).arg(self.dir.path().join("sshd_config"));
                command
            }
        };
        let log = File::create(self.dir.path().join("log")).unwrap();
        command.env(MARK, self.config()).stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let mut child = command.spawn().unwrap();
        let begun = Instant::now();
        loop {
            if child.try_wait().unwrap().is_some() {
                return false;
            }
            if TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_ok() {
                self.child = Some(child);
                return true;
            }
            assert!(
                begun.elapsed() < Duration::from_secs(60),
                "{:?} is not ready: {}",
                self.kind,
                self.log()
            );
            sleep(Duration::from_millis(10));
        }
    }

    /// Makes the bucket, with versions as many have it. Without, moto tells of a version `null` that it then
    /// does not find, at which rclone 1.60 gives up.
    fn make_bucket(&self) {
        self.ask(&format!("/{BUCKET}"), "");
        self.ask(
            &format!("/{BUCKET}?versioning"),
            "<VersioningConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
             <Status>Enabled</Status></VersioningConfiguration>",
        );
    }

    /// Puts something to moto, which wants no signature.
    fn ask(&self, path: &str, body: &str) {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).unwrap();
        let len = body.len();
        write!(stream, "PUT {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len}\r\nConnection: close\r\n\r\n{body}")
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }

    fn make_keys(&self) {
        for name in ["host", "user"] {
            let mut keygen = Command::new(tool("EXUVIA_TEST_SSH_KEYGEN", "/usr/bin/ssh-keygen"));
            keygen.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(self.dir.path().join(name));
            assert!(keygen.status().unwrap().success());
        }
        let root = geteuid().is_root();
        if root && !Path::new("/run/sshd").exists() {
            // Its own empty directory, which root's sshd insists on, and which the init system that would
            // make it is not there for in a container.
            fs::create_dir_all("/run/sshd").unwrap();
            fs::set_permissions("/run/sshd", fs::Permissions::from_mode(0o755)).unwrap();
        }
    }

    fn sshd_config(&self) -> String {
        let dir = self.dir.path().display();
        format!(
            "Port {}\nListenAddress 127.0.0.1\nHostKey {dir}/host\nAuthorizedKeysFile {dir}/user.pub\n\
             PidFile none\nStrictModes no\nUsePAM no\nPasswordAuthentication no\n\
             KbdInteractiveAuthentication no\nPermitRootLogin yes\nMaxStartups 100\n\
             Subsystem sftp internal-sftp\n",
            self.port
        )
    }

    /// The port of the server itself.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The folder in which the objects are files, where there is one.
    pub(crate) fn folder(&self) -> PathBuf {
        assert!(self.kind != Kind::Moto, "it has no files");
        self.dir.path().join("store").join(BUCKET).join(PREFIX)
    }

    /// `REMOTE:PATH` for rclone.
    pub(crate) fn spec(&self) -> String {
        match self.kind {
            Kind::Moto | Kind::S3 | Kind::WebDav => format!("t:{BUCKET}/{PREFIX}"),
            Kind::Directory | Kind::Sftp => format!("t:{}", self.folder().display()),
        }
    }

    /// Tells the processes that work for this service's test from all others.
    pub(crate) fn mark(&self) -> String {
        format!("{MARK}={}", self.config())
    }

    /// A configuration of rclone's that does not exist, instead of the one of whoever runs the tests.
    fn config(&self) -> String {
        self.dir.path().join("none.conf").display().to_string()
    }

    /// rclone's environment, for a server at `port`: its own or that of a proxy before it.
    pub(crate) fn env(&self, version: Version, port: u16) -> Vec<(String, String)> {
        let mut env = vec![(MARK.to_owned(), self.config())];
        let mut set = |name: &str, value: &str| env.push((format!("RCLONE_{name}"), value.to_owned()));
        let url = format!("http://127.0.0.1:{port}");
        let kind = match self.kind {
            Kind::Directory => "local",
            Kind::Moto | Kind::S3 => {
                set("CONFIG_T_PROVIDER", "Other");
                set("CONFIG_T_ENDPOINT", &url);
                set("CONFIG_T_REGION", "us-east-1");
                set("CONFIG_T_ACCESS_KEY_ID", KEY);
                set("CONFIG_T_SECRET_ACCESS_KEY", SECRET);
                // The least that S3 takes, so that 12 MiB are three parts.
                set("S3_UPLOAD_CUTOFF", "5Mi");
                set("S3_CHUNK_SIZE", "5Mi");
                "s3"
            }
            Kind::WebDav => {
                set("CONFIG_T_URL", &url);
                set("CONFIG_T_VENDOR", "other");
                set("CONFIG_T_USER", KEY);
                set("CONFIG_T_PASS", &obscured(version, SECRET));
                "webdav"
            }
            Kind::Sftp => {
                set("CONFIG_T_HOST", "127.0.0.1");
                set("CONFIG_T_PORT", &port.to_string());
                set("CONFIG_T_USER", &user());
                set("CONFIG_T_KEY_FILE", self.dir.path().join("user").to_str().unwrap());
                set("CONFIG_T_SHELL_TYPE", "none");
                "sftp"
            }
        };
        set("CONFIG_T_TYPE", kind);
        env
    }

    /// The store through rclone.
    pub(crate) fn remote(&self, version: Version) -> Rclone {
        self.remote_at(version, self.port, quick())
    }

    /// The store through rclone, at another port and with other settings.
    pub(crate) fn remote_at(&self, version: Version, port: u16, settings: Settings) -> Rclone {
        let env = self.env(version, port).into_iter().map(|(name, value)| (name, Secret::new(value)));
        let target = Target {
            spec: Secret::new(self.spec()),
            env: env.collect(),
            display: format!("{:?} through {version:?} rclone", self.kind),
            settings: Settings { program: version.program(), ..settings },
        };
        Rclone::new(target, Arc::new(Silent), Arc::new(SystemClock::new()))
    }
}

/// Settings under which a test that goes wrong ends before anybody loses patience.
pub(crate) fn quick() -> Settings {
    Settings {
        idle_timeout: Duration::from_secs(30),
        deadline: Duration::from_secs(60),
        ..Settings::default()
    }
}

fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

fn user() -> String {
    let output = Command::new("id").arg("-un").output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// A password as rclone's configuration wants it.
fn obscured(version: Version, password: &str) -> String {
    let output = Command::new(version.program()).args(["obscure", password]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// The rclone processes that carry the mark and serve us, with what identifies them for good.
pub(crate) fn transports(mark: &str) -> Vec<Pid> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let read = |file: &str| fs::read(entry.path().join(file)).unwrap_or_default();
        let variables = read("environ");
        let ours = variables.split(|&b| b == 0).any(|variable| variable == mark.as_bytes());
        if ours && read("cmdline").split(|&b| b == 0).any(|word| word == b"restic") {
            found.extend(Pid::from_raw(pid));
        }
    }
    found
}

/// Kills the rclone processes that carry the mark; there must be some.
#[track_caller]
pub(crate) fn kill_transports(mark: &str) {
    let found = transports(mark);
    assert!(!found.is_empty(), "no rclone is at work");
    for pid in found {
        // It may be gone already.
        let _ = kill_process(pid, Signal::KILL);
    }
}

/// Names of many small objects and their sizes.
pub(crate) fn many(folder: &str, count: u64) -> std::collections::BTreeMap<String, u64> {
    (0..count)
        .map(|i| {
            let mut name = format!("{folder}/");
            write!(name, "{i:05}").unwrap();
            (name, i % 7)
        })
        .collect()
}
